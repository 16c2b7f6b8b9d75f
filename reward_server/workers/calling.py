"""Calls a person's reward function in a worker process and brings what it returns into one form.

Three ways of calling: TRL's by keywords on all samples, verl's on one sample at a time, OpenRLHF's on three lists.
Standard library only: worker processes import this.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import reprlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Sized
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from reward_server.workers.loading import Target, load

MAX_PARTS: Final = 32
"""More numbers beside a score are not told: a function may return whatever it likes."""
MAX_NAME_CHARS: Final = 100
MAX_EXPLANATION_CHARS: Final = 2000


@dataclass(frozen=True, slots=True)
class Separate:
    """The keywords of calls on one sample each, as verl makes them."""

    calls: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Together:
    """The keywords of one call on all samples whose results are each as verl's of one, as its batch manager makes it."""

    keywords: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Listed:
    """Lists that are passed by position, and keywords besides, as OpenRLHF does."""

    lists: Sequence[Sequence[Any]]
    keywords: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Graded:
    """A number with what a function told beside it."""

    score: float
    parts: Mapping[str, float]
    explanation: str = ""


Item = float | Graded | None | str
"""What a function gave for one sample: a number, None, or in words what it gave instead of either."""

Arguments = Mapping[str, Any] | Separate | Together | Listed


def call(target: Target, arguments: Arguments, count: int) -> list[Item] | str:
    """Returns what the function gives for `count` samples, or in words what it returned instead of that many."""
    function = load(target)
    if isinstance(arguments, Separate):
        return [graded_from(_awaited(function(**keywords))) for keywords in arguments.calls]
    if isinstance(arguments, Together):
        return items_from(_awaited(function(**arguments.keywords)), count, graded_from)
    if isinstance(arguments, Listed):
        return listed_from(_awaited(function(*arguments.lists, **arguments.keywords)), count)
    return items_from(_awaited(function(**arguments)), count)


def _awaited(result: Any) -> Any:
    return _runner().run(_wait(result)) if inspect.isawaitable(result) else result


@functools.cache
def _runner() -> asyncio.Runner:
    """Returns this worker's one event loop: as with TRL, what a function opens on it serves its next call too."""
    return asyncio.Runner()


async def _wait(result: Awaitable[Any]) -> Any:
    return await result


def items_from(result: Any, count: int, read: Callable[[Any], Item] | None = None) -> list[Item] | str:
    """Returns `count` items of a list, tuple, array, tensor or generator; of anything else what it is, in words.

    `read` makes an item of each; by default it must be a number.
    """
    if hasattr(result, "tolist"):  # arrays and tensors
        result = result.tolist()
    if isinstance(result, str | bytes | Mapping | AbstractSet) or not isinstance(result, Iterable):
        return f"returned {shown(result)}, not a list of numbers"
    items = list(islice(result, count + 1))
    if len(items) != count:
        there = len(result) if isinstance(result, Sized) else f"more than {count}" if len(items) > count else len(items)
        return f"returned {there} rewards for {count} completions"
    return [(read or item_from)(item) for item in items]


def item_from(item: Any) -> float | str | None:
    """Returns a number as a float, exactly; None as it is; anything else in words."""
    if item is None:
        return None
    try:
        value = item.item() if hasattr(item, "item") else item  # scalars of numpy and torch
        if hasattr(type(value), "__float__"):
            return float(value)
    except (ValueError, RuntimeError, OverflowError) as error:  # an array of several numbers; an integer out of range
        return f"returned {shown(item)}, which is not a number that a reward can be: {error}"
    return f"returned {shown(item)}, which is not a number"


def graded_from(result: Any) -> Item:
    """Returns what verl makes of one result: a number, or the `score` of a dict with what else stands there.

    Numbers beside the score become parts, all else words of the explanation.
    """
    if not isinstance(result, Mapping):
        return item_from(result)
    if "score" not in result:
        return f"returned {shown(dict(result))}, which has no 'score'"
    score = item_from(result["score"])
    if not isinstance(score, float):
        return score
    beside = {_name(name): value for name, value in result.items() if name != "score"}
    numbers = {name: number for name, value in beside.items() if (number := _number(value)) is not None}
    words = [f"{name}: {value}" for name, value in beside.items() if name not in numbers and value is not None]
    return Graded(score, dict(islice(numbers.items(), MAX_PARTS)), "\n".join(words)[:MAX_EXPLANATION_CHARS])


def listed_from(result: Any, count: int) -> list[Item] | str:
    """Returns what OpenRLHF makes of a result: numbers, or the `rewards` of a dict with `scores` and `extra_logs`.

    Both of the latter become parts, where they are a number for each sample.
    """
    if not isinstance(result, Mapping):
        return items_from(_a_list(result, count), count)
    if "rewards" not in result:
        return f"returned {shown(dict(result))}, which has no 'rewards'"
    items = items_from(_a_list(result["rewards"], count), count)
    if isinstance(items, str):
        return items
    parts = listed_parts(result, count)
    return [
        Graded(item, told) if isinstance(item, float) and told else item
        for item, told in zip(items, parts, strict=True)
    ]


def listed_parts(result: Mapping[Any, Any], count: int) -> list[dict[str, float]]:
    """Returns the numbers that stand beside OpenRLHF's `rewards` for each of `count` samples, by name."""
    logs = result.get("extra_logs")
    beside = {"scores": result.get("scores"), **(logs if isinstance(logs, Mapping) else {})}
    columns = {_name(name): _numbers(_a_list(values, count), count) for name, values in beside.items()}
    told = list(islice(((name, column) for name, column in columns.items() if column is not None), MAX_PARTS))
    return [{name: number for name, column in told if (number := column[index]) is not None} for index in range(count)]


def _name(key: Any) -> str:
    """Returns a part's name, as which any key may have been given."""
    return str(key).encode(errors="replace").decode()[:MAX_NAME_CHARS]


def _a_list(result: Any, count: int) -> Any:
    """Returns a single number for a single sample as a list of it: OpenRLHF calls with one sample at a time."""
    return [result] if count == 1 and _number(result) is not None else result


def _numbers(values: Any, count: int) -> list[float | None] | None:
    """Returns a number for each sample, None in place of what is none; None where they are not as many."""
    items = [] if values is None else items_from(values, count)
    return [_number(item) for item in items] if len(items) == count and not isinstance(items, str) else None


def _number(value: Any) -> float | None:
    """Returns a single finite number as a float, None for all else."""
    number = None if isinstance(value, str) else _quietly(value)
    return number if isinstance(number, float) and math.isfinite(number) else None


def _quietly(value: Any) -> float | str | None:
    try:
        if getattr(value, "ndim", 0):
            return None
        return item_from(value)
    except Exception:  # noqa: BLE001  # what stands beside a score must not cost it
        return None


def shown(value: Any) -> str:
    """Returns a value for a message, in short."""
    return f"{reprlib.repr(value)} (of type {type(value).__name__})"
