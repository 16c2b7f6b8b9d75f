"""One run of many items: gives them to workers in chunks, and sees to it that each has one outcome."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from reward_server.errors import (
    PoolClosed,
    WorkerDied,
    WorkerError,
    WorkNotPrepared,
    WorkRaised,
    WorkTimedOut,
)
from reward_server.workers.backlog import Backlog
from reward_server.workers.chunks import Chunk, Loss
from reward_server.workers.guarding import Guard
from reward_server.workers.jobs import ItemJob
from reward_server.workers.messages import Pieces, pack
from reward_server.workers.outcomes import Outcomes
from reward_server.workers.pool import WorkerPool
from reward_server.workers.worker import AllLost, Worker


class Run:
    """Items under way. `start` it, take its `outcomes`, and `close` it."""

    def __init__(
        self,
        pool: WorkerPool,
        job: ItemJob,
        items: Sequence[Any],
        remaining_s: Callable[[], float],
        chunk: int,
        *,
        fresh: bool = False,
    ) -> None:
        self.outcomes = Outcomes(len(items))
        self._pool = pool
        self._job = job
        self._items = items
        self._remaining_s = remaining_s
        self._fresh = fresh  # the worker must have run nothing before
        self._lane_count = min(pool.count, len(items))
        self._backlog = Backlog(self.outcomes.done, job, max(self._lane_count, 1), chunk, remaining_s)
        self._backlog.pace_s = pool.paces.get(self._pace_key, 0.0)
        self._guard = Guard(job, pool, self._limit_s, self._share_out)
        self._lanes: set[asyncio.Task[None]] = set()
        self._under_way = 0  # chunks
        self._head: Pieces = []
        self._deadline: asyncio.TimerHandle | None = None
        self._deaths_in_preparation = 0

    @property
    def _pace_key(self) -> tuple[object, ...]:
        return self._job.function, self._job.name

    async def start(self) -> None:
        """Begins the work."""
        if not self._items:
            return
        try:
            self._head = await pack((self._job.function, self._job.args))
        except WorkRaised as error:
            self.outcomes.settle_rest(error)
            return
        self._check_deadline()
        self._open_lanes()

    def close(self) -> None:
        """Stops what is under way. Workers that do not stop at once are killed."""
        if self._deadline is not None:
            self._deadline.cancel()
        self._guard.close()
        self._pool.keep_pace(self._pace_key, self._backlog.pace_s)
        for lane in self._lanes:
            lane.cancel()

    def _check_deadline(self) -> None:
        remaining_s = self._remaining_s()
        if remaining_s > 0:
            if math.isfinite(remaining_s):
                loop = asyncio.get_running_loop()
                self._deadline = loop.call_later(min(remaining_s, 3600.0), self._check_deadline)
            return
        self.outcomes.settle_rest(WorkTimedOut("no time was left for it before the deadline"))
        self.close()

    def _open_lanes(self) -> None:
        """Sees to it that as many workers are asked for as there is work for."""
        for _ in range(min(self._lane_count - len(self._lanes), len(self._backlog))):
            lane = asyncio.create_task(self._lane())
            self._lanes.add(lane)
            lane.add_done_callback(self._lane_closed)

    def _lane_closed(self, lane: asyncio.Task[None]) -> None:
        self._lanes.discard(lane)
        if lane.cancelled():
            return
        error = lane.exception()
        if isinstance(error, WorkerDied):  # no workers are to be had
            self._settle_waiting(WorkerDied(str(error), from_outside=True))
        elif isinstance(error, WorkerError):
            self._settle_waiting(error)
        elif isinstance(error, Exception):
            self.outcomes.fail(error)
        elif self._ripe:
            self._open_lanes()

    @property
    def _ripe(self) -> bool:
        """Returns whether something waits that can be done now."""
        return self._backlog.ripe(others=self._under_way > 0)

    def _settle_waiting(self, error: WorkerError) -> None:
        while indexes := self._backlog.next(others=False, free=True):
            for index in indexes:
                self.outcomes.settle(index, error)

    async def _lane(self) -> None:
        """Takes one worker after another, as long as there is something to do."""
        while self._ripe:
            worker = await (self._pool.take_fresh() if self._fresh else self._pool.take(self._job.prepare))
            try:
                free = await self._use(worker)
            except WorkNotPrepared:
                self._pool.discard(worker)
                raise
            except BaseException:
                self._guard.leave(worker)
                self._pool.stop(worker)
                raise
            self._guard.leave(worker)
            if worker.lost or not free:
                self._pool.discard(worker)
            else:
                self._pool.give_back(worker)

    async def _use(self, worker: Worker) -> bool:
        """Gives a worker chunks until there is none, or others wait for a worker; returns whether it is still of use."""
        if not await self._prepare(worker):
            return False
        worker.used = True
        self._guard.watch(worker)
        chunks: deque[Chunk] = deque()
        await self._send_some(worker, chunks, self._backlog.ahead())
        while chunks:
            chunk = chunks.popleft()
            loss = await chunk.done
            self._ended(chunk, loss)
            if loss is None and not self._pool.wanted:
                await self._send_some(worker, chunks, self._backlog.ahead())
        return not worker.lost

    async def _send_some(self, worker: Worker, chunks: deque[Chunk], count: int) -> None:
        """Sees to it that a worker has about so many chunks, unless it is to begin nothing more of those it has."""
        if len(chunks) > count // 2 or (chunks and (chunks[0].revoked or chunks[-1].by_itself)):
            return
        while len(chunks) < count and (chunk := await self._send_next(worker, free=not chunks)) is not None:
            chunks.append(chunk)
            if chunk.by_itself:
                return

    async def _prepare(self, worker: Worker) -> bool:
        used, worker.used = worker.used, True
        try:
            await self._pool.prepare(worker, self._job.prepare, self._job.name)
        except WorkNotPrepared as error:
            self._deaths_in_preparation += 1
            if used and isinstance(error.__cause__, WorkerDied) and self._deaths_in_preparation == 1:
                return False  # perhaps over what another task left behind
            raise
        return True

    async def _send_next(self, worker: Worker, *, free: bool) -> Chunk | None:
        while indexes := self._next_indexes(free=free):
            try:
                packed = await pack([(self._items[index],) for index in indexes])
            except WorkRaised as error:
                self._refuse(indexes, error)
                continue
            chunk = Chunk(
                self._head,
                packed,
                indexes,
                name=self._job.name,
                memory_mb=self._job.memory_mb,
                on_results=self.outcomes.take,
            )
            chunk.by_itself = self._backlog.runs_by_itself(indexes)
            self._under_way += 1
            worker.send(chunk)
            return chunk
        return None

    def _next_indexes(self, *, free: bool) -> list[int]:
        while indexes := self._backlog.next(others=self._under_way > 0, free=free):
            if len(indexes) > 1 or (error := self._backlog.out_of_time(indexes[0])) is None:
                return indexes
            self.outcomes.settle(indexes[0], error)
        return []

    def _refuse(self, indexes: list[int], error: WorkRaised) -> None:
        """Has items run one by one of which one cannot be sent; such a one has its outcome."""
        if len(indexes) == 1:
            self.outcomes.settle(indexes[0], error)
            return
        self._backlog.put_single(indexes)

    def _limit_s(self, chunk: Chunk, place: int) -> float:
        return self._backlog.limit_s(chunk.indexes[place])

    def _share_out(self, worker: Worker, chunk: Chunk, place: int) -> None:
        """Gives to others what is behind an item that takes long, or before it without its result having come."""
        if self._lane_count == 1 or chunk.revoked:
            return
        code = chunk.first_code + place
        worker.limit_to(code + 1)
        for each in worker.chunks:
            each.revoked, each.kept = True, each.place_of(code)
            began = each.kept if each.kept is not None else 0 if each.first_code > code else len(each.indexes)
            self._backlog.put_again(each.indexes[:began])
            self._backlog.put_back(each.indexes[began + (each.kept is not None) :])
        self._open_lanes()

    def _ended(self, chunk: Chunk, loss: Loss | None) -> None:
        """Sees to what has no result though its chunk has ended."""
        self._under_way -= 1
        if loss is None and chunk.result_count:
            self._backlog.note_pace(chunk.took_ns, chunk.result_count)
        for place, index in enumerate(chunk.indexes):
            if self.outcomes.done[index]:
                continue
            if loss is not None and place == loss.running:
                self._blame(index, loss.error)
            elif chunk.owns(place):
                self._lost(index, chunk, loss, place)
        if self._ripe:
            self._open_lanes()

    def _blame(self, index: int, error: WorkerError) -> None:
        """Settles an item that ran when its worker was lost, unless it is to have another chance."""
        if isinstance(error, WorkTimedOut) and self._backlog.put_stopped(index, error):
            return
        if isinstance(error, AllLost) and self._backlog.put_suspect(index):
            return
        self.outcomes.settle(index, error)

    def _lost(self, index: int, chunk: Chunk, loss: Loss | None, place: int) -> None:
        """Has an item done again that is not known to be to blame for the loss of its worker."""
        if loss is not None and loss.known:
            (self._backlog.put_again if place < loss.begun else self._backlog.put_back)([index])
            return
        error = loss.error if loss is not None else WorkerDied("it sent no result")
        begun = loss is None or place < loss.begun
        only = begun and len(chunk.indexes) == 1 and (loss is None or loss.suspects <= 1)
        again = not only and self._backlog.put_lost(index, single=begun)
        if isinstance(error, PoolClosed) or not again:
            self.outcomes.settle(index, error)
