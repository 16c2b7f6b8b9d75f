r"""What stands around a number: words and units leave it as it is, operators and commands make it part of something else.

42 apples, \$42, 42\text{ cm}^2 and x = 42 are 42. \sqrt{42}, 42\pi, x < 42, 42 / x, 42_8 and "not 42" are not.

All expressions have bounded quantifiers, and those for what stands before a number look at the last characters only.
"""

from __future__ import annotations

import re
from typing import Final

MAX_COMMAND_CHARS: Final = 40

_TEXT: Final = re.compile(
    r"\\(?:text|mathrm|textrm|mbox|textbf|mathbf|textit|mathit|textsf|mathsf|textnormal|operatorname|bm|boldsymbol)\s?"
    r"\{([^{}]{0,99})\}"
)
_UNIT_POWER: Final = re.compile(
    r"(\\(?:text|mathrm|textrm|mbox|textbf|mathbf|textnormal)\s?\{(?=[^{}]{0,99}[A-Za-z])[^{}0-9]{1,99}\})\^(?:[0-9]|\{-?[0-9]\})"
)
_HARMLESS: Final = re.compile(
    r"\\(?:displaystyle|textstyle|quad|qquad|bf|rm|approx|therefore|implies|[Rr]ightarrow|pounds?|euro|yen|degree|circ)(?![A-Za-z])"
    r"|\^\{?(?:\\circ(?![A-Za-z])|\u00b0)\}?|[-=]>|</?[A-Za-z][^<>\n]{0,40}>"
)
EMPHASIS: Final = re.compile(r"(?<![A-Za-z0-9*)}\]])(\*{1,3}|`)(?=[^\s*`])([^*`\n]{1,200})(?<=\S)\1(?![A-Za-z0-9*({])")

_OPENING: Final = " \t\r\n({[\\$"
_CLOSING: Final = " \t\r\n)}]$"

_NO_OPERAND: Final = re.compile(  # at the end of what stands before a number: then it is no answer
    rf"(?:\\[A-Za-z]{{1,{MAX_COMMAND_CHARS}}}(?:_[A-Za-z0-9])?"
    r"|[<>\u2260\u2264\u2265+/^_\u00d7\u00f7\u00b7\u221a\u221b\u00b1|!~}]"
    r"|(?:(?<![A-Za-z])[A-Za-z]|[0-9)\]}*])\s{0,3}[-*]{1,2}"  # x - 42, but not Total - 42 or * 42
    r"|\b(?:not|isn't|isn\u2019t|minus|negative|sqrt|log|ln|sin|cos|tan|exp|abs)"
    r"|-)\Z",
    re.IGNORECASE,
)
_JOINED: Final = re.compile(r"(?:[A-Za-z)\]]\(|[)\]]|[0-9],|!)\Z")  # without a blank: f(42), (x)42, 3,42, !42
_WORD_ENDS: Final = re.compile(
    r"(?:!|~|[A-Za-z]{2,20}\s{0,3}-|(?:\A|\n)[ \t]{0,9}-)\s{1,9}\Z|~\Z|(?:\A|\n)[ \t]{0,9}>?[ \t]{0,9}\Z"
)

_OPERAND: Final = r"(?:[A-Za-z](?![A-Za-z])(?!\s[A-Za-z]{2})|\.?[0-9]|[({\[$\u03c0\u221a]|\\[A-Za-z({\[])"
_GOES_ON: Final = re.compile(
    r"\\[A-Za-z]"
    r"|[\^_\u00d7\u00f7\u00b7\u00b1\u221a\u221e\u2030\u00b2\u00b3\u00b9\u00bc-\u00be\u2070-\u209f\u2150-\u215f\u03c0]"
    rf"|(?:\*{{1,2}}|/)\s{{0,3}}[-+]?{_OPERAND}"
    rf"|[-+]\s{{0,3}}{_OPERAND}"
    r"|[<>\u2260\u2264\u2265]=?\s{0,3}[-\w\\]"
    r"|[xyz](?![A-Za-z])|(?:plus|minus|factorial|mod|divided)\b|\\_"
    r"|[,;]\s{0,3}(?:[A-Za-z](?![A-Za-z])(?!\s[A-Za-z]{2})|\\[A-Za-z])"  # [42, x)
    r"|=",
)
_DIRECTLY: Final = re.compile(r"[ienk](?![A-Za-z])|\(\s{0,3}(?:[A-Za-z](?![A-Za-z])|[0-9])|,[0-9]|\.[0-9]")


def bare(text: str) -> str:
    r"""Returns a text without what only says how it is written: \text{...}, emphasis, powers of units, elements."""
    if "\\" in text:
        text = _UNIT_POWER.sub(r"\1", text)
        for _ in range(2):
            text = _TEXT.sub(r" \1 ", text)
    text = _HARMLESS.sub(" ", text.replace("{}", ""))
    return EMPHASIS.sub(r" \2 ", text) if "*" in text or "`" in text else text


def is_operand(text: str, begin: int, end: int, *, sentence: bool) -> bool:
    """Returns whether a number with its sign is only a part of what is written.

    Args:
        text: where it stands, `bare`.
        begin: where the number begins, with its sign.
        end: where it ends.
        sentence: an exclamation mark behind it is no factorial.
    """
    return _is_led(text[:begin]) or goes_on(text, end, sentence=sentence)


def _is_led(before: str) -> bool:
    near = before[-MAX_COMMAND_CHARS:]
    if _JOINED.search(near):
        return True
    if _WORD_ENDS.search(near):
        return False
    return _NO_OPERAND.search(before.rstrip(_OPENING)[-MAX_COMMAND_CHARS - 1 :]) is not None


def goes_on(text: str, end: int, *, sentence: bool) -> bool:
    """Returns whether an expression goes on behind a number."""
    if _DIRECTLY.match(text, end):
        return True
    behind = text[end:].lstrip(_CLOSING)
    return _GOES_ON.match(behind) is not None or (behind.startswith("!") and not sentence)
