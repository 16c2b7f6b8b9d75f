"""Makes texts that mean the same answer the same text, as SQuAD's evaluation does."""

from __future__ import annotations

import re
import string
import unicodedata
from collections.abc import Callable
from functools import reduce
from typing import Final, Literal

_ARTICLES: Final = re.compile(r"\b(?:a|an|the)\b")
_NO_PUNCTUATION: Final = dict.fromkeys(map(ord, string.punctuation))

MAX_MARKS: Final = 30
"""To normalize a run of marks on a letter takes time by the square of its length."""

MAX_NFKC_CHARS: Final = 5_000
"""Some characters become eighteen: a longer text is left as it is."""


Step = Literal["nfkc", "lower", "punctuation", "articles", "whitespace"]
"""One thing that is made equal: ways to write a character, case, ASCII's punctuation, a, an and the, blanks."""

SQUAD: Final[tuple[Step, ...]] = ("lower", "punctuation", "articles", "whitespace")


def nfkc(text: str) -> str:
    """Returns the text in Unicode's NFKC, or as it is where it is long or has more marks in a row than any language."""
    if text.isascii() or len(text) > MAX_NFKC_CHARS:
        return text
    run = longest = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        longest = max(longest, run)
    return text if longest > MAX_MARKS else unicodedata.normalize("NFKC", text)


_DONE_BY: Final[dict[Step, Callable[[str], str]]] = {  # in the order in which they are done
    "nfkc": nfkc,
    "lower": str.lower,
    "punctuation": lambda text: text.translate(_NO_PUNCTUATION),
    "articles": lambda text: _ARTICLES.sub(" ", text),
    "whitespace": lambda text: " ".join(text.split()),
}


def normalizer(steps: tuple[Step, ...]) -> Callable[[str], str]:
    """Returns what does these steps with a text, in their natural order."""
    done = [do for step, do in _DONE_BY.items() if step in steps]
    return lambda text: reduce(lambda so_far, do: do(so_far), done, text)
