"""Which letter of a multiple-choice question a text chooses.

Expressions of Python's `re`, all of whose quantifiers are bounded: linear in the text.
"""

from __future__ import annotations

import re
from typing import Final

from reward_server.scorers.answers.extraction import Found, How

_PLAIN: Final = str.maketrans("（）．：，。、", "().:,.,", "*`$\u200b")  # noqa: RUF001  # Chinese punctuation
_LATEX: Final = re.compile(r"\\(?:text|math)[a-z]{0,4}\s?\{([^{}]{0,99})\}")
LATEX_DEPTH: Final = 3
"""So many commands around one another are seen through, as in `\\text{\\textbf{B}}`."""

_LEAD_IN: Final = (
    r"(?:(?:most|very|likely|probably|definitely|clearly|certainly|therefore|thus|hence|indeed|simply|just|be|to|option|"
    r"choice|letter|answer|is|the|correct|final|one)[\s:,]{1,3}|选项|选择?|答案[是为]?){0,6}"
)
_GOES_ON: Final = r"(?=\s{1,3}(?:because|since|as|is|and|or|for|which|due|with)\b)"
_FOLLOWS: Final = r"(?=[)\]\"'”’]{0,2}(?:$|[.,:;!?](?![A-Za-z]\.)|\s?[—–]))|(?=[)\]])"  # noqa: RUF001  # dashes


_CLOSES: Final = r"[)\].,;:\"']{0,3}"
_REASON: Final = re.compile(
    r"\b(?:because|since|as|for|not|while|whereas|but|so|rather|instead|unlike|than|over|though)\b|[.!?\n]\s",
    re.IGNORECASE,
)
"""Behind it other letters may be named: B because A is wrong."""

_ASIDE: Final = re.compile(r"\((?![A-Z]\))[^()]{0,200}\)")  # (vitamin C)

STATEMENT_CHARS: Final = 4_000
MAX_IN_A_ROW: Final = 26
MAX_SINGLE_LETTERS: Final = 600
"""A text with more of them chooses none: each is looked at."""

BEFORE_CHARS: Final = 16

_BEFORE: Final = re.compile(
    r"(?:(?P<line>(?:\A|\n)[ \t]{0,9}\(?)|(?P<bracket>\()|(?P<option>\b(?:options?|choices?)\s\(?|选择?\s?)|"
    r"(?P<verb>\b(?:is|be|choose|pick|select|with)\s{1,3}))\Z",
    re.IGNORECASE,
)
_AFTER: Final = {  # what must follow the letter, by what stands before it
    "line": re.compile(r"[).:](?![A-Za-z]\.)|\s{0,9}(?:\n|\Z)"),
    "bracket": re.compile(r"\)"),
    "option": re.compile(r"(?!['\u2019])"),
    "verb": re.compile(r"[.!]?\s{0,9}\Z|,|\.\s|\n"),
}
_AFTER_ANY: Final = re.compile(r"\s(?:is|would\sbe)\s(?:the\s)?(?:correct|right|best|answer)\b", re.IGNORECASE)


class Letters:
    """The letters that may be chosen, and what is understood as choosing one.

    Args:
        letters: capital letters.
    """

    def __init__(self, letters: str) -> None:
        one, small = f"[{letters}]", f"[{letters.lower()}]"
        words = "".join(letter for letter in letters if letter not in "AI")  # letters that are no words
        ends = rf"(?:{_FOLLOWS}|(?=\s{{0,9}}\n)|{_GOES_ON})"
        named = rf"(?:{one}{ends}|[{words}](?=\s))" if words else rf"{one}{ends}"
        self._leading = re.compile(rf"\W{{0,9}}(?i:{_LEAD_IN})[(\[\"'\u201c\u2018]?({named})", re.ASCII)
        self._small = re.compile(rf"[(\[]?({small})[)\].:]{{0,2}}\Z|\(?({small})\)(?=\s)")
        self._second = re.compile(
            rf"{_CLOSES}\s{{0,3}}(?:[,;/&|+.:]|\b(?i:or|and|nor|versus|vs\.?)\b|或|和)?\s{{0,3}}"
            rf"(?:(?i:or|and|maybe|perhaps|possibly|also|even|either|option|both)\s{{1,3}}){{0,3}}[(\[]?({one})"
            rf"(?:(?=\s{{1,3}}(?:or|and|nor)\b)|(?=[)\].,;:!?/&|+\\}}]|\s{{0,9}}\Z|\s{{0,9}}\n|\s{{1,3}}{one}\b)(?!\s[a-z]))"
        )
        self._option = re.compile(
            rf"(?:(?<![\w'])\(?|\b(?:or|and)\s{{1,3}})({one})\)|[,;]\s{{1,3}}({one})[.:)]"
            rf"|\b(?:or|and|[Oo]ption)\s{{1,3}}({one})(?=[.,;:!?]|\s{{0,9}}\Z)"
        )
        self._line = re.compile(rf"^[ \t]{{0,9}}[(\[]?({one})(?:[)\].:]|[ \t]{{0,9}}$)", re.MULTILINE)
        self._alone = re.compile(rf"\W{{0,9}}({one})\W{{0,9}}\Z", re.ASCII)
        self._single = re.compile(rf"{one}(?<![\w'].)(?!\w)", re.ASCII)
        self._bold = re.compile(rf"\*\*\(?({one})(?:[).:][^*\n]{{0,200}})?\*\*")

    def chosen(self, found: Found) -> str | None:
        """Returns the letter that a text chooses, None where it chooses none or more than one."""
        raw = found.text
        for _ in range(LATEX_DEPTH if "\\" in raw else 0):
            raw = _LATEX.sub(r"\1", raw)
        text = raw.translate(_PLAIN).strip()
        if found.how is not How.WITHIN:
            leading = self._leading.match(text)
            if leading:
                return self._unless_second(text, leading, exactly=found.how is How.EXACTLY)
        small = self._small.match(text)
        if small:
            return (small[1] or small[2]).upper()
        last = self._alone.match(text[text.rfind("\n") + 1 :])
        return last[1] if last else self._only_one(raw, text)

    def _unless_second(self, text: str, leading: re.Match[str], *, exactly: bool) -> str | None:
        """Returns the letter that a text begins with, None where it names another as if it were as right: A or B."""
        chosen, place = leading[1], leading.end()
        for _ in range(MAX_IN_A_ROW):
            second = self._second.match(text, place)
            if second is None:
                break
            if second[1] != chosen:
                return None
            place = second.end()
        text = text[: place + STATEMENT_CHARS]
        reason = _REASON.search(text, place)
        statement = text[place : reason.start()] if reason else text[place:]
        named = self._option.findall(_ASIDE.sub(" ", statement))
        others = {letter for letters in named for letter in letters if letter}
        if exactly:
            others.update(self._line.findall(text, place))
        return chosen if others <= {chosen} else None

    def _only_one(self, raw: str, text: str) -> str | None:
        """Returns the letter that is named as options are, if there is only one."""
        named: set[str] = set()
        for count, found in enumerate(self._single.finditer(text)):
            if count == MAX_SINGLE_LETTERS:
                return None
            if _is_named(text, found.start()):
                named.add(found[0])
        if "**" in raw:
            named.update(self._bold.findall(raw))
        return named.pop() if len(named) == 1 else None


def _is_named(text: str, place: int) -> bool:
    """Returns whether the single letter there is named as options are."""
    if _AFTER_ANY.match(text, place + 1):
        return True
    before = _BEFORE.search(text[max(0, place - BEFORE_CHARS) : place])
    if before is None or (before.lastgroup == "line" and place > BEFORE_CHARS and not before[0].startswith("\n")):
        return False
    return _AFTER[before.lastgroup or ""].match(text, place + 1) is not None
