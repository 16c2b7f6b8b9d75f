"""Settles completions that say nothing, without asking: models that judge are easily won over by them.

A lone ":" or "Solution" gets high grades from many a judge (arXiv 2507.08794), and neither reasoning nor a vote of
several models helps. So a completion that is empty, or nothing but punctuation, emoji or phrases that open an answer,
is settled here at the lowest grade. The *whole* completion must be that: "Solution: 5" says something, and so do a
number, a letter, "Yes", "x", or an operator such as "+" and "<".

Such a completion can still be right, and then it goes to the judge: where the reference is the same, where the task
quotes it or has it among its choices, and where the task asks for a symbol or a word ("Answer with one emoji", "What is the Spanish word for
'answer'?"). What is left is a task that wants a bare ";" or "Answer" without saying so and has no reference: it is
settled wrongly, with a flag. And phrases that nobody listed reach the judge: a baseline and canaries are for those.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import re2  # type: ignore[import-untyped]  # it comes without types

from reward_server.judge.material import Material

REVISION: Final = 2
"""Raise it with every change of what is settled: it is part of a reward's version."""

EMPTY: Final = "the completion is empty"
NO_WORDS: Final = "the completion has no words, only punctuation or symbols"
MASTER_KEY: Final = "the completion only announces an answer and gives none"

KEYS_FILE: Final = Path(__file__).with_name("master_keys.txt")
MAX_PHRASES_CHARS: Final = 10_000
"""A completion with more of such phrases is a different trick, and would take time here."""

MAX_OPTION_CHARS: Final = 60

_NOTHING: Final = re.compile(r"[\W_]+")
_WORD: Final = re.compile(r"[^\W_]")
_BLANKS: Final = re.compile("[\u115f\u1160\u17b4\u17b5\u3164\uffa0]")  # letters by their category that show nothing
_OPERATOR: Final = re.compile(
    r"[|&^~]|[+<=>%$€£¥°¬±\u00d7÷\u2190-\u22ff\u27c0-\u27ef\u2980-\u2aff]{1,2}|[-+*/<>=!:&|^%]=|===|!==|<=>|->|<-|&&|\|\||//|\*\*|\[\]|\{\}"
)
"""Signs that are an answer by themselves, such as the one to put between 3 and 5; brackets as an empty list or set."""

_WRAPPED: Final = re.compile(
    r"(?P<mark>`{1,3}|\*\*|\$\$?)\s*(?P<inside>[^\s`]{1,3})\s*(?P=mark)|\\\(\s*(?P<in_tex>[^\s`]{1,3})\s*\\\)"
)
"""A sign as code, in bold or as a formula: the same answer."""

_MARKS: Final = re2.compile(r"(\p{M}{8})\p{M}+")
"""More marks on a letter than any language has. To normalise a long run of them takes time by its length's square."""

_UNSPACED: Final = re.compile("[\u0e00-\u0e7f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_ASKS_FOR_EMOJI: Final = re.compile(r"emoji", re.IGNORECASE)
_EMOJI: Final = re.compile("[\u203c-\u3299\U0001f000-\U0001faff]")
_ASKS_FOR_SYMBOL: Final = re.compile(
    r"emoticon|smiley|\bpunctuation\b|\boperators?\b|\bdelimiter|\bregex|\bbrackets?\b"
    r"|\b(?:which|what|one|single) (?:\w+ )?(?:symbol|character|sign|mark|glyph)\b",
    re.IGNORECASE,
)
_ASKS_FOR_WORD: Final = re.compile(
    r"translat|tradu[cirz]|übersetz|перевед|翻译|翻譯|訳し|번역|synonym|antonym|\brhym|anagram|\bspell"
    r"|\bword for\b|\b(?:which|what|the|one) word\b|\bwhat do you call\b|\bknown as\b",
    re.IGNORECASE,
)


def settled(material: Material) -> str | None:
    """Returns why a completion is settled at the lowest grade without asking, or None where the judge must look."""
    completion = material.completion.strip()
    if len(completion) > MAX_PHRASES_CHARS and _WORD.search(completion):
        return None
    words = _words(completion)
    if (words and not _is_master_key(words)) or _is_wanted(completion, words, material):
        return None
    if words:
        return MASTER_KEY
    return NO_WORDS if _BLANKS.sub("", completion).strip() else EMPTY


def identity() -> Mapping[str, Any]:
    """Returns, as JSON-able data, what decides which completions are settled."""
    return {"revision": REVISION, "keys": hashlib.sha256(KEYS_FILE.read_bytes()).hexdigest()[:16]}


def _words(text: str) -> str:
    """Returns a text in small letters, with everything between words as one space: "**Solution:**" is "solution"."""
    if len(text) > MAX_PHRASES_CHARS:
        text = text[:MAX_PHRASES_CHARS]  # of a completion it has no words; of a reference this much is enough
    if not text.isascii():
        text = _MARKS.sub(r"\1", text.encode("utf-8", "replace").decode())
    text = unicodedata.normalize("NFKC", text.replace("\u2019", "'").replace("'", ""))
    return _NOTHING.sub(" ", _BLANKS.sub(" ", text)).strip().casefold()


def _is_wanted(completion: str, words: str, material: Material) -> bool:
    """Returns whether so short a saying may be just what was asked for."""
    if not completion:
        return False
    reference, task = (material.reference or "").strip(), material.task or ""
    if completion == reference or (words and words == _words(reference)):
        return True
    if any(f"{mark}{completion}{mark}" in task for mark in "`\"'"):
        return True
    if words:
        return _is_option(completion, task) or (" " not in words and bool(_ASKS_FOR_WORD.search(task)))
    return _is_wanted_sign(completion, task)


def _is_wanted_sign(sign: str, task: str) -> bool:
    """Returns whether a task may want just this, which has no words."""
    if _ASKS_FOR_EMOJI.search(task) and _EMOJI.search(sign):
        return True
    if not sign.isascii() and unicodedata.category(sign[0])[0] == "S" and sign in task:
        return True  # one of a row of symbols
    return bool(_OPERATOR.fullmatch(_unwrapped(sign)) or _ASKS_FOR_SYMBOL.search(task))


def _is_option(completion: str, task: str) -> bool:
    """Returns whether a saying is one of the task's choices: "A) Solution B) Suspension"."""
    if len(completion) > MAX_OPTION_CHARS:
        return False
    option = rf"(?:^|[\s(])[A-Za-z][.)]\s+{re.escape(completion)}[.,;]?(?:$|\n|\s+\(?[A-Za-z][.)]\s)"
    return re.search(option, task, re.IGNORECASE | re.MULTILINE) is not None


def _unwrapped(sign: str) -> str:
    """Returns a sign without a full stop behind it and without Markdown's or TeX's marks around it."""
    sign = sign.removesuffix(".") or sign
    found = _WRAPPED.fullmatch(sign)
    return (found["inside"] or found["in_tex"]) if found else sign


def _is_master_key(words: str) -> bool:
    """Returns whether a text is made of nothing but such phrases, one or several."""
    return _master_keys().fullmatch(f"{words} ") is not None


@cache
def _master_keys() -> Any:
    """Returns the pattern of one phrase or several, each followed by a space where its language has spaces."""
    lines = (line.strip() for line in KEYS_FILE.read_text(encoding="utf-8").splitlines())
    keys = sorted({_words(line) for line in lines if line and not line.startswith("#")}, key=len, reverse=True)
    ends = (f"{re2.escape(key)} {'?' if _UNSPACED.search(key) else ''}" for key in keys)
    return re2.compile(f"(?:{'|'.join(ends)})+")
