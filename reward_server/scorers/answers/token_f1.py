r"""How many words answer and reference share: SQuAD's F1, the best over several references.

    reading: {token_f1: {reference_column: answers}}

F1 is the harmonic mean of precision (the share of the answer's words that the reference has) and recall (the share of the
reference's words that the answer has), words counted as often as both have them, after SQuAD's normalization.

Columns: `reference_column` ("answer"): a text or a list of texts. Range: 0 to 1. Cost class: trivial.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import ClassVar

from pydantic import Field

from reward_server.scorers.answers.base import AnswerOptions, AnswerRule
from reward_server.scorers.answers.extraction import Found
from reward_server.scorers.answers.normalizing import SQUAD, Step, normalizer
from reward_server.scorers.base import RuleContext


class TokenF1Options(AnswerOptions):
    """Where the answer stands, and what about its words does not matter."""

    normalize: tuple[Step, ...] = Field(
        SQUAD,
        description="what is made equal in both first: nfkc, lower, punctuation, articles, whitespace; []: nothing",
    )


class TokenF1(AnswerRule["Counter[str]"]):
    """Scores the words that an answer shares with the reference."""

    kind: ClassVar[str] = "token_f1"
    Options = TokenF1Options

    def __init__(self, options: TokenF1Options, context: RuleContext) -> None:
        super().__init__(options, context)
        self._normalize = normalizer(options.normalize)

    def read(self, reference: str) -> Counter[str] | None:
        """Returns how often each word is in the reference, None where there is none."""
        return Counter(self._normalize(reference).split()) or None

    def compare(self, found: Found, references: Sequence[Counter[str]]) -> tuple[float, str | None]:
        """Returns the best F1 over the references, and the answer."""
        words = Counter(self._normalize(found.text).split())
        return max(f1(words, reference) for reference in references), found.text or None


def f1(words: Counter[str], reference: Counter[str]) -> float:
    """Returns the harmonic mean of precision and recall; 0 where they share nothing."""
    shared = sum(min(count, words[word]) for word, count in reference.items())
    return 2 * shared / (words.total() + reference.total())
