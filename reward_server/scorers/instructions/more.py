"""Instructions beyond IFEval's, under the ids that datasets for training have (open-instruct's, NeMo Gym's).

Only those that say what they mean and that no trivial text follows.
"""

from __future__ import annotations

from itertools import pairwise
from typing import ClassVar, Final

from reward_server.scorers.instructions.base import Count, Instruction, Phrase, Relation, compare
from reward_server.scorers.instructions.keywords import Frequency, LetterFrequency
from reward_server.scorers.instructions.lengths import has_parts
from reward_server.scorers.instructions.words import folded, is_word_char, words_of

_TWO: Final = 2


class WordOnce(Instruction):
    """Has the keyword exactly once, in any case, within longer words too."""

    id: ClassVar[str] = "keywords:word_once"
    keyword: Phrase

    def follows(self, text: str) -> bool:
        """Returns whether the keyword is there once."""
        return folded(text).count(folded(self.keyword.strip())) == 1


class WordCountDifferentNumbers(Frequency):
    """Is what `keywords:frequency` asks for."""

    id: ClassVar[str] = "keywords:word_count_different_numbers"


class NoAdjacentConsecutive(Instruction):
    """Has no word that begins with the letter that follows, in the alphabet, the first one of the word before it."""

    id: ClassVar[str] = "keywords:no_adjacent_consecutive"

    def follows(self, text: str) -> bool:
        """Returns whether no two neighbours begin with neighbouring letters."""
        firsts = [word[0].lower() for word in text.split()]
        return all(len(one) == len(other) == 1 and ord(other) - ord(one) != 1 for one, other in pairwise(firsts))


class TwoParagraphs(Instruction):
    """Has exactly two paragraphs with `***` between them."""

    id: ClassVar[str] = "paragraphs:paragraphs"

    def follows(self, text: str) -> bool:
        """Returns whether there are two."""
        return has_parts(text, "***", _TWO)


class TwoSpacedParagraphs(Instruction):
    """Has exactly two paragraphs with an empty line between them."""

    id: ClassVar[str] = "paragraphs:paragraphs2"

    def follows(self, text: str) -> bool:
        """Returns whether there are two."""
        return has_parts(text, "\n\n", _TWO)


class FirstWord(Instruction):
    """Begins with the word, in any case; signs belong to it."""

    id: ClassVar[str] = "first_word:first_word_answer"
    first_word: Phrase

    def follows(self, text: str) -> bool:
        """Returns whether the word comes first."""
        return "".join(text.split(maxsplit=1)[:1]).lower() == self.first_word.strip().lower()


class LastWord(Instruction):
    """Ends with the word, in any case; signs do not belong to it."""

    id: ClassVar[str] = "last_word:last_word_answer"
    last_word: Phrase

    def follows(self, text: str) -> bool:
        """Returns whether the word comes last."""
        last = "".join(filter(is_word_char, "".join(text.rsplit(maxsplit=1)[-1:]))).lower()
        return last == self.last_word.strip().lower()


class NoFullStop(Instruction):
    """Has no full stop, not even in a number."""

    id: ClassVar[str] = "punctuation:punctuation_dot"

    def follows(self, text: str) -> bool:
        """Returns whether it has none."""
        return "." not in text


class NoExclamation(Instruction):
    """Has no exclamation mark."""

    id: ClassVar[str] = "punctuation:punctuation_exclamation"

    def follows(self, text: str) -> bool:
        """Returns whether it has none."""
        return "!" not in text


class LowercaseCounting(Instruction):
    """Has at most `N` words of nothing but the small letters a to z."""

    id: ClassVar[str] = "count:lowercase_counting"
    N: Count

    def follows(self, text: str) -> bool:
        """Returns whether it has few enough."""
        words = (word for word in words_of(text) if word.isascii() and word.isalpha() and word.islower())
        return sum(1 for _ in words) <= self.N


class LetterCounting(Instruction):
    """Has so many letters, A to Z and a to z."""

    id: ClassVar[str] = "letters:letter_counting"
    relation: Relation
    N: Count

    def follows(self, text: str) -> bool:
        """Returns whether it has enough, or few enough, letters."""
        letters = sum(map(str.isalpha, text.encode("ascii", "ignore").decode()))
        return compare(letters, self.relation, self.N)


class LetterCounting2(LetterFrequency):
    """Is what `keywords:letter_frequency` asks for."""

    id: ClassVar[str] = "letters:letter_counting2"


class SquareBrackets(Instruction):
    """Has every word in square brackets: `[so] [it] [is]`."""

    id: ClassVar[str] = "detectable_format:square_brackets"

    def follows(self, text: str) -> bool:
        """Returns whether every word is."""
        return all(word.startswith("[") and word.endswith("]") for word in text.split())
