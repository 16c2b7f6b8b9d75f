r"""Whether the answer is the reference, or one of several, word for word; by default as SQuAD's evaluation compares.

    capital: {exact_match: {}}
    code:    {exact_match: {answer: "tag:answer", normalize: [whitespace], reference_column: target}}

Columns: `reference_column` ("answer"): a text or a list of texts. Range: 0 or 1. Cost class: trivial.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from reward_server.scorers.answers.base import AnswerOptions, AnswerRule
from reward_server.scorers.answers.extraction import Found
from reward_server.scorers.answers.normalizing import SQUAD, Step, normalizer
from reward_server.scorers.base import RuleContext


class ExactMatchOptions(AnswerOptions):
    """Where the answer stands, and what about it does not matter."""

    normalize: tuple[Step, ...] = Field(
        SQUAD,
        description="what is made equal in both first: nfkc, lower, punctuation, articles, whitespace; []: nothing",
    )


class ExactMatch(AnswerRule[str]):
    """Scores 1 for an answer that equals a reference, else 0."""

    kind: ClassVar[str] = "exact_match"
    Options = ExactMatchOptions

    def __init__(self, options: ExactMatchOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._normalize = normalizer(options.normalize)

    def read(self, reference: str) -> str | None:
        """Returns the reference as it is compared, None where nothing is left of it: all empty answers would equal it."""
        return self._normalize(reference) or None

    def compare(self, found: Found, references: Sequence[str]) -> tuple[float, str | None]:
        """Returns 1 for an answer that equals a reference, and the answer."""
        return float(self._normalize(found.text) in references), found.text or None
