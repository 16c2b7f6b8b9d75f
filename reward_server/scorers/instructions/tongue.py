"""Which language a text is in, as py3langid's model has it.

IFEval asks langdetect, which rolls dice. The candidates are the languages that langdetect knows and the one that is asked
for, so that a short text is not taken for one of those hardly ever asked for. Capitals tell nothing about a language, so
a text is identified in lower case. It is read in pieces, of a long one in pieces from all over it: their mean decides.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from reward_server.scorers.language import MARKS, PIECE_CHARS, identifier
from reward_server.scorers.texts import decodable

_USUAL_CODES: Final = (
    "af ar bg bn ca cs cy da de el en es et fa fi fr gu he hi hr hu id it ja kn ko lt lv mk ml mr ne nl no pa pl pt ro "
    "ru sk sl so sq sv sw ta te th tl tr uk ur vi zh"
)
_USUAL: Final = frozenset(_USUAL_CODES.split())
"""The languages that langdetect knows, as ISO 639-1 codes."""

MAX_PIECES: Final = 20


@lru_cache(maxsize=1)
def known_languages() -> frozenset[str]:
    """Returns the codes of the languages that can be told. The first time it loads the model, which takes most of a second."""
    return frozenset(identifier(()).labels) - {"zxx"}  # its code for what is no language


def is_in_language(text: str, code: str) -> bool:
    """Returns whether the text is in this language more likely than in any other; a text without letters is in none."""
    chances = dict.fromkeys({code, *_USUAL}, 0.0)
    for piece in _pieces(text):
        letters = sum(map(str.isalpha, piece))
        if not letters:
            continue
        for language, share in identifier(()).rank(MARKS.sub(r"\1", decodable(piece)).lower()):
            if language in chances:
                chances[language] += letters * share
    chance = chances.pop(code)
    return chance > max(chances.values())


def _pieces(text: str) -> list[str]:
    """Returns all of a text in pieces, of a long one the most that are allowed, from its beginning to its end."""
    gap = max(PIECE_CHARS, (len(text) - PIECE_CHARS) / (MAX_PIECES - 1))
    starts = [round(index * gap) for index in range(MAX_PIECES)]
    return [text[start : start + PIECE_CHARS] for start in starts if start < len(text)]
