"""What the pool is given and gives back."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Preparation:
    """What a worker does once before its first task of that sort; it does not count as the task's time."""

    function: Callable[..., Any]
    args: tuple[Hashable, ...]
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Task:
    """A call of a function that the worker can import, with arguments that can be pickled. It returns plain data."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    prepare: Preparation | None = None
    name: str = ""  # for logs


@dataclass(frozen=True, slots=True)
class Done:
    """What a task returned, and how long it waited for a free worker."""

    value: Any
    queue_ms: float
