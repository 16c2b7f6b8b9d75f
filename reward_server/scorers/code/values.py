"""Values of Python on their way out of a sandbox: written there as JSON with their types, and compared here.

Plain things (None, truth values, texts, floats, small integers, lists) are JSON's own. All else is a mapping with one key
that names its type: `{"tuple": [...]}`, `{"set": [...]}`, `{"dict": [[key, value], ...]}`, `{"int": "0x..."}`,
`{"ratio": ["0x...", "0x..."]}`, `{"bytes": "..."}`, `{"other": "its type"}`. What is read is hostile: it is compared piece by piece
with what is expected, which bounds the work, and no container is made of it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Final

from reward_server.scorers.code.hiding import Expected, How

MAX_HEX_CHARS: Final = 4_000  # no literal has more digits
MAX_SHOWN_CHARS: Final = 300
MAX_KEY_DEPTH, MAX_KEY_ITEMS = 8, 1_000

TELLING: Final = '''
def _tell(value, told=[]):
    """Notes a value as it is now; without one returns what was noted. Names of the program's may be anything."""
    import builtins as b, collections.abc as c, decimal, fractions
    def plain(value, depth=0):
        kind = b.type(value)
        if value is None or kind in (b.bool, b.str, b.float):
            return value
        if depth > 100:
            return {"other": "too deep"}
        def all_of(items):
            return [plain(item, depth + 1) for item in items]
        if b.isinstance(value, b.int):
            value = b.int(value)
            return value if -(1 << 53) < value < 1 << 53 else {"int": b.hex(value)}
        if b.isinstance(value, b.float):
            return b.float(value)
        if b.isinstance(value, b.str):
            return b.str.__str__(value)
        if b.isinstance(value, b.list):
            return all_of(value)
        if b.isinstance(value, b.tuple):
            return {"tuple": all_of(value)}
        if b.isinstance(value, c.Set):
            return {"set": all_of(value)}
        if b.isinstance(value, b.dict):
            return {"dict": [all_of(pair) for pair in value.items()]}
        if b.isinstance(value, (b.bytes, b.bytearray)):
            return {"bytes": value.hex()}
        if b.isinstance(value, (decimal.Decimal, fractions.Fraction)):
            try:
                return {"ratio": [b.hex(part) for part in value.as_integer_ratio()]}
            except (b.ValueError, b.OverflowError):
                return plain(b.float(value))
        if b.hasattr(kind, "item") and b.hasattr(kind, "dtype") and b.getattr(value, "shape", None) == ():
            return plain(value.item(), depth + 1)
        return {"other": kind.__name__}
    told.append(plain(value))

def _end(mark):
    """Writes what was told."""
    import json, sys
    sys.stdout.write(chr(10) + mark + json.dumps(_tell.__defaults__[0]) + chr(10))
    sys.stdout.flush()
'''
"""Runs in the sandbox before the test's own code."""


def differing(text: str, expected: Iterable[Expected]) -> str | None:
    """Returns what is wrong with the values that a test told, in words; None where all are as expected."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError):
        return "it wrote something else than its test told"
    wanted = list(expected)
    if not isinstance(told, list) or len(told) != len(wanted):
        return "its test told too few values or too many"
    for value, expectation in zip(told, wanted, strict=True):
        if not _holds(value, expectation):
            return f"it returned {shown(value)}"
    return None


def shown(value: Any) -> str:
    """Returns a value as it was told, short."""
    try:
        text = json.dumps(value)
    except RecursionError:
        return "something nested deeply"
    return text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + " ..."


def _holds(told: Any, expected: Expected) -> bool:
    if expected.how is How.SAME:
        return told is expected.value
    if expected.how is How.EQUAL:
        return same(told, expected.value)
    number = _scalar(told)
    if not isinstance(number, int | float | Fraction):
        return False
    try:
        if expected.how is How.BELOW:
            return bool(abs(number - expected.value) < expected.absolute)
        return math.isclose(number, expected.value, rel_tol=expected.relative, abs_tol=expected.absolute)
    except OverflowError:
        return False


def same(told: Any, expected: Any) -> bool:
    """Returns whether a value told is equal to an expected one, as Python compares: lists are no tuples, 1 is 1.0."""
    if isinstance(expected, list):
        return isinstance(told, list) and _same_items(told, expected)
    if isinstance(expected, tuple):
        items = _told_as(told, "tuple")
        return isinstance(items, list) and _same_items(items, expected)
    if isinstance(expected, set | frozenset):
        items = _told_as(told, "set")
        return isinstance(items, list) and len(items) == len(expected) and _keys(items, expected) == expected
    if isinstance(expected, dict):
        return _same_dict(_told_as(told, "dict"), expected)
    scalar = _scalar(told)
    return bool(scalar is not _NONE_SUCH and scalar == expected)


def _same_items(items: list[Any], expected: Any) -> bool:
    return len(items) == len(expected) and all(same(*pair) for pair in zip(items, expected, strict=True))


def _same_dict(pairs: Any, expected: dict[Any, Any]) -> bool:
    if not isinstance(pairs, list) or len(pairs) != len(expected):
        return False
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):  # noqa: PLR2004  # a key and a value
        return False
    found = _keys([key for key, _ in pairs], expected.keys())
    return found == expected.keys() and all(same(value, expected[_key(key)]) for key, value in pairs)


def _keys(items: list[Any], expected: Any) -> set[Any]:
    """Returns those of the items that are expected: what a program chooses never fills a table of hashes."""
    return {key for key in map(_key, items) if key in expected}


_NONE_SUCH: Final = object()


def _key(told: Any, depth: int = 0) -> Any:
    """Returns a scalar, or a tuple of such."""
    items = _told_as(told, "tuple")
    if isinstance(items, list) and depth < MAX_KEY_DEPTH and len(items) <= MAX_KEY_ITEMS:
        return tuple(_key(item, depth + 1) for item in items)
    return _scalar(told)


def _told_as(told: Any, kind: str) -> Any:
    return told.get(kind) if isinstance(told, dict) and len(told) == 1 else None


def _scalar(told: Any) -> Any:
    """Returns a value that is no container; `_NONE_SUCH` for all else."""
    if told is None or isinstance(told, bool | int | float | str):
        return told
    try:
        if (text := _told_as(told, "int")) is not None:
            return _integer(text)
        if (parts := _told_as(told, "ratio")) is not None:
            return Fraction(*map(_integer, parts))
        if (text := _told_as(told, "bytes")) is not None:
            return bytes.fromhex(text)
    except (ValueError, TypeError, ZeroDivisionError):
        pass
    return _NONE_SUCH


def _integer(text: str) -> int:
    if len(text) > MAX_HEX_CHARS:
        raise ValueError("longer than anything expected")
    return int(text, 16)
