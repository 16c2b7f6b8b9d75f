r"""Where in a completion, or in a reference, the answer stands: one option that all scorers of answers share.

    answer: auto            # the first of: the last <answer> element, \boxed{...}, ####, "the answer is"; else the text
    answer: whole           # the whole text
    answer: boxed           # the last \boxed{...} that is closed
    answer: last_line       # the last line that is not blank
    answer: last_number     # the last number
    answer: tag:solution    # the last closed <solution> element
    answer: "after:####"    # what follows the last such mark, up to the end of the line
    answer: "regex:(?i)final: (\\w+)"   # the last match, its group if it has one; RE2's syntax

A mark is looked for in the last `WINDOW_CHARS` characters, and an answer longer than that is none: an answer stands at
the end and is short. All of it is linear in the text.

In a reference, `auto` does not look for "the answer is": a gold answer may be a title with such words in it. So a
solution of GSM8K ("... #### 72") or MATH ("... $\boxed{72}$") is read as its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property, lru_cache
from typing import Any, ClassVar, Final

import re2  # type: ignore[import-untyped]  # it comes without types
from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from reward_server.scorers.answers import places
from reward_server.scorers.expressions import compiled, complaint
from reward_server.scorers.texts import decodable

WINDOW_CHARS: Final = 20_000
GSM8K_MARK: Final = "####"

MAX_MATCHES: Final = 400
"""Each match of an expression may read all that follows: a text with more of them has no answer."""

WORDS: Final = (
    "auto, whole, boxed, last_line, last_number, tag:NAME (as in tag:answer), after:MARK (as in after:####) or "
    "regex:EXPRESSION"
)


class How(Enum):
    """How much of what was found is the answer."""

    EXACTLY = "exactly"  # all of it: a box, an element, the whole text
    BEGINS = "begins"  # it begins with the answer; a sentence may go on
    WITHIN = "within"  # no mark told where: the answer is somewhere in it


@dataclass(frozen=True, slots=True)
class Found:
    """The text in which the answer stands."""

    text: str
    how: How


Place = Callable[[str], Found | None]


@dataclass(frozen=True)
class Extraction:
    """The place of an answer, as the configuration writes it. Raises `ValueError` for a text that names none."""

    value: str = "auto"
    words: ClassVar[str] = WORDS  # what may be written: for who has written something else

    def __post_init__(self) -> None:
        _place(self.value, reference=False, words=self.words)

    def find(self, text: str) -> Found | None:
        """Returns where a completion's answer stands, None where there is none."""
        return self._in_completion(text)

    def find_in_reference(self, text: str) -> Found | None:
        """Returns where a reference's answer stands, None where there is none; there is no limit to its length."""
        return self._in_reference(text)

    @cached_property
    def _in_completion(self) -> Place:
        return _place(self.value, reference=False)

    @cached_property
    def _in_reference(self) -> Place:
        return _place(self.value, reference=True)

    def __reduce__(self) -> tuple[type[Extraction], tuple[str]]:
        """Is sent to worker processes as its words: compiled expressions cannot be."""
        return type(self), (self.value,)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """In options it is a text."""
        from_text = core_schema.no_info_after_validator_function(cls, core_schema.str_schema(strict=True))
        return core_schema.no_info_wrap_validator_function(  # no union: it would complain in the name of both
            lambda value, read: read(value.value if isinstance(value, Extraction) else value),
            from_text,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda each: each.value),
        )


def _auto(text: str, *, reference: bool = False) -> Found:
    """Returns what the plainest mark points at; without a mark the text, in which the answer is somewhere."""
    element = places.in_tag(text, "answer")
    inner = text if element is None else element
    box = places.boxed(inner) if "boxed" in inner or "fbox" in inner else None
    if box is not None:
        return Found(box, How.EXACTLY)
    marked = places.after(inner, GSM8K_MARK)
    if marked is None and not reference:
        marked = places.after_phrase(inner)
    if marked is not None:
        return Found(marked, How.BEGINS)
    return Found(inner.strip(), How.WITHIN if element is None else How.EXACTLY)


def _auto_of_reference(text: str) -> Found:
    found = _auto(text, reference=True)
    return Found(found.text, How.EXACTLY)


def _whole(text: str) -> Found:
    return Found(text.strip(), How.EXACTLY)


_PLAIN: Final[Mapping[str, Place]] = {
    "auto": _auto,
    "whole": _whole,
    "boxed": lambda text: _found(places.boxed(text), How.EXACTLY),
    "last_line": lambda text: _found(places.last_line(text), How.WITHIN),
    "last_number": lambda text: _found(places.last_number(text), How.EXACTLY),
}


def _found(text: str | None, how: How) -> Found | None:
    return None if text is None else Found(text, how)


@lru_cache(maxsize=256)
def _place(value: str, *, reference: bool, words: str = WORDS) -> Place:
    """Returns what finds an answer in a text. Raises `ValueError` for words that are no place of an answer."""
    name, colon, detail = value.partition(":")
    if not colon and name in _PLAIN:
        place = _auto_of_reference if reference and name == "auto" else _PLAIN[name]
    elif name == "tag" and places.TAG_NAME.fullmatch(detail):
        place = lambda text: _found(places.in_tag(text, detail), How.EXACTLY)  # noqa: E731
    elif name == "after" and detail.strip():
        place = lambda text: _found(places.after(text, detail), How.BEGINS)  # noqa: E731
    elif name == "regex" and detail:
        place = _matched(detail)
    else:
        raise ValueError(f"{value!r} is no place of an answer: write {words}")
    return place if reference else _at_the_end(place, whole=value == "whole")


def _at_the_end(place: Place, *, whole: bool) -> Place:
    """Returns a place that is looked for at the end of a text only; a whole text must be short enough itself."""

    def find(text: str) -> Found | None:
        if len(text) <= WINDOW_CHARS:
            return place(text)
        return None if whole else place(text[-WINDOW_CHARS:])

    return find


def _matched(regex: str) -> Place:
    """Returns a place that is the last match of an expression. Raises `ValueError` for one that RE2 cannot read."""
    try:
        pattern = compiled(regex)
    except re2.error as error:
        raise ValueError(f"{complaint(error)} (RE2's syntax: no look-around, no back-references)") from error
    groups = pattern.groups
    if groups > 1:
        raise ValueError(f"{regex!r} has {groups} groups: one says which part is the answer; write (?:...) for others")

    def find(text: str) -> Found | None:
        last = None
        for count, match in enumerate(pattern.finditer(decodable(text))):
            if count == MAX_MATCHES:
                return None
            last = match
        return None if last is None else _found(last[groups], How.EXACTLY)

    return find
