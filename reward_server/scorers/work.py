"""What a scorer has its workers do for one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from reward_server.deadlines import before_deadline
from reward_server.domain import Call, Needs, Sample, Verdict
from reward_server.errors import WorkerError
from reward_server.workers.items import ItemDone, ItemJob
from reward_server.workers.pool import WorkerPool

Outcome = ItemDone | Verdict
"""What an item returned, or the missing verdict that stands for it."""


@dataclass(frozen=True, slots=True)
class Work:
    """What the workers do for one call: the items, and how to read what comes back."""

    pool: WorkerPool
    job: ItemJob
    items: Sequence[Any]
    samples: Sequence[Sample] | None  # of each item its sample; None: an item is of several, so none of them is blamed
    needs: Needs
    remaining_s: Callable[[], float]
    is_scored: Callable[[ItemDone], bool]
    reason: Callable[[int, WorkerError], str]  # of an item, why it has no value, for a person
    fault: Callable[[ItemDone], WorkerError | None] | None = None  # what is wrong with a value; None = never anything
    item_of: Callable[[Sample], Any] | None = None  # makes the item of a sample that is not in the call
    second_counts: bool = True  # what an item gives alone may stand for what it would have given among others


def time_for(call: Call, share: float = 1.0) -> Callable[[], float]:
    """Returns what tells the seconds left for work that may take that share of the time, from when it is first asked.

    Its end can be told before the deadline in any case.
    """
    until: float | None = None

    def remaining_s() -> float:
        nonlocal until
        now = time.monotonic()
        if until is None:
            left_s = call.deadline - now
            until = now + min(share * left_s, before_deadline(left_s))
        return max(0.0, until - now)

    return remaining_s
