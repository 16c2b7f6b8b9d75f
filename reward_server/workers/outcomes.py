"""The outcomes of one run, between the callbacks that bring them and the generator that gives them away."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from reward_server.errors import WorkerError
from reward_server.workers.chunks import Chunk
from reward_server.workers.frames import Result, Sort
from reward_server.workers.jobs import ItemDone, ItemOutcome
from reward_server.workers.messages import error_of


class Outcomes:
    """One for each item, the first that comes: an item may be under way twice."""

    def __init__(self, count: int) -> None:
        self.done = bytearray(count)  # by index, whether it has its outcome
        self.ready: deque[tuple[int, ItemOutcome]] = deque()  # those that nobody has taken yet
        self._begun_s = time.monotonic()
        self._news: asyncio.Future[None] | None = None
        self._broken: Exception | None = None

    async def news(self) -> None:
        """Returns when something is ready. Raises what has gone wrong with the whole."""
        if not self.ready and self._broken is None:
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        if not self.ready and self._broken is not None:
            raise self._broken

    def settle(self, index: int, outcome: ItemOutcome) -> None:
        """Gives an item its outcome, if it has none."""
        if not self.done[index]:
            self.done[index] = 1
            self.ready.append((index, outcome))
            self._wake()

    def settle_rest(self, error: WorkerError) -> None:
        """Gives this outcome to all that have none."""
        for index in range(len(self.done)):
            self.settle(index, error)

    def take(self, chunk: Chunk, results: list[Result]) -> None:
        """Takes results from a worker."""
        queue_ms = (chunk.sent_s - self._begun_s) * 1e3
        done, ready = self.done, self.ready
        for place, sort, value in results:
            index = chunk.indexes[place]
            if not done[index]:
                done[index] = 1
                ready.append((index, ItemDone(value, queue_ms) if sort == Sort.PLAIN else error_of(sort, value)))
        self._wake()

    def fail(self, error: Exception) -> None:
        """Ends the whole."""
        self._broken = error
        self._wake()

    def _wake(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
