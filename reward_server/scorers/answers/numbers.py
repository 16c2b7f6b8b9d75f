"""Numbers as people and models write them: found in a text, and read exactly.

Read are 42, -1,234.5, .5, 1e-3, 1.5 x 10^3, 1/2, 3 1/2, 50%, with a sign of currency; in LaTeX also fractions and
`1{,}234`. Not read, so never equal to anything: NaN, infinity, more than `MAX_DIGITS` digits, exponents of over four
digits, a division by zero.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Final

MAX_DIGITS: Final = 6_000
"""Reading a number takes more than linear time: a longer one is none."""

MAX_EXPONENT_DIGITS: Final = 4

CURRENCY: Final = "$€£¥₹"
SIGN_TO_NUMBER: Final = f" \t({{[\\{CURRENCY}"
BEFORE_SIGN: Final = ("=", "(", "[", "{", ":", ",", *CURRENCY)
OPERAND_ENDS: Final = ("_", ")", ".", "}", "]")
NUMBER: Final = re.compile(
    r"(?P<digits>[.0-9]"  # such a beginning is searched for fast; what stands before it says whether it is one
    r"(?:(?<=[0-9])(?<![A-Za-z0-9_][0-9])(?<![0-9]\.[0-9])(?:[0-9]{0,2}(?:,[0-9]{3})+(?![0-9])|[0-9]*)(?:\.[0-9]+)?|(?<=\.)(?<![\w.]\.)[0-9]+))"
    r"(?:[eE](?P<e>[-+]?[0-9]+)\b|\s?(?:[x×*]|\\times|\\cdot)\s?10(?:\^|\*\*)\{?(?P<power>[-+]?[0-9]+)\}?)?"  # noqa: RUF001
    r"(?:\s?/\s?(?P<below>[0-9]+)(?!\.?[0-9/])|\s(?P<top>[0-9]+)/(?P<bottom>[0-9]+)(?!\.?[0-9/]))?"
    r"(?P<percent>\s?%)?"
)

_AS_ASCII: Final = {
    **dict.fromkeys(map(ord, "\u2212\u2013\uff0d\ufe63"), "-"),  # minus signs
    **dict.fromkeys(map(ord, "\u2009\u202f"), None),  # narrow blanks, as between thousands
    **{0xFF10 + digit: str(digit) for digit in range(10)},  # full-width digits
    ord("\u00a0"): " ",
    ord("\uff05"): "%",
    ord("\uff0c"): ",",
    ord("\uff04"): "$",
}
_LATEX: Final = (
    (r"\$", "$"),
    (r"\%", "%"),
    ("{,}", ","),
    (r"\,", ""),
    (r"\!", ""),
    ("dfrac", "frac"),
    ("tfrac", "frac"),
)
_BRACKET_SIZE: Final = re.compile(r"\\(?:left|right|big|Big|bigg|Bigg)(?![A-Za-z])")
_FRACTION: Final = re.compile(r"(?P<before>[0-9])?\\frac\s?(?:\{(-?[0-9]{1,99})\}\s?\{([0-9]{1,99})\}|([0-9])([0-9]))")


@dataclass(frozen=True, slots=True)
class Number:
    """A number that was written somewhere."""

    value: Fraction  # 50% is 50
    percent: bool = False  # a percent sign follows it
    written: str = field(default="", compare=False)


def plain(text: str) -> str:
    """Returns the text with signs of other scripts and LaTeX's spellings of numbers as ASCII has them."""
    if not text.isascii():
        text = text.translate(_AS_ASCII)
    if "\\" in text or "{" in text:
        for spelling, sign in _LATEX:
            text = text.replace(spelling, sign)
        text = _FRACTION.sub(_as_division, _BRACKET_SIZE.sub("", text))
    return text


def last_match(text: str) -> re.Match[str] | None:
    """Returns the last number of a text."""
    last = None
    for last in NUMBER.finditer(text):  # noqa: B007  # read below
        pass
    return last


def begin_of(found: re.Match[str]) -> int:
    """Returns where a number begins, with its sign or that of a currency.

    In 5-3 there is no sign. One with a blank or bracket behind it, as in -(42), is one only where an answer begins: behind
    a word it is a dash, and at the beginning of a later line it marks an item.
    """
    text, begin = found.string, found.start()
    head = text[:begin].rstrip(SIGN_TO_NUMBER)
    before = head[:-1]
    if not head.endswith(("+", "-")):
        return begin - (begin > 0 and text[begin - 1] in CURRENCY)
    if text[len(head) : begin].strip(CURRENCY):  # brackets or blanks
        before = before.rstrip(" \t")
        return len(head) - 1 if before.endswith(BEFORE_SIGN) or not before else begin
    return begin if before[-1:].isalnum() or before.endswith(OPERAND_ENDS) else len(head) - 1


def read(found: re.Match[str]) -> Number | None:
    """Returns the value of a match of `NUMBER`, None where it has none that could be told."""
    parts = found.groupdict()
    digits = parts["digits"].replace(",", "")
    exponent = parts["e"] or parts["power"] or "0"
    others = [part for part in (parts["below"], parts["top"], parts["bottom"]) if part]
    if len(exponent.lstrip("+-")) > MAX_EXPONENT_DIGITS or any(len(part) > MAX_DIGITS for part in (digits, *others)):
        return None
    value = _exact(digits) * Fraction(10) ** int(exponent)
    below = _exact(parts["below"] or parts["bottom"] or "1")
    if not below:
        return None
    value = value + _exact(parts["top"]) / below if parts["top"] else value / below
    written = found.string[begin_of(found) : found.end()]
    return Number(-value if written[0] == "-" else value, parts["percent"] is not None, written)


def _exact(digits: str) -> Fraction:
    return Fraction(Decimal(digits))  # int() refuses long ones


def _as_division(found: re.Match[str]) -> str:
    top, bottom = found[2] or found[4], found[3] or found[5]
    return f"{found['before']} {top}/{bottom}" if found["before"] else f"{top}/{bottom}"
