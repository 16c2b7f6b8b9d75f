"""What many small calls of one function are, and what comes of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from reward_server.errors import WorkerError
from reward_server.workers.tasks import Preparation


@dataclass(frozen=True, slots=True)
class ItemJob:
    """What is done with each item, in a worker process."""

    function: Callable[..., Any]  # importable there; called as function(*args, item); returns plain data
    args: tuple[Any, ...]  # plain data; kept there between items, so the function must not change it
    prepare: Preparation | None
    name: str  # for logs
    timeout_s: float  # of one item, in its own time
    memory_mb: int | None = None  # above what the process has when the item begins
    first_timeout_s: float | None = None
    """After this an item is stopped at first, and tried again behind the others with twice the time, up to
    `timeout_s` and as long as there is time for it before the deadline: so the quick ones are done first."""


@dataclass(slots=True)  # not frozen: that costs as much time as all else that the server does for a quick item
class ItemDone:
    """What an item's function returned, and how long the item waited for a worker."""

    value: Any
    queue_ms: float


ItemOutcome = ItemDone | WorkerError
