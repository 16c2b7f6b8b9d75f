"""Results in memory: what was once found out is not asked again, and two who ask at the same time ask once.

The asking is done by a *flight*: a task of its own, so that it belongs to none of its waiters. It lasts as long as
somebody waits for it; each waiter may leave, at its own deadline or because its call was cancelled, without the others
noticing. At no time are there two flights for a key.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeVar

from reward_server.errors import AnswerTimedOut, EngineError

T = TypeVar("T")

ENTRY_BYTES: Final = 300
"""About what an entry takes in memory besides its value: key, bookkeeping, a slot of the dictionary."""


LAST_WORD_S: Final = 0.05
"""An asking is to end so long before the last of its waiters leaves, so that its own reason still reaches them."""


class Deadline:
    """When an asking is to end: `LAST_WORD_S` before the latest deadline of those who wait for it now.

    Call it for the present value, on `time.monotonic()`'s clock, seconds: it moves as waiters come and go.
    """

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[float] = []

    def __call__(self) -> float:
        """Returns it; in the past when nobody waits."""
        return max(self._waiting, default=float("-inf")) - LAST_WORD_S

    def join(self, deadline: float) -> None:
        """Counts one more waiter."""
        self._waiting.append(deadline)

    def leave(self, deadline: float) -> None:
        """Counts a waiter with this deadline no more."""
        self._waiting.remove(deadline)

    @property
    def waiting_count(self) -> int:
        """Returns how many wait."""
        return len(self._waiting)


class MemoryCounts(NamedTuple):
    """How often something was asked for, by how it was come by."""

    hits: int  # it was remembered
    joins: int  # somebody else was already asking
    misses: int  # it had to be asked


class _Kept(NamedTuple):
    value: Any
    size_bytes: int


@dataclass(slots=True, eq=False)
class _Flight:
    """One asking and who waits for it."""

    task: asyncio.Task[Any] | None = None
    deadline: Deadline = field(default_factory=Deadline)
    asking: bool = False  # it is past waiting for its predecessor's end


class VerdictMemory:
    """Remembers results by key, and lets those who ask for the same at the same time share one asking.

    A result is kept until room is needed; the least recently used goes first. Errors are not kept. One instance
    belongs to one event loop.

    Args:
        max_bytes: results are kept up to this much memory; 0 keeps none and still shares what is asked.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()  # least recently used first
        self._kept_bytes = 0
        self._flights: dict[bytes, _Flight] = {}  # those that can be joined
        self._ending: dict[bytes, asyncio.Task[Any]] = {}  # cancelled while they asked, and not at their end yet
        self._closed = False
        self._hits = self._joins = self._misses = 0

    @property
    def counts(self) -> MemoryCounts:
        """Returns how often it was asked so far, and how that went."""
        return MemoryCounts(self._hits, self._joins, self._misses)

    @property
    def kept_bytes(self) -> int:
        """Returns about how much memory the results take."""
        return self._kept_bytes

    @property
    def kept_count(self) -> int:
        """Returns how many results are remembered."""
        return len(self._kept)

    @property
    def flight_count(self) -> int:
        """Returns how many askings have not come to their end, cancelled ones included."""
        return len(self._flights) + len(self._ending)

    async def get(
        self, key: bytes, size_of: Callable[[T], int], compute: Callable[[Deadline], Awaitable[T]], deadline: float
    ) -> T:
        """Returns the result for a key: remembered, from an asking under way, or from one that is begun now.

        Cancelling it leaves the asking to those who still wait; when the last one leaves, the asking is cancelled.

        Args:
            key: the same key, the same result.
            size_of: about how many bytes a result takes in memory.
            compute: asks; it is given the deadline of all who wait for it. It runs in a task of its own, in a copy of
                the context of the one who came first.
            deadline: when to leave, on `time.monotonic()`'s clock.

        Raises:
            AnswerTimedOut: the deadline passed first.
            EngineError: the asking was cancelled under its waiters, as at a shutdown.
            Exception: what `compute` raised, for all who waited; the next one asks again.
        """
        kept = self._remembered(key)
        if kept is not None:
            self._hits += 1
            return kept.value  # type: ignore[no-any-return]  # a key has results of one type
        if deadline <= time.monotonic():
            raise AnswerTimedOut("not asked: the call's deadline had passed")
        if self._closed:
            raise EngineError("not asked: the server is shutting down")
        flight = self._flights.get(key)
        if flight is None or flight.task is None or flight.task.done():
            self._misses += 1
            flight = self._begin(key, size_of, compute)
        else:
            self._joins += 1
        return await self._wait(key, flight, deadline)  # type: ignore[no-any-return]  # a key has results of one type

    async def close(self) -> None:
        """Cancels every asking and returns when all have ended; whoever waits is given an `EngineError`."""
        self._closed = True
        tasks = [flight.task for flight in self._flights.values() if flight.task is not None]
        for task in tasks:
            task.cancel()
        if tasks := [*tasks, *self._ending.values()]:
            await asyncio.wait(tasks)

    def _begin(self, key: bytes, size_of: Callable[[T], int], compute: Callable[[Deadline], Awaitable[T]]) -> _Flight:
        flight = _Flight()
        self._flights[key] = flight
        flight.task = asyncio.create_task(self._fly(key, flight, size_of, compute))
        flight.task.add_done_callback(lambda task: self._landed(key, flight, task))
        return flight

    async def _fly(
        self, key: bytes, flight: _Flight, size_of: Callable[[T], int], compute: Callable[[Deadline], Awaitable[T]]
    ) -> T:
        if predecessor := self._ending.get(key):
            await asyncio.wait({predecessor})
        kept = self._remembered(key)
        if kept is not None:  # the predecessor had come to its result before it took notice of being cancelled
            return kept.value  # type: ignore[no-any-return]  # a key has results of one type
        flight.asking = True
        value = await compute(flight.deadline)
        self._keep(key, _Kept(value, ENTRY_BYTES + size_of(value)))
        return value

    async def _wait(self, key: bytes, flight: _Flight, deadline: float) -> Any:
        """Returns what the flight brings, unless its waiter leaves first.

        The task is waited *for*, never awaited itself: so neither does a waiter's cancellation reach the task, nor the
        task's its waiters.
        """
        task = flight.task
        assert task is not None  # noqa: S101  # `_begin` has just set it, or has for another
        flight.deadline.join(deadline)
        try:
            timeout_s = None if deadline == float("inf") else deadline - time.monotonic()
            await asyncio.wait({task}, timeout=timeout_s)
        finally:
            flight.deadline.leave(deadline)
            if not flight.deadline.waiting_count and not task.done():
                self._abandon(key, flight, task)
        if not task.done():
            raise AnswerTimedOut("no answer before the call's deadline")
        if task.cancelled():
            raise EngineError("the question was cancelled before its answer came: its engine is shutting down")
        return task.result()

    def _abandon(self, key: bytes, flight: _Flight, task: asyncio.Task[Any]) -> None:
        """Cancels a flight that nobody waits for. Who comes now begins another, which lets this one end first."""
        del self._flights[key]
        if flight.asking:
            self._ending[key] = task
        task.cancel()

    def _landed(self, key: bytes, flight: _Flight, task: asyncio.Task[Any]) -> None:
        if self._flights.get(key) is flight:
            del self._flights[key]
        if self._ending.get(key) is task:
            del self._ending[key]
        if not task.cancelled():
            task.exception()  # asked for, so that asyncio does not complain when all who waited have left

    def _remembered(self, key: bytes) -> _Kept | None:
        kept = self._kept.get(key)
        if kept is not None:
            self._kept.move_to_end(key)
        return kept

    def _keep(self, key: bytes, kept: _Kept) -> None:
        if kept.size_bytes > self._max_bytes:
            return
        self._kept[key] = kept
        self._kept_bytes += kept.size_bytes
        while self._kept_bytes > self._max_bytes:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.size_bytes
