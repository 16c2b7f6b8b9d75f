"""Instructions about how many sentences, paragraphs and words a text has."""

from __future__ import annotations

from typing import ClassVar, Final, Self

from pydantic import model_validator

from reward_server.scorers.instructions.base import Count, Instruction, Phrase, Place, Relation, compare
from reward_server.scorers.instructions.sentences import sentence_count
from reward_server.scorers.instructions.words import word_count

_WORD_ENDS: Final = ".,?!'\""


def has_parts(text: str, divider: str, count: int) -> bool:
    """Returns whether it has so many parts that are not blank, and no blank one between two dividers."""
    parts = [part.strip() for part in text.split(divider)]
    return all(parts[1:-1]) and sum(map(bool, parts)) == count


class NumberOfSentences(Instruction):
    """Has so many sentences; how they are told apart is said below."""

    id: ClassVar[str] = "length_constraints:number_sentences"
    relation: Relation
    num_sentences: Count

    def follows(self, text: str) -> bool:
        """Returns whether it has enough, or few enough, sentences."""
        return compare(sentence_count(text), self.relation, self.num_sentences)


class NumberOfParagraphs(Instruction):
    """Has exactly so many paragraphs with `***` between them; one before the first or after the last does no harm."""

    id: ClassVar[str] = "length_constraints:number_paragraphs"
    num_paragraphs: Count

    def follows(self, text: str) -> bool:
        """Returns whether the number is right and no paragraph within is blank."""
        return has_parts(text, "***", self.num_paragraphs)


class NumberOfWords(Instruction):
    r"""Has so many words, which are what `\w+` finds: don't is two."""

    id: ClassVar[str] = "length_constraints:number_words"
    relation: Relation
    num_words: Count

    def follows(self, text: str) -> bool:
        """Returns whether it has enough, or few enough, words."""
        return compare(word_count(text), self.relation, self.num_words)


class NthParagraphFirstWord(Instruction):
    """Has exactly so many paragraphs with an empty line between them, and the nth begins with the word, in any case."""

    id: ClassVar[str] = "length_constraints:nth_paragraph_first_word"
    num_paragraphs: Count
    nth_paragraph: Place
    first_word: Phrase

    @model_validator(mode="after")
    def _is_there(self) -> Self:
        if self.nth_paragraph > self.num_paragraphs:
            raise ValueError(f"of {self.num_paragraphs} paragraphs there is no paragraph {self.nth_paragraph}")
        return self

    def follows(self, text: str) -> bool:
        """Returns whether the number is right and so is the word."""
        paragraphs = [paragraph.strip() for paragraph in text.split("\n\n")]
        if sum(map(bool, paragraphs)) != self.num_paragraphs:
            return False
        paragraph = paragraphs[self.nth_paragraph - 1]  # blank ones are counted here, as IFEval counts them
        return bool(paragraph) and _first_word(paragraph) == self.first_word.lower()


def _first_word(paragraph: str) -> str:
    """Returns the first word in lower case, without quotes before it and without what begins with a sign in it."""
    word = paragraph.split(maxsplit=1)[0].lstrip("'").lstrip('"')
    for sign in _WORD_ENDS:
        word = word.partition(sign)[0]
    return word.lower()
