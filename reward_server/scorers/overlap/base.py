"""What rules share that measure how much of a text is also in reference texts."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

from pydantic import Field

from reward_server.domain import Blame, Needs, Sample, Verdict, abstained, scored
from reward_server.scorers.base import RuleContext
from reward_server.scorers.pooled import PooledOptions, PooledRule
from reward_server.scorers.texts import NOT_A_TEXT


class OverlapOptions(PooledOptions):
    """Base of their options: where the references are."""

    reference_column: str = Field(
        "answer", min_length=1, description="column with the reference text, or a list of them"
    )


class Overlap(PooledRule):
    """Scores a text from 0 to 1 by its overlap with the best of its references. Override `_overlap`."""

    score_range = (0.0, 1.0)

    def __init__(self, options: OverlapOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._reference_column = options.reference_column
        self.needs = Needs(required_columns=frozenset({options.reference_column}))

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the overlap, from 0 to 1."""
        references = self._comparable(reference_texts(sample.columns.get(self._reference_column)))
        if not references:
            return abstained(f"there is {self._lack} in column {self._reference_column!r}", blame=Blame.REFERENCE)
        if not isinstance(sample.completion, str):
            return NOT_A_TEXT
        return scored(min(1.0, max(0.0, self._overlap(sample.completion, references))))  # sums of logarithms overshoot

    _lack = "no reference text"

    def _comparable(self, references: Sequence[str]) -> Sequence[str]:
        """Returns those of the references that it can compare a text with."""
        return references

    @abc.abstractmethod
    def _overlap(self, text: str, references: Sequence[str]) -> float:
        """Returns the overlap of a text with its references, which are one at least."""


def reference_texts(value: Any) -> Sequence[str]:
    """Returns the texts of a reference column's value that are more than blanks; it is one text or a list of them."""
    values = value if isinstance(value, list | tuple) else [value]
    return [text for text in values if isinstance(text, str) and text.strip()]
