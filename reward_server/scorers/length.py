"""How long a completion is, in characters, words or tokens.

Three ways to turn a length n into a score:

    brevity: {length: {unit: words, target: 10, width: 30}}      # 1 - |n - 10| / 30, not below 0
    medium:  {length: {unit: words, range: {low: 50, high: 100, width: 25}}}   # 1 within it, 0 at 25 words and at 125
    steps:   {length: {unit: words, steps: [{below: 5, score: -1}, {below: 50, score: 1}], otherwise: 0.5}}

The first gives 1.0 for 10 words, 0.5 for 25, 0.0 for 40 and more. The last gives -1 for 4 words, 1 for 5 to 49, 0.5
for 50 and more.

Columns: none. Range: 0 to 1, or the smallest to the largest step. Cost class: trivial.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, model_validator

from reward_server.domain import Sample, Verdict, abstained, scored
from reward_server.options import Options
from reward_server.scorers.base import Rule, ScorerContext
from reward_server.scorers.texts import NOT_A_TEXT, word_count

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Extent = Annotated[float, Field(strict=True, gt=0, le=1e9)]

LENGTHS_REMEMBERED: Final = 4096

UNKNOWN_TOKENS: Final = abstained(
    "the trainer did not send how many tokens the completion has; only it knows, so use 'unit: words', or send it"
)


class Unit(Enum):
    """In what a length is counted."""

    CHARS = "chars"
    WORDS = "words"  # what stands between blanks
    TOKENS = "tokens"  # of the policy, as the trainer counted them: of the whole completion, whatever the view


class Step(Options):
    """The score of lengths below a bound, and not below the bound of the step before."""

    below: Extent = Field(description="lengths under this get the score")
    score: Number = Field(description="their score")


class LengthRange(Options):
    """Lengths that are all as good, and how fast the score falls outside of them."""

    low: Number = Field(0.0, ge=0, le=1e9, description="the least length that scores 1")
    high: Extent = Field(description="the greatest length that scores 1")
    width: Extent = Field(description="how far outside the score reaches 0")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low must not be over high; here they are {self.low:g} and {self.high:g}")
        return self


class LengthOptions(Options):
    """Either `target` and `width`, or `range`, or `steps` and `otherwise`."""

    unit: Unit = Field(Unit.WORDS, description="what is counted: chars, words or tokens")
    target: Number | None = Field(None, ge=0, le=1e9, description="the length that scores 1")
    width: Extent | None = Field(None, description="how far from the target the score reaches 0")
    range: LengthRange | None = Field(None, description="lengths that score 1, and the fall on both sides")
    steps: tuple[Step, ...] | None = Field(None, min_length=1, description="scores of short lengths, bounds ascending")
    otherwise: Number | None = Field(None, description="score of lengths that no step covers")

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        ways = ("target", "width", "range", "steps", "otherwise")
        given = [name for name in ways if getattr(self, name) is not None]
        if given not in (["target", "width"], ["range"], ["steps", "otherwise"]):
            words = ", ".join(given) or "neither"
            raise ValueError(f"give either target and width, or range, or steps and otherwise; here is {words}")
        bounds = [step.below for step in self.steps or ()]
        if bounds != sorted(set(bounds)):
            raise ValueError(f"the steps' bounds must ascend; here they are {', '.join(f'{b:g}' for b in bounds)}")
        return self


class Length(Rule):
    """Scores the length of a text."""

    kind: ClassVar[str] = "length"
    Options = LengthOptions

    def __init__(self, options: LengthOptions, _context: ScorerContext) -> None:
        self._unit = options.unit
        if options.range is not None:
            score = _plateau(options.range.low, options.range.high, options.range.width)
            self.score_range = (0.0, 1.0)
            last = options.range.high + options.range.width
        elif options.target is not None and options.width is not None:
            score = _plateau(options.target, options.target, options.width)
            self.score_range = (0.0, 1.0)
            last = options.target + options.width
        else:
            steps, otherwise = options.steps or (), options.otherwise or 0.0
            score = _stair([(step.below, step.score) for step in steps], otherwise)
            scores = [otherwise, *(step.score for step in steps)]
            self.score_range = (min(scores), max(scores))
            last = steps[-1].below
        self._enough = math.ceil(last)  # all lengths from here on have the same score
        # Verdicts never change, and making one takes as long as counting the words.
        self._verdict = lru_cache(LENGTHS_REMEMBERED)(lambda length: scored(score(length)))

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the score of the completion's length."""
        length = length_of(sample, self._unit, self._enough)
        return length if isinstance(length, Verdict) else self._verdict(length)


def length_of(sample: Sample, unit: Unit, enough: int) -> int | Verdict:
    """Returns a completion's length, or why it has none.

    Args:
        sample: with a text, unless tokens are counted.
        unit: what is counted.
        enough: longer texts need not be counted to their end.
    """
    if unit is Unit.TOKENS:
        return UNKNOWN_TOKENS if sample.token_count is None else sample.token_count
    text = sample.completion
    if not isinstance(text, str):
        return NOT_A_TEXT
    return len(text) if unit is Unit.CHARS else word_count(text, enough)


def _plateau(low: float, high: float, width: float) -> Callable[[int], float]:
    return lambda length: max(0.0, 1.0 - max(low - length, length - high, 0.0) / width)


def _stair(steps: list[tuple[float, float]], otherwise: float) -> Callable[[int], float]:
    return lambda length: next((score for below, score in steps if length < below), otherwise)
