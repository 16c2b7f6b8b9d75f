"""Instructions about words and letters that a text has or lacks.

Keywords are texts, found as parts of words too and whatever their case. IFEval reads them as regular expressions; its own
data has none that differ as texts, and a word such as `C++` is no expression at all.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import AfterValidator

from reward_server.scorers.instructions.base import Count, Instruction, Phrase, Phrases, Relation, compare
from reward_server.scorers.instructions.words import folded, has_word


def _one_letter(value: str) -> str:
    if len(value.strip()) != 1:
        raise ValueError(f"{value[:20]!r} is not one letter")
    return value.strip()


class Existence(Instruction):
    """Has every keyword, in any case, be it within a longer word."""

    id: ClassVar[str] = "keywords:existence"
    keywords: Phrases

    def follows(self, text: str) -> bool:
        """Returns whether all keywords are there."""
        text = folded(text)
        return all(folded(keyword) in text for keyword in self.keywords)


class Frequency(Instruction):
    """Has the keyword so often, in any case, within longer words too; occurrences do not overlap."""

    id: ClassVar[str] = "keywords:frequency"
    relation: Relation
    keyword: Phrase
    frequency: Count

    def follows(self, text: str) -> bool:
        """Returns whether the keyword is there often, or seldom, enough."""
        return compare(folded(text).count(folded(self.keyword.strip())), self.relation, self.frequency)


class ForbiddenWords(Instruction):
    """Has none of the words as a whole word, in any case."""

    id: ClassVar[str] = "keywords:forbidden_words"
    forbidden_words: Phrases

    def follows(self, text: str) -> bool:
        """Returns whether none of the words is there."""
        text = folded(text)
        return not any(has_word(text, folded(word)) for word in self.forbidden_words)


class LetterFrequency(Instruction):
    """Has the letter, or other sign, so often, small or capital."""

    id: ClassVar[str] = "keywords:letter_frequency"
    let_relation: Relation
    letter: Annotated[str, AfterValidator(_one_letter)]
    let_frequency: Count

    def follows(self, text: str) -> bool:
        """Returns whether the letter is there often, or seldom, enough."""
        return compare(text.lower().count(self.letter.lower()), self.let_relation, self.let_frequency)
