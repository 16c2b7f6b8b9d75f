"""Calls a TRL-style reward function in a worker process and brings what it returns into one form.

Standard library only: worker processes import this.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import reprlib
from collections.abc import Awaitable, Iterable, Mapping, Sized
from collections.abc import Set as AbstractSet
from itertools import islice
from typing import Any

from reward_server.workers.loading import Target, load

Item = float | None | str
"""What a function gave for one sample: a number, None, or in words what it gave instead of either."""


def call(target: Target, keywords: Mapping[str, Any], count: int) -> list[Item] | str:
    """Returns what the function gives for `count` samples, or in words what it returned instead of that many."""
    result = load(target)(**keywords)
    if inspect.isawaitable(result):
        result = _runner().run(_wait(result))
    return items_from(result, count)


@functools.cache
def _runner() -> asyncio.Runner:
    """Returns this worker's one event loop: as with TRL, what a function opens on it serves its next call too."""
    return asyncio.Runner()


async def _wait(result: Awaitable[Any]) -> Any:
    return await result


def items_from(result: Any, count: int) -> list[Item] | str:
    """Returns `count` items of a list, tuple, array, tensor or generator; of anything else what it is, in words."""
    if hasattr(result, "tolist"):  # arrays and tensors
        result = result.tolist()
    if isinstance(result, str | bytes | Mapping | AbstractSet) or not isinstance(result, Iterable):
        return f"returned {shown(result)}, not a list of numbers"
    items = list(islice(result, count + 1))
    if len(items) != count:
        there = len(result) if isinstance(result, Sized) else f"more than {count}" if len(items) > count else len(items)
        return f"returned {there} rewards for {count} completions"
    return [item_from(item) for item in items]


def item_from(item: Any) -> Item:
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


def shown(value: Any) -> str:
    """Returns a value for a message, in short."""
    return f"{reprlib.repr(value)} (of type {type(value).__name__})"
