"""Watches the items that run: whose time is over, who takes too much memory, who holds up those behind it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from reward_server.errors import WorkerDied, WorkOutOfMemory, WorkTimedOut
from reward_server.own_time import OwnTime, Reading, read_thread
from reward_server.workers.board import CPU_NS, DELAY_NS, FINISHED, RECORDED_NS, RESIDENT_BYTES, RUNNING, STARTED_NS
from reward_server.workers.chunks import Chunk
from reward_server.workers.jobs import ItemJob
from reward_server.workers.supply import Supply
from reward_server.workers.watching import taken_bytes
from reward_server.workers.worker import Worker

LOOK_S: Final = 0.02
"""From look to look, and before an item is looked at more closely."""

SOONEST_S: Final = 0.002
LATEST_S: Final = 0.05
STUCK_S: Final = 0.05
"""An item that takes longer must not hold up those behind it."""

MEMORY_LOOK_NS: Final = 100_000_000
MEMORY_MARGIN: Final = 1.25
MEMORY_MARGIN_MB: Final = 64
"""Above its limit a worker is killed only by so much: up to there the system refuses it memory, and it can tell."""

BETWEEN_S: Final = 5.0
"""A worker may need so much longer than an item to begin one."""

CLOCK_FACTOR: Final = 20
CLOCK_MARGIN_S: Final = 60.0
"""By the clock an item may take so much longer than its own time, as what is stopped has none."""


@dataclass(slots=True)
class Watched:
    """What is known of what a worker is at."""

    code: int  # the item
    between: bool  # it has ended, and the next one has not begun
    since_ns: int
    due_ns: int  # when it is to be looked at next
    own: OwnTime | None = None
    stuck: bool = False  # told already
    memory_ns: int = 0  # when its memory was looked at


class Guard:
    """Looks at the workers of one run while they have something to do."""

    def __init__(
        self,
        job: ItemJob,
        supply: Supply,
        limit_s: Callable[[Chunk, int], float],
        on_stuck: Callable[[Worker, Chunk, int], None],
    ) -> None:
        self._job = job
        self._supply = supply
        self._limit_s = limit_s
        self._on_stuck = on_stuck
        self._watched: dict[Worker, Watched | None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, worker: Worker) -> None:
        """Begins to look at a worker."""
        self._watched[worker] = None
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def leave(self, worker: Worker) -> None:
        """Looks at it no more."""
        self._watched.pop(worker, None)
        if not self._watched:
            self.close()

    def close(self) -> None:
        """Looks at nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        next_s = min([self._look_at(worker) for worker in list(self._watched)], default=LOOK_S)
        if self._watched and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(max(next_s, SOONEST_S), self._look)

    def _look_at(self, worker: Worker) -> float:
        """Looks at a worker and ends it if it must be; returns after how many seconds it is to be looked at again."""
        if worker.lost or not worker.chunks:
            self._watched[worker] = None
            return LOOK_S
        now_ns = time.monotonic_ns()
        watched = self._noted(worker, now_ns)
        clock_s = (now_ns - watched.since_ns) / 1e9
        if clock_s < LOOK_S:
            return LOOK_S - clock_s
        chunk, place = _running(worker, watched)
        limit_s = self._job.timeout_s + BETWEEN_S if place is None else self._limit_s(chunk, place)
        own_s = self._own_s(worker, watched, now_ns)
        if place is not None and not watched.stuck and clock_s > STUCK_S:
            watched.stuck = True
            self._on_stuck(worker, chunk, place)
        if (clock_s if own_s is None else own_s) >= limit_s or clock_s >= CLOCK_FACTOR * limit_s + CLOCK_MARGIN_S:
            self._end(worker, watched, limit_s, clock_s, own_s)
            return LOOK_S
        if place is not None and self._job.memory_mb and now_ns - watched.memory_ns > MEMORY_LOOK_NS:
            watched.memory_ns = now_ns
            self._look_at_memory(worker, watched, self._job.memory_mb)
        next_s = min(max((limit_s - (clock_s if own_s is None else own_s)) / 2, SOONEST_S), LATEST_S)
        if not watched.stuck:
            next_s = min(next_s, max(STUCK_S - clock_s, SOONEST_S))
        watched.due_ns = now_ns + int(next_s * 1e9)
        return next_s

    def _noted(self, worker: Worker, now_ns: int) -> Watched:
        """Returns what is known of what the worker is at, from this look on if it is something new."""
        cells = worker.board.cells
        code, started_ns = cells[RUNNING], cells[STARTED_NS]
        between = cells[FINISHED] >= code
        watched = self._watched[worker]
        if watched is None or (watched.code, watched.between) != (code, between):
            since_ns = now_ns if between else min(started_ns, now_ns)
            watched = self._watched[worker] = Watched(code, between, since_ns, since_ns + int(LOOK_S * 1e9))
        return watched

    def _own_s(self, worker: Worker, watched: Watched, now_ns: int) -> float | None:
        pid = self._supply.pid_of(worker)
        if pid is None:
            return None
        cells = worker.board.cells
        if watched.own is None:
            if watched.between:
                begin = read_thread(f"/proc/{pid}")
                begin_ns = now_ns
            else:
                begin, begin_ns = Reading(cells[CPU_NS], cells[DELAY_NS]), cells[RECORDED_NS]
            if begin is None or not begin_ns:
                return None
            watched.own = OwnTime(pid, min(begin_ns, now_ns), begin)
        return watched.own.look(now_ns, watched.due_ns)

    def _end(self, worker: Worker, watched: Watched, limit_s: float, clock_s: float, own_s: float | None) -> None:
        if watched.between:
            worker.fail(WorkerDied("it hung between two items"), watched.code)
            return
        own = own_s is not None and own_s >= limit_s
        words = f"no result within {limit_s:.3g} s"
        if own and own_s is not None and clock_s > 1.2 * own_s:
            words += f" of its own, {clock_s:.3g} s by the clock"
        worker.fail(WorkTimedOut(words, own_time=own and limit_s >= self._job.timeout_s), watched.code)

    def _look_at_memory(self, worker: Worker, watched: Watched, memory_mb: int) -> None:
        pid = self._supply.pid_of(worker)
        if pid is None or watched.own is None:
            return
        taken_mb = taken_bytes(pid, worker.board.cells[RESIDENT_BYTES]) >> 20
        if taken_mb > memory_mb * MEMORY_MARGIN + MEMORY_MARGIN_MB:
            words = f"it took {taken_mb} MiB, and may take {memory_mb}"
            worker.fail(WorkOutOfMemory(words), watched.code)


def _running(worker: Worker, watched: Watched) -> tuple[Chunk, int | None]:
    """Returns the chunk of the item that runs, and its place there; None for the place between two items.

    It need not be the first chunk: what came of that one may be held back, to be sent with more.
    """
    for chunk in worker.chunks if not watched.between else ():
        if (place := chunk.place_of(watched.code)) is not None:
            return chunk, place
    return worker.chunks[0], None
