r"""The places in a text where an answer may stand: functions from a text to the answer there, None where there is none.

All are linear in the text, whatever it is: quantifiers of expressions are bounded, braces are counted in one pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from reward_server.scorers.answers.numbers import begin_of, last_match, plain

BRACE: Final = re.compile(r"\\{1,2}(?:boxed|fbox)\s{0,4}\{|\\.|[{}]", re.DOTALL)
NAMES: Final = ("nswer", "NSWER", "ption", "PTION", "hoice", "HOICE", "答案")
"""How what people and models write before an answer ends: answer, Answer, ANSWER, the correct option ..."""

CORRECT_ONE: Final = re.compile(r"\b(?:correct|right|best|final)\s{1,4}(?:option|choice)\Z")
FOLLOWED_SO: Final = re.compile(
    r"[*_`\"'”’\s]{0,6}(?:is\b|was\b|would\s{1,4}be\b|should\s{1,4}be\b|:|=|：|是|为)[:：]?",  # noqa: RUF001  # Chinese
    re.IGNORECASE,
)
TAG_NAME: Final = re.compile(r"[A-Za-z][\w.-]*")
EMPHASIS: Final = " \t*`"
MATHS_BEGINS: Final = ("", "\\[", "\\(", "$", "$$")
"""Lines that hold no answer: behind "The answer is" often a formula follows in lines of its own."""


def boxed(text: str) -> str | None:
    r"""Returns what stands in the last `\boxed{...}` that is closed; braces inside it must balance."""
    opened: list[int] = []  # of each open brace: where its content begins, -1 if it opens no box
    begin, end = -1, -1
    for token in BRACE.finditer(text):
        mark = token[0]
        if mark == "}":
            start = opened.pop() if opened else -1
            if start > begin:
                begin, end = start, token.start()
        elif mark == "{":
            opened.append(-1)
        elif len(mark) > 2:  # noqa: PLR2004  # not an escaped character
            opened.append(token.end())
    return None if begin < 0 else text[begin:end].strip()


def in_tag(text: str, name: str) -> str | None:
    """Returns what stands in the last closed element of that name."""
    end = text.rfind(f"</{name}>")
    begin = text.rfind(f"<{name}>", 0, end) if end >= 0 else -1
    return None if begin < 0 else text[begin + len(name) + 2 : end].strip()


def after(text: str, mark: str) -> str | None:
    """Returns what follows the last such mark, up to the end of the line (of the next line with words)."""
    place = text.rfind(mark)
    return None if place < 0 else first_line(text[place + len(mark) :])


def after_phrase(text: str) -> str | None:
    """Returns what follows the last "the answer is", "Answer:" and the like, up to the end of the line."""
    ends = sorted((end for name in NAMES for end in _ends(text, name)), reverse=True)
    for end in ends:
        follows = FOLLOWED_SO.match(text, end)
        if follows and _names_an_answer(text, end):
            return first_line(text[follows.end() :])
    return None


def _ends(text: str, word: str) -> Iterator[int]:
    place = text.find(word)
    while place >= 0:
        yield place + len(word)
        place = text.find(word, place + len(word))


def _names_an_answer(text: str, end: int) -> bool:
    """Returns whether it is an answer that is named there; an option or choice only as the correct one."""
    words = text[max(0, end - 20) : end].lower()
    return words.endswith(("answer", "答案")) or CORRECT_ONE.search(words) is not None


def first_line(text: str) -> str | None:
    """Returns the first line that is more than blanks and marks of emphasis, without these; None if there is none."""
    bare = (line.strip(EMPHASIS) for line in text.splitlines())
    return next((line for line in bare if line not in MATHS_BEGINS), None)


def last_line(text: str) -> str | None:
    """Returns the last line that is not blank."""
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), None)


def last_number(text: str) -> str | None:
    """Returns the last number, as it is written but for signs of other scripts and LaTeX."""
    last = last_match(plain(text))
    return last.string[begin_of(last) : last.end()] if last else None
