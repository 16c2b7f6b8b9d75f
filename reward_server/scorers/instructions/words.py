"""Words and letters of texts, by the definitions that IFEval uses, in linear time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

_ALIKE: Final = {"İ": "i", "ı": "i", "ſ": "s", "µ": "μ"}  # noqa: RUF001  # meant so
"""Letters that `str.lower` leaves different though ignoring case they are the same (or that it makes two of)."""

_SEPARATORS: Final = '[](){}<>"“”«»„’`;@#$%&?!*‒–—―'  # noqa: RUF001  # typographic signs, meant so
_SEPARATED: Final = str.maketrans(dict.fromkeys(_SEPARATORS, " "))

_ASCII_WORDS: Final = bytes(code if chr(code).isalnum() or chr(code) == "_" else ord(" ") for code in range(128)).ljust(
    256
)
"""Translates ASCII text: all that is no part of a word becomes a space."""

_CLITICS: Final = ("N'T", "'LL", "'RE", "'VE", "'S", "'M", "'D")
"""What stands for a word of its own at the end of another, in capitals."""

_PAIRS: Final = frozenset({"CANNOT", "GIMME", "GONNA", "GOTTA", "LEMME", "WANNA"})
"""Words that are two, in capitals."""


def is_word_char(char: str) -> bool:
    r"""Returns whether it is part of a word: a letter, a digit or an underscore, as `\w` has it."""
    return char.isalnum() or char == "_"


def word_count(text: str) -> int:
    r"""Returns the number of words, those that `\w+` finds: don't is two, so is well-known; 3.5 is two."""
    if text.isascii():
        return len(text.encode().translate(_ASCII_WORDS).split())
    return len(words_of(text))


def words_of(text: str) -> list[str]:
    """Returns these words."""
    return "".join([char if is_word_char(char) else " " for char in text]).split()


def folded(text: str) -> str:
    """Returns the text in lower case; what is equal but for case becomes equal, and no letter becomes two."""
    if text.isascii():
        return text.lower()
    for letter, other in _ALIKE.items():
        text = text.replace(letter, other)
    return text.lower().replace("ς", "σ")  # noqa: RUF001  # Greek, meant so


def has_word(text: str, word: str) -> bool:
    """Returns whether the word stands in the text as a whole word, in this case.

    Where the word itself begins or ends with a sign, as in `C++`, anything may stand beside it there.
    """
    start = text.find(word)
    while start >= 0:
        end = start + len(word)
        if _ends_word(word[0], text[start - 1 : start]) and _ends_word(word[-1], text[end : end + 1]):
            return True
        start = text.find(word, start + 1)
    return False


def _ends_word(edge: str, beside: str) -> bool:
    return not (beside and is_word_char(edge) and is_word_char(beside))


def capital_word_count(text: str) -> int:
    """Returns the number of words in capitals, hyphenated ones counting once: NASA, I, U.S., COVID-19.

    Words are what NLTK's word tokenizer makes of English: NASA's counts (NASA and 's), DON'T counts twice (DO and N'T).
    """
    return sum(map(_capitals, _tokens(text)))


def _tokens(text: str) -> Iterator[str]:
    """Yields what stands between blanks and signs that belong to no word."""
    text = text.translate(_SEPARATED).replace("--", " ").replace("..", " ").replace("''", " ")
    for token in text.split():
        if "," in token or ":" in token:
            yield from _between_commas(token)
        else:
            yield token


def _between_commas(token: str) -> Iterator[str]:
    """Yields the parts between commas and colons; one before a digit, as in 10:30 or 1,000, parts nothing."""
    start = 0
    for place, char in enumerate(token):
        if char in ",:" and not token[place + 1 : place + 2].isdecimal():
            yield token[start:place]
            start = place + 1
    yield token[start:]


def _capitals(token: str) -> int:
    """Returns how many words in capitals a token holds: 0, 1 or 2."""
    word, clitic = _without_clitic(token.rstrip(".").strip("'")) if "'" in token else (token, "")
    words = 2 if word.rstrip(".") in _PAIRS else int(word.isupper())
    return words + clitic.isupper()


def _without_clitic(token: str) -> tuple[str, str]:
    for clitic in _CLITICS:
        cut = len(token) - len(clitic)
        if cut > 0 and token[cut:].upper() == clitic:
            return token[:cut], token[cut:]
    return token, ""
