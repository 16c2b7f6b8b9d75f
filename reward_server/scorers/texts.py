"""What rules of texts share."""

from __future__ import annotations

from typing import Final

from reward_server.domain import failed

NOT_A_TEXT: Final = failed(
    "the completion is a conversation, and this reward reads texts: give it 'view: full' (the last assistant message) "
    "or 'view: answer'"
)
"""The verdict of a rule of texts on a list of messages."""

_WORDS_AS_X: Final = bytes(ord(" ") if chr(code).isspace() else ord("x") for code in range(128)) + b"x" * 128
"""Translates ASCII text: blanks of all sorts become spaces, all else x."""

_SPLIT_PAYS_CHARS: Final = 16
"""Splitting off a word costs as much as translating so many characters."""


def word_count(text: str, enough: int) -> int:
    """Returns the number of words, `len(text.split())`, or `enough` where there are more."""
    if text.isascii() and len(text) < enough * _SPLIT_PAYS_CHARS:
        words = text.encode().translate(_WORDS_AS_X)  # no list of words is made: four times as fast
        return min(words.count(b" x") + words.startswith(b"x"), enough)
    return min(len(text.split(maxsplit=enough)), enough)


def decodable(text: str) -> str:
    """Returns the text with a question mark for each half of a surrogate pair, which UTF-8 has no bytes for."""
    if text.isascii():
        return text
    return text.encode(errors="replace").decode()


INVISIBLE: Final = ("\u00ad", "\u200b", "\u200c", "\u200d", "\u2060", "\ufeff")
"""Characters that nobody sees: they would hide a forbidden word, or be an answer that is empty."""


def visible(text: str) -> str:
    """Returns the text without characters that nobody sees."""
    if not text.isascii():
        for character in INVISIBLE:
            text = text.replace(character, "")
    return text


def is_wide(letter: str) -> bool:
    """Returns whether a letter stands for a syllable or word: such scripts put no blanks between words."""
    return "\u3040" <= letter <= "\u9fff" or "\uac00" <= letter <= "\ud7a3" or letter >= "\U00020000"
