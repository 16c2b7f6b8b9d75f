"""Calls a function on several items one after another, whatever it raises: for items that have raised before.

Standard library only: worker processes import this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from reward_server.workers.explaining import explain


def in_turn(function: Callable[..., Any], args: tuple[Any, ...], items: Sequence[Any]) -> list[tuple[bool, Any]]:
    """Returns for each item whether the function returned, and what, or in words what it raised."""
    return [_called(function, args, item) for item in items]


def _called(function: Callable[..., Any], args: tuple[Any, ...], item: Any) -> tuple[bool, Any]:
    try:
        return True, function(*args, item)
    except BaseException as error:  # noqa: BLE001  # sys.exit() too, as everywhere in a worker
        return False, explain(error).encode(errors="backslashreplace").decode()
