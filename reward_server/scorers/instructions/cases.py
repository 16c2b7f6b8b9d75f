"""Instructions about a text's language and about capitals."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import AfterValidator

from reward_server.scorers.instructions.base import Count, Instruction, Relation, compare
from reward_server.scorers.instructions.tongue import is_in_language, known_languages
from reward_server.scorers.instructions.words import capital_word_count

_ENGLISH: Final = "en"


def _known(value: str) -> str:
    code = value.strip().lower().partition("-")[0]  # langdetect writes zh-cn
    if code not in known_languages():
        raise ValueError(f"{value[:20]!r} is no ISO 639-1 code of a language that py3langid knows, such as en")
    return code


class ResponseLanguage(Instruction):
    """Is in the language, an ISO 639-1 code; how it is told is said below."""

    id: ClassVar[str] = "language:response_language"
    language: Annotated[str, AfterValidator(_known)]

    def follows(self, text: str) -> bool:
        """Returns whether it is in the language."""
        return is_in_language(text, self.language)


class CapitalWordFrequency(Instruction):
    """Has so many words in capitals, by NLTK's idea of words: COVID-19, I and NASA's count, DON'T is two."""

    id: ClassVar[str] = "change_case:capital_word_frequency"
    capital_relation: Relation
    capital_frequency: Count

    def follows(self, text: str) -> bool:
        """Returns whether it has enough, or few enough, words in capitals."""
        return compare(capital_word_count(text), self.capital_relation, self.capital_frequency)


class EnglishCapital(Instruction):
    """Is English and has no small letter."""

    id: ClassVar[str] = "change_case:english_capital"

    def follows(self, text: str) -> bool:
        """Returns whether it has capitals only, and is English."""
        return text.isupper() and is_in_language(text, _ENGLISH)


class EnglishLowercase(Instruction):
    """Is English and has no capital."""

    id: ClassVar[str] = "change_case:english_lowercase"

    def follows(self, text: str) -> bool:
        """Returns whether it has small letters only, and is English."""
        return text.islower() and is_in_language(text, _ENGLISH)


TELL_LANGUAGES: Final = (ResponseLanguage, EnglishCapital, EnglishLowercase)
"""The kinds that need the model of languages."""
