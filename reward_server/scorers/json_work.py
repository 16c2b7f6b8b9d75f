"""Counts the work of comparing a value with a JSON Schema, and does in linear time what the library does not.

A step is one keyword applied to one value, plus the size of what it reads or complains of. The library takes quadratic
time for `uniqueItems`, and each value of an `enum` in turn.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, Final

from jsonschema import ValidationError
from jsonschema.protocols import Validator

MAX_STEPS: Final = 200_000
"""About a second. A schema that refers to itself in `anyOf` can take a number of steps that doubles with each level."""

CHARS_A_STEP: Final = 500
"""So much text is looked through, sorted or quoted in the time of a step."""


class TooMuchWork(Exception):
    """It takes more than `MAX_STEPS` steps to compare a value with the schema."""


class Work:
    """Counts the steps of one comparison. Its validators run one at a time."""

    def __init__(self) -> None:
        self._left = MAX_STEPS
        self._sizes: dict[int, int] = {}

    def begin(self, value: Any) -> None:
        """Starts again, for another value, which must not change or go away until the next one."""
        self._left = MAX_STEPS
        self._sizes = _sizes(value)

    def charge(self, steps: int) -> None:
        """Counts steps. Raises `TooMuchWork` where there are too many."""
        self._left -= steps
        if self._left < 0:
            raise TooMuchWork

    def size_of(self, value: Any) -> int:
        """Returns the steps that it takes to read a value to its end."""
        return self._sizes.get(id(value), 1) if isinstance(value, list | dict) else _own_size(value)


class FittingSchema:
    """Tells whether values fit a schema.

    Args:
        validator: what applies the schema.
        work: where its keywords count their steps.
    """

    def __init__(self, validator: Validator, work: Work) -> None:
        self._validator, self._work = validator, work

    def is_valid(self, value: Any) -> bool:
        """Returns whether a value fits, False for one that takes too much work. Deep schemas raise `RecursionError`."""
        self._work.begin(value)
        try:
            return self._validator.is_valid(value)
        except TooMuchWork:
            return False


def counted(check: Callable[..., Any], work: Work) -> Callable[..., Iterator[ValidationError]]:
    """Returns the keyword's check, which counts what it does. A complaint quotes the value, so it costs its size."""

    def run(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        work.charge(1)
        for error in check(validator, wanted, instance, schema) or ():
            work.charge(work.size_of(instance))
            yield error

    return run


def _own_size(value: Any) -> int:
    return 1 + len(value) // CHARS_A_STEP if isinstance(value, str) else 1


def _sizes(value: Any) -> dict[int, int]:
    """Returns the size of each list and object in a value, with all that is in it, by its id."""
    order, waiting = [], [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, list | dict):
            order.append(each)
            waiting += each.values() if isinstance(each, dict) else each
    sizes: dict[int, int] = {}
    for each in reversed(order):  # what is inside comes first
        inner = each.values() if isinstance(each, dict) else each
        keys = sum(map(len, each)) // CHARS_A_STEP if isinstance(each, dict) else 0
        sizes[id(each)] = 1 + keys + sum(sizes.get(id(one)) or _own_size(one) for one in inner)
    return sizes


def _canonical(value: Any) -> str:
    """Returns a text that two values share only where JSON Schema has them equal: 1 is 1.0, and true is not 1.

    Numbers become texts too: texts have hashes that nobody can foresee, so that none can be made to meet.
    """
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{_canonical(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_canonical, value)) + "]"
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value)


def unique_items(work: Work) -> Callable[..., Iterator[ValidationError]]:
    """Returns the check that no item is in a list twice, in linear time: the library compares each with each."""

    def check(validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
        if not wanted or not validator.is_type(instance, "array"):
            return
        work.charge(work.size_of(instance))
        if len(set(map(_canonical, instance))) < len(instance):
            yield ValidationError("an item is there twice")

    return check


def enum(work: Work) -> Callable[..., Iterator[ValidationError]]:
    """Returns the check that a value is one of a list, likewise."""
    known: dict[int, tuple[Any, frozenset[str]]] = {}  # with the list itself: its id stays its own

    def check(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
        work.charge(work.size_of(instance))
        if id(wanted) not in known:
            known[id(wanted)] = wanted, frozenset(map(_canonical, wanted))
        if _canonical(instance) not in known[id(wanted)][1]:
            yield ValidationError("it is none of the values that it may be")

    return check
