"""Hands out the workers there are to those who wait, in order."""

from __future__ import annotations

import asyncio
from typing import Final

from reward_server.workers.staff import Staff
from reward_server.workers.tasks import Preparation
from reward_server.workers.worker import Worker

STOP_GRACE_S: Final = 0.05
"""How long a worker that is no longer needed may take over its present item before it is killed."""


class Supply(Staff):
    """The workers there are, and those who wait for one. Whoever takes a worker gives it back, or has it discarded.

    Belongs to one event loop; nothing in it blocks that loop.
    """

    @property
    def wanted(self) -> bool:
        """Returns whether somebody waits for a worker."""
        return bool(self._waiting)

    async def take(self, prepare: Preparation | None) -> Worker:
        """Takes a worker, if possible one that has made those preparations; waits for it behind all who wait."""
        self._raise_if_unfit()
        self._start_if_new()
        while self._idle:
            worker = next((worker for worker in reversed(self._idle) if prepare in worker.prepared), self._idle[-1])
            self._idle.remove(worker)
            if worker.fit:
                return worker
            self.discard(worker)
        return await self._given(self._queue_up())

    async def take_fresh(self) -> Worker:
        """Takes a worker that has run nothing, before all who wait: its task has waited once already."""
        self._raise_if_unfit()
        self._start_if_new()
        worker = next((worker for worker in self._idle if not worker.used and worker.fit), None)
        if worker is not None:
            self._idle.remove(worker)
            return worker
        worker = self._idle.pop() if self._idle else await self._given(self._queue_up(first=True))
        while worker.used or not worker.fit:
            turn = self._queue_up(first=True)
            self.discard(worker)  # the one that comes in its place goes to who is first
            worker = await self._given(turn)
        return worker

    def _queue_up(self, *, first: bool = False) -> asyncio.Future[Worker]:
        turn: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        if first:
            self._waiting.appendleft(turn)
        else:
            self._waiting.append(turn)
        return turn

    async def _given(self, turn: asyncio.Future[Worker]) -> Worker:
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self.give_back(turn.result())  # it came just then
            raise

    def give_back(self, worker: Worker) -> None:
        """Takes back a worker that has nothing to do."""
        if not worker.fit:  # it ended having answered, or a moment ago
            self.discard(worker)
            return
        self._early_deaths = 0
        self._backoff.reset()
        self._offer(worker)

    def _offer(self, worker: Worker) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(worker)
                return
        self._idle.append(worker)

    def stop(self, worker: Worker) -> None:
        """Takes back a worker that may be at work: if it does not stop by itself within a moment it is killed."""
        if not worker.chunks:
            self.give_back(worker)
            return

        def settle() -> None:
            timer.cancel()
            worker.on_rest = None
            (self.discard if worker.chunks else self.give_back)(worker)

        worker.limit_to(0)
        worker.on_rest = settle
        timer = asyncio.get_running_loop().call_later(STOP_GRACE_S, settle)
