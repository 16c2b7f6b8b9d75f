"""The pool of killable worker processes.

    async with WorkerPool(count=2) as pool:
        done = await pool.run(Task(function, (1, 2)), timeout_s=10)

Why not a pool of somebody's: a function that hangs must be killed while its neighbours run on, whatever it does, and
nothing of it may be left over. Threads cannot be killed, and pools of the standard library die with their first dead
process.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Hashable, Sequence
from typing import Any, Final

import structlog

from reward_server.errors import WorkerDied, WorkNotPrepared, WorkRaised, WorkTimedOut
from reward_server.workers.chunks import Chunk
from reward_server.workers.frames import Sort
from reward_server.workers.messages import error_of, pack
from reward_server.workers.supply import Supply
from reward_server.workers.tasks import Done, Preparation, Task
from reward_server.workers.worker import Worker

PACES_KEPT: Final = 256

_log = structlog.get_logger(__name__)


class _NoTimeLeft(WorkTimedOut):
    """The limit was over before the code began: nothing ran that would have to be killed."""


class WorkerPool(Supply):
    """Runs tasks in processes that can be killed. Belongs to one event loop; nothing in it blocks that loop.

    Processes are started with the first task, so a server without people's own functions has none. Tasks wait for a
    free worker in one queue, first come, first served.

    A task is one call, limited by the clock. Many small calls of one function are run by `reward_server.workers.items`.
    """

    def __init__(
        self, count: int | None = None, preload: Sequence[str] = (), *, hidden_env: Collection[str] = ()
    ) -> None:
        """See `Staff`."""
        super().__init__(count, preload, hidden_env=hidden_env)
        # whoever tries again what broke a worker holds one: the other workers go on with what breaks nothing
        self.trial_lanes = asyncio.Semaphore(max(1, self.count // 2))
        self.paces: dict[Hashable, float] = {}  # seconds that an item of a job took lately, by and large

    def keep_pace(self, job: Hashable, pace_s: float) -> None:
        """Remembers how long an item of that job takes, for its next run."""
        self.paces.pop(job, None)
        self.paces[job] = pace_s
        if len(self.paces) > PACES_KEPT:
            del self.paces[next(iter(self.paces))]

    async def run(self, task: Task, timeout_s: float | Callable[[], float]) -> Done:
        """Runs the task in the next free worker and returns its result.

        `timeout_s` is the task's own time, from when a worker is ready for it; as a function it is asked then.
        Cancelling this kills the worker if the task runs already, and else takes it out of the queue.

        Raises `WorkRaised` if the function raised, `WorkTimedOut` if it was killed at its limit (or had none left when
        its turn came, and was not begun), `WorkerDied` if its process ended under it, `WorkNotPrepared` if the worker
        could not get ready for it, `PoolClosed` if the pool is, and `ConfigError` if a module to preload cannot be
        imported.

        A process that had run other tasks may end over what one of those left behind (a thread, a timer). So there the
        task is run once more, in a fresh process, and only if that ends too does it count.
        """
        queued = time.monotonic()
        worker = await self.take(task.prepare)
        waited_s = time.monotonic() - queued
        if worker.used:
            try:
                return await self._run_in(worker, task, timeout_s, waited_s)
            except (WorkerDied, WorkNotPrepared) as error:
                if not isinstance(error, WorkerDied) and not isinstance(error.__cause__, WorkerDied):
                    raise
                _log.warning("used worker ended under a task; next a fresh one", task=task.name, how=str(error))
            worker = await self.take_fresh()
            waited_s = time.monotonic() - queued
        return await self._run_in(worker, task, timeout_s, waited_s)

    async def _run_in(
        self, worker: Worker, task: Task, timeout_s: float | Callable[[], float], waited_s: float
    ) -> Done:
        worker.used = True
        try:
            await self.prepare(worker, task.prepare, task.name)
            limit_s = timeout_s() if callable(timeout_s) else timeout_s
            if limit_s <= 0:
                raise _NoTimeLeft("no time was left for it when a worker was free")
            value = await self._perform(worker, task.function, task.args, limit_s, task.name)
        except (WorkRaised, _NoTimeLeft):
            self.give_back(worker)
            raise
        except WorkTimedOut as error:
            self.discard(worker)
            if waited_s > limit_s:
                raise WorkTimedOut(f"{error}, after {waited_s:.3g} s of waiting for a free worker") from None
            raise
        except BaseException:
            self.discard(worker)
            raise
        self.give_back(worker)
        return Done(value, waited_s * 1e3)

    async def prepare(self, worker: Worker, todo: Preparation | None, name: str) -> None:
        """Has a worker get ready, if it is not. Raises `WorkNotPrepared`; then it is to be discarded."""
        if todo is None or todo in worker.prepared:
            return
        try:
            await self._perform(worker, todo.function, todo.args, todo.timeout_s, name)
        except (WorkRaised, WorkTimedOut, WorkerDied) as error:
            raise WorkNotPrepared(str(error)) from error
        worker.prepared.add(todo)

    async def _perform(
        self, worker: Worker, function: Callable[..., Any], args: tuple[Any, ...], limit_s: float, name: str
    ) -> Any:
        """Returns what the function returns there, if it does within that time by the clock."""
        chunk = Chunk(await pack((function, ())), await pack([args]), (0,), name=name)
        try:
            async with asyncio.timeout(limit_s):
                worker.send(chunk)
                loss = await chunk.done
        except TimeoutError:
            raise WorkTimedOut(f"no result within {limit_s:.3g} s") from None
        if loss is not None:
            raise loss.error
        ((_, sort, value),) = chunk.results
        if sort != Sort.PLAIN:
            raise error_of(sort, value)
        return value
