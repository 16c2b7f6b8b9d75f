"""How easy an English text is to read: Flesch's reading ease (J. Appl. Psychol. 32, 1948), mapped to 0 to 1.

    rewards:
      easy: {readability: {easy: 80, hard: 20}}

206.835 - 1.015 words/sentences - 84.6 syllables/words; syllables are counted as groups of vowels. A text at `easy` or
above scores 1, at `hard` or below 0, an empty one 0.

Columns: none. Range: 0 to 1. Cost class: compute, as it looks at every letter of texts of any length.
"""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from reward_server.domain import Sample, Verdict, scored
from reward_server.scorers.base import RuleContext
from reward_server.scorers.pooled import PooledOptions, PooledRule
from reward_server.scorers.texts import NOT_A_TEXT

VOWELS = frozenset("aeiouy")


class ReadabilityOptions(PooledOptions):
    """The two ends of the scale; the limits of one text (`timeout_s`, `memory_mb`) come from `PooledOptions`."""

    easy: float = Field(80.0, description="reading ease that scores 1; plain English has 60 to 70")
    hard: float = Field(20.0, description="reading ease that scores 0; learned journals have under 30")

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.hard >= self.easy:
            raise ValueError(f"easy ({self.easy:g}) must be above hard ({self.hard:g})")
        return self


class Readability(PooledRule):
    """Scores Flesch's reading ease. Runs in worker processes that can be killed, as every `PooledRule`."""

    kind = "readability"
    Options = ReadabilityOptions
    score_range = (0.0, 1.0)

    def __init__(self, options: ReadabilityOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._easy, self._hard = options.easy, options.hard

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the reading ease, mapped to 0 to 1."""
        text = sample.completion
        if not isinstance(text, str):
            return NOT_A_TEXT
        ease = reading_ease(text)
        if ease is None:
            return scored(0.0, "there is no word in it")
        share = (ease - self._hard) / (self._easy - self._hard)
        return scored(min(1.0, max(0.0, share)), f"reading ease {ease:.0f}")


def reading_ease(text: str) -> float | None:
    """Returns Flesch's reading ease, about 0 (hard) to 100 (easy); None where there is no word."""
    words = [word for word in text.lower().split() if any(letter.isalpha() for letter in word)]
    if not words:
        return None
    sentences = max(1, sum(word.endswith((".", "!", "?")) for word in words))
    syllables = sum(syllable_count(word) for word in words)
    return 206.835 - 1.015 * len(words) / sentences - 84.6 * syllables / len(words)


def syllable_count(word: str) -> int:
    """Returns the number of groups of vowels, at least 1."""
    starts = sum(letter in VOWELS and before not in VOWELS for before, letter in zip(" " + word, word, strict=False))
    return max(1, starts)
