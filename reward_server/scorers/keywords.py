r"""Words and phrases that must be in a text, and those that must not.

    polite:  {keywords: {required: [please, thank you], forbidden: [whatever]}}
    covered: {keywords: {required_column: must_mention, whole_words: false}}

The score is the share of the required ones that the text has, 1 where none is required; where it has a forbidden one, it is 0,
or less by `penalty` if that is given.

A blank in a phrase stands for up to 20 blanks and line breaks. Whole words begin and end where no letter, digit or underscore
goes on; scripts without blanks between words, such as Chinese, have no such places, and their words count anywhere. Of a
phrase, the first `MAX_PLACES` places are looked at: where it is in none of them but in more, a required one is not there and a
forbidden one is. 20 phrases are looked for in a million characters, 400 in 50,000. Characters that nobody sees are left out.

Columns: those named: a text or a list of texts. Range: 0 to 1, with a penalty from its negative to 1. Cost class: trivial.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field, field_validator, model_validator

from reward_server.domain import Blame, Needs, Sample, Verdict, abstained, scored
from reward_server.options import Options
from reward_server.scorers.base import Rule, RuleContext
from reward_server.scorers.texts import NOT_A_TEXT, is_wide, visible

Phrase = Annotated[str, Field(min_length=1, max_length=200, pattern=r"\S")]
Phrases = tuple[str, ...]

MAX_PHRASE_CHARS: Final = 200
"""What is longer in a column is no phrase."""

READ_CHARS: Final = 20_000_000
"""So much is read for all phrases together: of a text whose length times their number is over it, the beginning."""

MAX_PLACES: Final = 2_000
"""In so many places a phrase is looked at whether it is a whole word there."""


class KeywordsOptions(Options):
    """What must be there and what must not; at least one of the lists or columns."""

    required: tuple[Phrase, ...] = Field((), description="words and phrases that must be there")
    forbidden: tuple[Phrase, ...] = Field((), description="words and phrases that must not be there")
    required_column: str | None = Field(None, min_length=1, description="column with further ones that must be there")
    forbidden_column: str | None = Field(None, min_length=1, description="column with further ones that must not")
    case_sensitive: bool = Field(default=False, strict=True, description="upper and lower case differ")
    whole_words: bool = Field(default=True, strict=True, description="art is not found in party")
    penalty: float | None = Field(
        None, strict=True, ge=0, le=1e9, description="taken off where a forbidden one is there; none: the score is 0"
    )

    @field_validator("required", "forbidden")
    @classmethod
    def _can_be_seen(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(visible(phrase).strip() for phrase in value):
            raise ValueError("one of them has only characters that nobody sees")
        return value

    @model_validator(mode="after")
    def _asks_for_something(self) -> Self:
        if not (self.required or self.forbidden or self.required_column or self.forbidden_column):
            raise ValueError("give at least one of: required, forbidden, required_column, forbidden_column")
        return self


class Keywords(Rule):
    """Scores the words that a text has, of those it must and must not have."""

    kind: ClassVar[str] = "keywords"
    Options = KeywordsOptions

    def __init__(self, options: KeywordsOptions, _context: RuleContext) -> None:
        self._options = options
        columns = (options.required_column, options.forbidden_column)
        self.needs = Needs(required_columns=frozenset(column for column in columns if column is not None))
        self.score_range = (0.0 - (options.penalty or 0.0), 1.0)
        self._without_case: Callable[[str], str] = str if options.case_sensitive else str.lower
        self._found = _in_whole_words if options.whole_words else _anywhere

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the share of required words, less what forbidden ones cost."""
        options = self._options
        required = _asked(options.required, options.required_column, sample)
        forbidden = _asked(options.forbidden, options.forbidden_column, sample)
        if required is None or forbidden is None or not (required or forbidden):
            return abstained("its columns name no words, or what are no words", blame=Blame.REFERENCE)
        text = sample.completion
        if not isinstance(text, str):
            return NOT_A_TEXT
        phrases, unwanted = self._plain(required), self._plain(forbidden)
        text = self._without_case(visible(text[: READ_CHARS // (len(phrases) + len(unwanted))]))
        score = (
            sum(self._found(text, phrase, where_unsure=False) for phrase in phrases) / len(phrases) if phrases else 1.0
        )
        if any(self._found(text, phrase, where_unsure=True) for phrase in unwanted):
            score = 0.0 if options.penalty is None else score - options.penalty
        return scored(score)

    def _plain(self, phrases: Phrases) -> list[str]:
        """Returns the phrases as they are looked for, each once."""
        return list(dict.fromkeys(" ".join(self._without_case(visible(phrase)).split()) for phrase in phrases))


def _anywhere(text: str, phrase: str, *, where_unsure: bool) -> bool:  # noqa: ARG001  # it never is
    return _place(text, phrase, 0)[0] >= 0


def _in_whole_words(text: str, phrase: str, *, where_unsure: bool) -> bool:
    """Returns whether a phrase is there without a word that goes on before or behind it.

    Args:
        text: where it is looked for.
        phrase: with single blanks between its words.
        where_unsure: the answer where there are too many places to look at.
    """
    begins, ends = _in_a_word(phrase[0]), _in_a_word(phrase[-1])
    start = 0
    for _ in range(MAX_PLACES):
        begin, end = _place(text, phrase, start)
        if begin < 0:
            return False
        before, behind = text[begin - 1 : begin], text[end : end + 1]
        if not ((begins and before and _in_a_word(before)) or (ends and behind and _in_a_word(behind))):
            return True
        start = begin + 1
    return where_unsure and _place(text, phrase, start)[0] >= 0


def _place(text: str, phrase: str, start: int) -> tuple[int, int]:
    """Returns where a phrase begins and ends, from a place on; -1 where it is not there any more."""
    if " " not in phrase:
        begin = text.find(phrase, start)
        return begin, begin + len(phrase)
    found = _with_any_blanks(phrase).search(text, start)
    return found.span() if found else (-1, -1)


@lru_cache(maxsize=1024)
def _with_any_blanks(phrase: str) -> re.Pattern[str]:
    return re.compile(r"\s{1,20}".join(map(re.escape, phrase.split(" "))))


def _in_a_word(character: str) -> bool:
    """Returns whether a word goes on with the character."""
    if character.isascii():
        return character.isalnum() or character == "_"
    return (character.isalnum() or unicodedata.combining(character) > 0) and not is_wide(character)


def _asked(phrases: Phrases, column: str | None, sample: Sample) -> Phrases | None:
    """Returns these phrases and those of the column, None where it holds what are no phrases."""
    value = None if column is None else sample.columns.get(column)
    if value is None:
        return phrases
    values = value if isinstance(value, list | tuple) else (value,)
    if all(isinstance(each, str) and visible(each).strip() and len(each) <= MAX_PHRASE_CHARS for each in values):
        return (*phrases, *values)
    return None
