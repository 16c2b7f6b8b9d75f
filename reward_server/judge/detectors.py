"""Notices completions that talk to their judge: they are flagged, and a recipe may cap their grade.

Flags, each a tuple's entry of what `flags_of` returns:

- `addresses_grader`: it speaks to whoever grades it, or gives that one orders ("ignore the rubric", "dear evaluator").
- `claims_score`: it says which grade it deserves or has ("Score: 10/10", `{"score": 9}`).
- `template_tokens`: it contains tokens of chat templates, which the guard has made harmless.

The patterns stand in `suspicious.txt` and are matched by RE2, in time linear in the text. They know what people have
tried, in the larger languages; who finds another wording is not noticed. A flag is a reason to look, not a proof.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import re2  # type: ignore[import-untyped]  # it comes without types

REVISION: Final = 2
"""Raise it with every change of what is flagged: where flags cap grades it is part of a reward's version."""

ADDRESSES_GRADER: Final = "addresses_grader"
CLAIMS_SCORE: Final = "claims_score"
TEMPLATE_TOKENS: Final = "template_tokens"
FLAGS: Final = (ADDRESSES_GRADER, CLAIMS_SCORE, TEMPLATE_TOKENS)

_UNSEEN: Final = re.compile(
    "[\u00ad\u034f\u180e\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufe00-\ufe0f\ufeff\U000e0000-\U000e007f\U000e0100-\U000e01ef]"
)
"""What parts the letters of a word for a pattern, and not for a reader."""

_WITHIN_SENTENCES: Final = re.compile(
    r"(?<=[^\W\d])(?:[ \t\u00a0]*\r?\n[ \t\u00a0]*|[ \t\u00a0]{2,}|[\t\u00a0])(?=[^\W\d])"
)
"""Blanks between two words, a line break among them at most."""

MAX_QUOTATIONS: Final = 1000
"""Who quotes a task more often than this is up to something."""

PATTERNS_FILE: Final = Path(__file__).with_name("suspicious.txt")


def flags_of(completion: str, task: str | None) -> tuple[str, ...]:
    """Returns the flags that a completion earns, in the order of `FLAGS`.

    Args:
        completion: as it came, not neutralised.
        task: the prompt as a person would read it, its own template tokens removed; None where the judge gets none. A
            task that is itself about grading, or that contains the words found, lifts the flag: its right answers
            look like this.
    """
    text, task = _encodable(completion), _encodable(task or "")
    patterns = _patterns()
    return tuple(flag for flag in FLAGS if any(_found(flag, patterns, each, task) for each in _readings(text, flag)))


def identity() -> Mapping[str, Any]:
    """Returns, as JSON-able data, what decides which completions are flagged."""
    return {"revision": REVISION, "patterns": hashlib.sha256(PATTERNS_FILE.read_bytes()).hexdigest()[:16]}


def _found(flag: str, patterns: Mapping[str, Any], text: str, task: str) -> bool:
    pattern = patterns[flag]
    if pattern.search(text) is None:
        return False
    lift = patterns.get(f"lift_{flag}")
    if lift is not None and lift.search(task):
        return False
    # A completion may quote its task, and then say more: all that is found must stand in the task.
    quotable, seen = task.casefold(), set()
    for count, found in enumerate(pattern.finditer(text)):
        words = found[0].strip().casefold()
        if (words not in seen and words not in quotable) or count == MAX_QUOTATIONS:
            return True
        seen.add(words)
    return False


def _readings(text: str, flag: str) -> Iterator[str]:
    """Yields the text, and where it hides its words from patterns, the text as it reads."""
    yield text
    plain = text
    if not text.isascii():
        plain = _UNSEEN.sub("", text).translate(_letters())
    if flag == ADDRESSES_GRADER:  # grades may stand in lines of their own, and their patterns know where lines end
        plain = _WITHIN_SENTENCES.sub(" ", plain)
    if plain != text:
        yield plain


def _encodable(text: str) -> str:
    """Returns the text with lone surrogates replaced: RE2 works on UTF-8."""
    return text.encode("utf-8", "replace").decode()


@cache
def _letters() -> Mapping[int, str]:
    """Returns what full-width, mathematical and letter-like forms look like; a model reads them as that."""
    codes = [*range(0x2100, 0x2150), *range(0xFF01, 0xFF5F), *range(0x1D400, 0x1D800)]
    return {code: unicodedata.normalize("NFKC", chr(code)) for code in codes}


@cache
def _patterns() -> Mapping[str, Any]:
    """Returns each flag's pattern and what lifts it. A line of the file is a name and a regular expression."""
    sources: dict[str, list[str]] = {}
    for line in PATTERNS_FILE.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            name, regex = line.split(maxsplit=1)
            sources.setdefault(name, []).append(f"(?:{regex.strip()})")
    return {name: re2.compile(f"(?i){'|'.join(regexes)}") for name, regexes in sources.items()}
