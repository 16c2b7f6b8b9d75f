"""What scorers of answers share: where the answer stands, where its reference, when there is none, what is told of both."""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import metadata
from typing import Any, Final, Generic, NamedTuple, TypeVar

from pydantic import Field

from reward_server.domain import Blame, Needs, Sample, Verdict, abstained, scored
from reward_server.options import Options
from reward_server.scorers.answers.extraction import Extraction, Found, How
from reward_server.scorers.answers.telling import quoted, told
from reward_server.scorers.base import Rule, RuleContext
from reward_server.scorers.texts import NOT_A_TEXT

REFERENCES_REMEMBERED: Final = 4096  # all completions of a prompt have the same

Known = TypeVar("Known")


class AnswerOptions(Options):
    """Where the answer stands, and where what it is compared with."""

    answer: Extraction = Field(
        Extraction(),
        description="where in the completion the answer stands: auto, whole, boxed, last_line, last_number, tag:NAME, "
        "after:MARK or regex:EXPRESSION",
    )
    reference: Extraction = Field(
        Extraction(), description="where in the reference it stands, likewise; auto reads GSM8K's and MATH's solutions"
    )
    reference_column: str = Field("answer", min_length=1, description="column with the right answer, or a list of them")


class Reference(NamedTuple, Generic[Known]):
    """A reference that could be read."""

    known: Known
    shown: str  # as verdicts tell it


class AnswerRule(Rule, Generic[Known]):
    """Finds the answer in a completion and compares it with the references. `Known` is what a reference is read as."""

    score_range = (0.0, 1.0)

    def __init__(self, options: AnswerOptions, _context: RuleContext) -> None:
        self._answer, self._place, self._column = options.answer, options.reference, options.reference_column
        self.needs = Needs(required_columns=frozenset({self._column}))
        expressions = any(place.value.startswith("regex:") for place in (self._answer, self._place))
        self._identity = {"google-re2": metadata.version("google-re2")} if expressions else {}
        self._known = lru_cache(REFERENCES_REMEMBERED)(self._read_text)
        self._no_reference = abstained(
            f"the column {self._column!r} has no reference that could be read", blame=Blame.REFERENCE
        )

    def identity(self) -> Mapping[str, Any]:
        """Returns the version of the library that finds regular expressions, if there is one to be found."""
        return self._identity

    @abc.abstractmethod
    def read(self, reference: str) -> Known | None:
        """Returns what an answer is compared with, None for a reference that cannot be read."""

    @abc.abstractmethod
    def compare(self, found: Found, references: Sequence[Known]) -> tuple[float, str | None]:
        """Returns the score of what the completion answers, and what was read as the answer, None if nothing was.

        There is at least one reference.
        """

    def shown(self, reference: str, known: Known) -> str:  # noqa: ARG002  # for those who show what they made of it
        """Returns what verdicts tell of a reference; it will be cut."""
        return reference

    def read_value(self, value: Any) -> Reference[Known] | None:
        """Returns what a column's value is compared as, None for one that cannot be read."""
        if isinstance(value, str):
            return self._known(value)
        written = None if isinstance(value, bool) else _written(value)
        return None if written is None else self._known(written)

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns how the completion's answer compares; one that is not there scores 0."""
        values = _values(sample.columns.get(self._column))
        references = [reference for reference in map(self.read_value, values) if reference is not None]
        if not references:
            return self._no_reference
        text = sample.completion
        if not isinstance(text, str):
            return NOT_A_TEXT
        shown = [reference.shown for reference in references]
        found = self._answer.find(text)
        if found is None:
            return scored(0.0, told(None, None, shown))
        score, read = self.compare(found, [reference.known for reference in references])
        return scored(score, told(read, None if found.how is How.WITHIN else found.text, shown))

    def _read_text(self, text: str) -> Reference[Known] | None:
        found = self._place.find_in_reference(text)
        known = None if found is None else self.read(found.text)
        return None if found is None or known is None else Reference(known, quoted(self.shown(found.text, known)))


def _values(value: Any) -> Sequence[Any]:
    """Returns the references that a column's value holds: itself, the items of a list, or SQuAD's `{"text": [...]}`."""
    if isinstance(value, Mapping):
        value = value.get("text")
    return value if isinstance(value, list | tuple) else [value]


def _written(value: Any) -> str | None:
    """Returns a finite number as it is written, None for one with too many digits and for what is no number."""
    if not isinstance(value, int | float) or value - value != 0:
        return None
    try:
        return repr(value)
    except ValueError:
        return None
