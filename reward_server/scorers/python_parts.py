"""Calls a function on many parts of a batch, so that no part keeps the others from being scored."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass

from reward_server.domain import Verdict
from reward_server.errors import PoolClosed, WorkerError, WorkTimedOut
from reward_server.scorers.python_calls import BEFORE_DEADLINE, Batch

Part = Sequence[int]
"""Indexes of samples that are passed to the function in one call."""


Outcome = tuple[Part, list[Verdict]]


async def score_parts(
    batch: Batch, parts: Iterable[Part], first_limit_s: float = math.inf
) -> AsyncGenerator[Outcome, None]:
    """Yields each part with its verdicts, as they are ready; as many at a time as there are workers.

    A part is stopped after `first_limit_s`, at most the function's own limit, and then tried again behind the others
    with twice the time, up to that limit and as long as there is time for it: so the quick ones are scored first.
    """
    queue = Queue(batch, parts, first_limit_s)
    lanes = [asyncio.create_task(queue.work_off()) for _ in range(queue.lanes)]
    try:
        for _ in range(len(queue.waiting)):
            outcome = await queue.done.get()
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome
    finally:
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A call on a part that is to be made."""

    part: Part
    limit_s: float
    had_s: float = 0.0  # the limit of the attempt before
    stopped: WorkTimedOut | None = None  # how that one ended


class Queue:
    """The calls that are to be made, and the outcomes there are."""

    def __init__(self, batch: Batch, parts: Iterable[Part], first_limit_s: float) -> None:
        self._batch = batch
        limit_s = min(first_limit_s, batch.function.timeout_s)
        self.waiting = deque(Attempt(part, limit_s) for part in parts)
        self.lanes = min(batch.function.pool.count, len(self.waiting))
        self.done: asyncio.Queue[Outcome | Exception] = asyncio.Queue()

    async def work_off(self) -> None:
        """Makes one call after another until none waits."""
        try:
            while self.waiting:
                await self._make(self.waiting.popleft())
        except Exception as error:  # noqa: BLE001  # raised again where the outcomes are awaited
            self.done.put_nowait(error)

    async def _make(self, attempt: Attempt) -> None:
        part, batch = attempt.part, self._batch
        if attempt.stopped is not None and self._fair_limit_s() <= attempt.had_s:
            self.done.put_nowait(
                (part, batch.failures(part, attempt.stopped))
            )  # there is no more time for it than it had
            return
        limit_s = batch.limit_s if attempt.stopped is None else self._fair_limit_s
        try:
            verdicts = await batch.verdicts(part, lambda: min(attempt.limit_s, limit_s()))
        except PoolClosed:
            raise
        except WorkTimedOut as error:
            if attempt.limit_s < batch.function.timeout_s:
                longer_s = min(2 * attempt.limit_s, batch.function.timeout_s)
                self.waiting.append(Attempt(part, longer_s, attempt.limit_s, error))
                return
            verdicts = batch.failures(part, error)
        except WorkerError as error:
            verdicts = batch.failures(part, error)
        self.done.put_nowait((part, verdicts))

    def _fair_limit_s(self) -> float:
        """Returns how long a second attempt may take so that all that wait have as much before the deadline."""
        rounds = math.ceil((len(self.waiting) + 1) / self.lanes)
        return self._batch.limit_s(BEFORE_DEADLINE / rounds)
