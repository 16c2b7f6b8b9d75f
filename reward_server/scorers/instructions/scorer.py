"""Whether a text follows instructions that can be verified, in the manner of IFEval (Zhou et al. 2023, arXiv 2311.07911).

    followed: {instructions: {}}   # the instructions are those of the columns instruction_id_list and kwargs
    plain:
      instructions:
        instructions:
          - {id: "punctuation:no_comma"}
          - {id: "length_constraints:number_words", relation: at least, num_words: 50}
        aggregate: fraction

1 if the text follows all of them, else 0; with `aggregate: fraction` the share that it follows. `mode: loose` also passes
what follows an instruction without its first line, its last line, both, and each of these without asterisks. A verdict's
parts say which are followed, by their ids. A blank text follows none.

An instruction that is unknown or lacks arguments makes the sample abstained: IFEval would roll dice for the arguments.

Columns: those of the instructions, unless the options fix them. Range: 0 to 1. Cost class: compute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Annotated, Any, ClassVar

from pydantic import Field, field_validator

from reward_server.domain import Blame, Needs, Sample, Verdict, abstained, scored
from reward_server.scorers.base import RuleContext
from reward_server.scorers.instructions.base import Instruction
from reward_server.scorers.instructions.cases import TELL_LANGUAGES
from reward_server.scorers.instructions.given import instructions_of
from reward_server.scorers.instructions.kinds import instruction
from reward_server.scorers.instructions.tongue import known_languages
from reward_server.scorers.pooled import PooledOptions, PooledRule
from reward_server.scorers.texts import NOT_A_TEXT

Column = Annotated[str, Field(min_length=1)]


class Aggregate(Enum):
    """What becomes of several instructions."""

    ALL = "all"  # IFEval's accuracy of prompts
    FRACTION = "fraction"  # its accuracy of instructions


class Mode(Enum):
    """How closely an instruction is to be followed."""

    STRICT = "strict"
    LOOSE = "loose"


class InstructionsOptions(PooledOptions):
    """Where the instructions are, and what is made of those that are followed."""

    instructions: tuple[Mapping[str, Any], ...] = Field(
        (), description="instructions for every sample, each its id and arguments; absent: those of the columns"
    )
    ids_column: Column = Field("instruction_id_list", description="column with a list of ids")
    kwargs_column: Column = Field("kwargs", description="column with a list of their arguments, in the same order")
    aggregate: Aggregate = Field(Aggregate.ALL, description="all: 1 if all are followed; fraction: the share that is")
    mode: Mode = Field(
        Mode.STRICT, description="strict, or loose: the first line, the last line and asterisks may be left out"
    )

    @field_validator("instructions")
    @classmethod
    def _can_be_checked(cls, value: tuple[Mapping[str, Any], ...]) -> tuple[Mapping[str, Any], ...]:
        for entry in value:
            _fixed(entry)
        return value


class Instructions(PooledRule):
    """Scores how many of its instructions a text follows."""

    kind: ClassVar[str] = "instructions"
    Options = InstructionsOptions
    libraries: ClassVar[Sequence[str]] = ("py3langid", "numpy")
    score_range = (0.0, 1.0)

    def __init__(self, options: InstructionsOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._options = options
        self._fixed = [_fixed(entry) for entry in options.instructions]
        if not self._fixed:
            self.needs = Needs(frozenset({options.ids_column}), frozenset({options.kwargs_column}))
        if not self._fixed or any(isinstance(one, TELL_LANGUAGES) for one in self._fixed):
            known_languages()  # loads the model here, so that the first text does not pay for it

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns 1 or 0, or the share of the instructions that the completion follows."""
        try:
            given = self._fixed or self._given(sample.columns)
        except ValueError as error:
            return abstained(f"the sample's instructions cannot be checked: {error}", blame=Blame.REFERENCE)
        if not isinstance(sample.completion, str):
            return NOT_A_TEXT
        followed = followed_of(given, sample.completion, self._options.mode)
        score = all(followed) if self._options.aggregate is Aggregate.ALL else sum(followed) / len(followed)
        return scored(score, parts=dict(zip(_names(given), map(float, followed), strict=True)))

    def _given(self, columns: Mapping[str, Any]) -> list[Instruction]:
        if self._options.ids_column not in columns:
            raise ValueError(f"it has no column {self._options.ids_column}")
        return instructions_of(columns[self._options.ids_column], columns.get(self._options.kwargs_column))


def followed_of(instructions: Sequence[Instruction], text: str, mode: Mode) -> list[bool]:
    """Returns for each instruction whether the text follows it; in loose mode, whether one of its variants does."""
    variants = [text] if mode is Mode.STRICT else list(dict.fromkeys(loose_variants(text)))
    said = [variant for variant in variants if variant and not variant.isspace()]
    return [any(one.follows(variant) for variant in said) for one in instructions]


def loose_variants(text: str) -> Iterator[str]:
    """Yields the text, it without the first line, the last line, and both; then the four without asterisks."""
    lines = text.split("\n")
    shorter = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    yield from shorter
    yield from (variant.replace("*", "") for variant in shorter)


def _fixed(entry: Mapping[str, Any]) -> Instruction:
    if "id" not in entry:
        raise ValueError(f"an instruction needs an id, as in {{id: punctuation:no_comma}}; here is {dict(entry)!r}")
    return instruction(entry["id"], {key: value for key, value in entry.items() if key != "id"})


def _names(instructions: Sequence[Instruction]) -> list[str]:
    """Returns the ids; of one that comes again, with its number: `keywords:frequency#2`."""
    counts: dict[str, int] = {}
    names = []
    for one in instructions:
        counts[one.id] = counts.get(one.id, 0) + 1
        names.append(one.id if counts[one.id] == 1 else f"{one.id}#{counts[one.id]}")
    return names
