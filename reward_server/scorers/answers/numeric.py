r"""Whether the answer is the right number.

    gsm8k:   {numeric: {}}
    physics: {numeric: {answer: boxed, relative_tolerance: 0.01}}

Read are 1,234.5, 1e-3, 1.5 x 10^3, 1/2, 3 1/2, 50%, signs of currency and words around them: see `numbers`. Compared is
exactly, as decimals of any length, unless a tolerance is given; the larger of the two counts.

What the answer's place holds must be one number, what else stands there being words ("42 apples"), or end with
"= 42": of two numbers neither is the answer. Behind "the answer is" the first number counts, in a text without
any mark the last. A number that is part of an expression, such as 42 / x or \sqrt{42}, is none: see `around`.

A decimal comma, as in 3,5 or 1.234,56, is not read: a comma stands between thousands. Nor is
a word such as million: 42 million is 42.

Columns: `reference_column` ("answer"): a number, a text with one, or a list of them. Range: 0 or 1. Cost class: trivial.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from typing import Annotated, ClassVar, Final

from pydantic import Field

from reward_server.scorers.answers.around import bare, is_operand
from reward_server.scorers.answers.base import AnswerOptions, AnswerRule
from reward_server.scorers.answers.extraction import Found, How
from reward_server.scorers.answers.numbers import NUMBER, Number, begin_of, last_match, plain, read
from reward_server.scorers.base import RuleContext

Tolerance = Annotated[float, Field(strict=True, ge=0, le=1e300)]

NOT_EQUAL: Final = ("<", ">", "!", "~", "/")
"""What makes something else of the = behind it."""


class Percent(Enum):
    """What a percent sign means where only one of answer and reference has it."""

    EITHER = "either"  # 50% is 50 and is 0.5
    HUNDREDTH = "hundredth"  # 50% is 0.5
    IGNORED = "ignored"  # 50% is 50


class NumericOptions(AnswerOptions):
    """Where the number stands, and how near it must be."""

    relative_tolerance: Tolerance = Field(0.0, description="so far off, times the reference, is still right")
    absolute_tolerance: Tolerance = Field(0.0, description="so far off is still right")
    percent: Percent = Field(
        Percent.EITHER,
        description="what 50% equals where only one of the two has the sign: either (50 and 0.5), hundredth (0.5), "
        "ignored (50)",
    )


class Numeric(AnswerRule[Number]):
    """Scores 1 for an answer that is the reference's number, else 0."""

    kind: ClassVar[str] = "numeric"
    Options = NumericOptions

    def __init__(self, options: NumericOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._relative = Fraction(Decimal(repr(options.relative_tolerance)))
        self._absolute = Fraction(Decimal(repr(options.absolute_tolerance)))
        self._percent = options.percent

    def read(self, reference: str) -> Number | None:
        """Returns the number of a reference, None where there is none, or more than one."""
        return number_in(Found(reference, How.EXACTLY))

    def compare(self, found: Found, references: Sequence[Number]) -> tuple[float, str | None]:
        """Returns 1 for a number that a reference has too, and the number as it was written."""
        number = number_in(found)
        if number is None:
            return 0.0, None
        return float(any(self._is(number, reference) for reference in references)), number.written

    def _is(self, number: Number, reference: Number) -> bool:
        pairs = [(number.value, reference.value)]
        if number.percent != reference.percent and self._percent is not Percent.IGNORED:
            scaled = (
                number.value / (100 if number.percent else 1),
                reference.value / (100 if reference.percent else 1),
            )
            pairs = [scaled] if self._percent is Percent.HUNDREDTH else [*pairs, scaled]
        return any(self._near(value, wanted) for value, wanted in pairs)

    def _near(self, value: Fraction, wanted: Fraction) -> bool:
        if value == wanted or not (self._relative or self._absolute):
            return value == wanted
        return abs(value - wanted) <= max(self._absolute, self._relative * abs(wanted))


def number_in(found: Found) -> Number | None:
    """Returns the number that an answer is, None where there is none or it cannot be told which it is."""
    text = bare(plain(found.text))
    exactly = found.how is How.EXACTLY
    first = last_match(text) if found.how is How.WITHIN else NUMBER.search(text)
    if first is None:
        return None
    if found.how is not How.WITHIN and (exactly or _is_part(first, sentence=True)):
        before, equals, behind = text.rpartition("=")
        if before.endswith(NOT_EQUAL):
            return None
        first = NUMBER.search(behind) if equals else first
    if first is None or (exactly and NUMBER.search(first.string, first.end())):
        return None
    return None if _is_part(first, sentence=not exactly) else read(first)


def _is_part(number: re.Match[str], *, sentence: bool) -> bool:
    return is_operand(number.string, begin_of(number), number.end(), sentence=sentence)
