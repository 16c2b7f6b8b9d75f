"""How the texts of mathematical answers are given to math-verify, which looks for answers inside texts.

It finds `2x+1` only between dollar signs; of the bare text it would read the 2. Datasets have bare answers, so those
are put between dollar signs here. In a solution as GSM8K has them, "... #### 72", the answer is what follows the mark.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal

from reward_server.scorers.answers.around import EMPHASIS
from reward_server.scorers.answers.extraction import GSM8K_MARK
from reward_server.scorers.expressions import compiled
from reward_server.scorers.texts import decodable

Form = Literal["auto", "latex", "text"]
"""What a text is that holds an answer: the formula, a text in which the formula stands, or whichever it looks like."""

EMPHASIS_MARKS: Final = ("***", "**", "*", "`")
DELIMITERS: Final = ("$", "\\(", "\\[", "\\boxed")
MAX_FORMULA_CHARS: Final = 10_000
"""A bare formula longer than this is none that anybody wrote: to read it would take all the time there is."""

PLAIN_NUMBER: Final = compiled(r"-?\s*[$€£¥]?\s*(\d{1,3}(,\d{3})+|\d+)?(\.\d+)?\s*(%|percent)?")
DECIMAL_COMMA: Final = compiled(r"-?\d+,\d+\s*(%|percent)?")
WITH_EXPONENT: Final = compiled(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d{1,4}")
COMMAND: Final = compiled(r"\\(?:text|mathrm|textbf|mbox|operatorname)\s*\{[^{}]*\}|\\[a-zA-Z]+")
WORD: Final = compiled(r"\pL{2,}")
JOINTS: Final = frozenset({"and", "or", "sqrt", "sin", "cos", "tan", "log", "ln", "exp", "pi"})
"""Runs of letters that stand in formulas too."""


def reference_texts(value: Any) -> tuple[str, ...]:
    """Returns the texts of a reference column's value: one, or several of which any is right; empty = unreadable."""
    values = value if isinstance(value, list | tuple) else [value]
    texts = [_text(one) for one in values]
    return tuple(text for text in texts if text is not None and text.strip())


def _text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return str(value)
    except ValueError:  # an integer of thousands of digits
        return None


def readings(text: str, form: Literal["auto", "latex"], *, numbers_only: bool = False) -> tuple[str, ...]:
    """Returns a bare answer in ways in which math-verify reads it as a whole; see `reward math` in docs/rewards.md.

    Args:
        text: the answer, and in form auto perhaps words around it.
        form: what the text is.
        numbers_only: no formulas are compared, so that 1,22 is a number and not two.
    """
    text = decodable(text).strip()  # the expressions below take no half surrogate pairs
    if form == "auto":
        text = text.rpartition(GSM8K_MARK)[2].strip()
    if WITH_EXPONENT.fullmatch(text):
        return (_without_exponent(text),)
    if form == "auto" and (PLAIN_NUMBER.fullmatch(text) or _has_delimiters(text) or _is_prose(text)):
        return (text,)
    if len(text) > MAX_FORMULA_CHARS:
        return ()
    if numbers_only and DECIMAL_COMMA.fullmatch(text):
        return (text,)
    if WORD.fullmatch(text):
        return (f"${text}$", f"$\\text{{{text}}}$")
    return (f"${text}$",)


def without_emphasis(text: str) -> str:
    """Returns an answer without Markdown's marks of emphasis: **72** is 72. Stars inside delimited formulas stay."""
    for mark in EMPHASIS_MARKS:
        inner = text[len(mark) : -len(mark)]
        if text.startswith(mark) and text.endswith(mark) and inner.strip() and mark not in inner:
            return inner.strip()
    return text if _has_delimiters(text) else EMPHASIS.sub(r"\2", text)


def _has_delimiters(text: str) -> bool:
    text = text.replace("\\$", "")
    return any(delimiter in text for delimiter in DELIMITERS)


def _is_prose(text: str) -> bool:
    if not any(map(str.isspace, text)):
        return False
    words = WORD.findall(COMMAND.sub(" ", text))
    return any(word.lower() not in JOINTS for word in words)


def _without_exponent(text: str) -> str:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return text
    if abs(value.adjusted()) <= 30 and value.is_finite():  # noqa: PLR2004  # so many digits are still a number to read
        return format(value, "f")
    mantissa, _, exponent = text.lower().partition("e")
    return f"${mantissa} \\cdot 10^{{{int(exponent)}}}$"
