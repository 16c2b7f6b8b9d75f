"""The kinds of instructions by id, and how one is made of its id and arguments as a dataset or a configuration has them."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final

from pydantic import ValidationError

from reward_server.scorers.instructions import cases, contents, formats, keywords, lengths, more
from reward_server.scorers.instructions.base import Instruction

_MAX_SHOWN_CHARS: Final = 80

KINDS: Final[Mapping[str, type[Instruction]]] = {
    kind.id: kind
    for kind in (
        keywords.Existence,
        keywords.Frequency,
        keywords.ForbiddenWords,
        keywords.LetterFrequency,
        cases.ResponseLanguage,
        lengths.NumberOfSentences,
        lengths.NumberOfParagraphs,
        lengths.NumberOfWords,
        lengths.NthParagraphFirstWord,
        contents.NumberOfPlaceholders,
        contents.Postscript,
        formats.NumberOfBullets,
        formats.ConstrainedResponse,
        formats.NumberOfHighlights,
        formats.MultipleSections,
        formats.JsonFormat,
        formats.Title,
        contents.TwoResponses,
        contents.RepeatPrompt,
        contents.EndChecker,
        contents.Quotation,
        cases.CapitalWordFrequency,
        cases.EnglishCapital,
        cases.EnglishLowercase,
        contents.NoComma,
        more.WordOnce,
        more.WordCountDifferentNumbers,
        more.NoAdjacentConsecutive,
        more.TwoParagraphs,
        more.TwoSpacedParagraphs,
        more.FirstWord,
        more.LastWord,
        more.NoFullStop,
        more.NoExclamation,
        more.LowercaseCounting,
        more.LetterCounting,
        more.LetterCounting2,
        more.SquareBrackets,
    )
}


def instruction(name: Any, arguments: Mapping[str, Any]) -> Instruction:
    """Returns the instruction. Raises `ValueError` with what is wrong with its id or arguments.

    Arguments that are None count as absent: datasets have a key for every argument of all kinds.
    """
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        close = get_close_matches(str(name)[:_MAX_SHOWN_CHARS], KINDS, n=3)
        hint = f"; is it {' or '.join(close)}?" if close else ""
        raise ValueError(f"there is no instruction {_shown(name)}{hint}")
    given = {key: value for key, value in arguments.items() if value is not None}
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        raise ValueError(f"{kind.id}: {_complaint(kind, error)}") from None


def _complaint(kind: type[Instruction], error: ValidationError) -> str:
    """Returns the first thing that is wrong, in one line."""
    first = error.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    known = ", ".join(kind.model_fields) or "none"
    if first["type"] == "missing":
        return f"it needs {place} (its arguments: {known})"
    if first["type"] == "extra_forbidden":
        close = get_close_matches(place, kind.model_fields, n=1)
        return f"it has no argument {_shown(place)}; " + (f"is it {close[0]}?" if close else f"its arguments: {known}")
    words = first["msg"].removeprefix("Value error, ")
    return f"{place} = {_shown(first['input'])}: {words}" if place else words


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _MAX_SHOWN_CHARS else f"{text[:_MAX_SHOWN_CHARS]}…"
