"""Whether what a program wrote or returned is what was expected."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any, Final

RELATIVE_TOLERANCE: Final = 1e-6
ABSOLUTE_TOLERANCE: Final = 1e-9
MAX_DEPTH: Final = 100


class Compare(Enum):
    """How written texts are compared."""

    LINES = "lines"  # line by line; blanks at the ends of lines and empty lines at the end don't count
    TOKENS = "tokens"  # what stands between blanks; numbers may differ by a millionth
    EXACT = "exact"


def same_text(written: str, expected: str, how: Compare) -> bool:
    """Returns whether a program's output is the expected one."""
    if how is Compare.EXACT:
        return written == expected
    if how is Compare.LINES:
        return _lines(written) == _lines(expected)
    ours, theirs = written.split(), expected.split()
    return len(ours) == len(theirs) and all(map(_same_token, ours, theirs))


def same_value(returned: str, expected: Any) -> bool:
    """Returns whether a JSON text is the value expected.

    Tuples and lists are the same, numbers may differ by a millionth, and `[x]` stands for `x` too, since datasets of
    that form wrap what a function returns.
    """
    try:
        value = json.loads(returned)
    except (ValueError, RecursionError):
        return False
    if _same(value, expected, MAX_DEPTH):
        return True
    return isinstance(expected, list) and len(expected) == 1 and _same(value, expected[0], MAX_DEPTH)


def _same(one: Any, other: Any, depth: int) -> bool:
    if depth == 0:
        return False
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return _close(one, other)
    if isinstance(one, list) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(_same(a, b, depth - 1) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict) and isinstance(other, Mapping):
        # JSON's keys are texts, those of Python's dicts need not be
        wanted = {str(key): value for key, value in other.items()}
        return one.keys() == wanted.keys() and all(_same(one[key], wanted[key], depth - 1) for key in one)
    return bool(one == other)


def _close(one: float, other: float) -> bool:
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    try:
        return math.isclose(one, other, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
    except OverflowError:
        return False


def _same_token(one: str, other: str) -> bool:
    if one == other:
        return True
    try:
        return _close(float(one), float(other)) and not (one.isdigit() and other.isdigit())
    except ValueError:
        return False


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.rstrip().splitlines()]
