"""The pool of killable worker processes.

    async with WorkerPool(count=2) as pool:
        done = await pool.run(Task(function, (1, 2)), timeout_s=10)

Why not a pool of somebody's: a function that hangs must be killed while its neighbours run on, whatever it does, and
nothing of it may be left over. Threads cannot be killed, and pools of the standard library die with their first dead
process.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Self

import structlog

from reward_server.errors import (
    ConfigError,
    PoolClosed,
    WorkerDied,
    WorkerError,
    WorkNotPrepared,
    WorkRaised,
    WorkTimedOut,
)
from reward_server.workers.backoff import Backoff
from reward_server.workers.processes import ForkServer
from reward_server.workers.tasks import Done, Preparation, Task
from reward_server.workers.worker import Worker

EARLY_DEATH_S: Final = 1.0
"""A worker that ends by itself, without a task, within this time of its start counts as unable to start."""

EARLY_DEATHS_ALLOWED: Final = 10
REPLACE_PAUSE_S: Final = 0.05
"""Before the first replacement after an early death; twice as long before each next one."""


class _NoTimeLeft(WorkTimedOut):
    """The limit was over before the code began: nothing ran that would have to be killed."""


_log = structlog.get_logger(__name__)


class WorkerPool:
    """Runs tasks in processes that can be killed. Belongs to one event loop; nothing in it blocks that loop.

    Processes are started with the first task, so a server without people's own functions has none. Tasks wait for a
    free worker in one queue, first come, first served.
    """

    def __init__(
        self, count: int | None = None, preload: Sequence[str] = (), *, hidden_env: Collection[str] = ()
    ) -> None:
        """Makes a pool of `count` processes (default: one a core) with the modules of `preload` imported.

        `hidden_env` names environment variables that functions do not find, such as that of the server's own token.
        That keeps a secret out of dumps and of programs that functions start; it is no wall, since whoever runs as
        the same user can read the server's environment.
        """
        self.count = count or os.cpu_count() or 1
        self._preload = tuple(preload)
        self._hidden_env = frozenset(hidden_env)
        self._numbers = itertools.count(1)
        self._forks: ForkServer | None = None
        self._starting: asyncio.Task[None] | None = None  # fork server and workers, for as long as it takes
        self._ending: set[asyncio.Task[None]] = set()  # lost fork servers, whose leftovers are cleared away
        self._backoff = Backoff()
        self._workers: dict[int, Worker] = {}
        self._idle: list[Worker] = []  # never while somebody waits; the last used one last
        self._waiting: deque[asyncio.Future[Worker]] = deque()
        self._early_deaths = 0
        self._problem: WorkerError | ConfigError | None = None
        self._closed = False

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def problem(self) -> str:
        """Returns why no task can be run just now, or an empty text. The pool goes on trying to start workers."""
        return "" if self._problem is None else str(self._problem)

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
        worker = await self._take(task.prepare)
        waited_s = time.monotonic() - queued
        if worker.used:
            try:
                return await self._run_in(worker, task, timeout_s, waited_s)
            except (WorkerDied, WorkNotPrepared) as error:
                if not isinstance(error, WorkerDied) and not isinstance(error.__cause__, WorkerDied):
                    raise
                _log.warning("used worker ended under a task; next a fresh one", task=task.name, how=str(error))
            worker = await self._take_fresh()
            waited_s = time.monotonic() - queued
        return await self._run_in(worker, task, timeout_s, waited_s)

    async def _run_in(
        self, worker: Worker, task: Task, timeout_s: float | Callable[[], float], waited_s: float
    ) -> Done:
        worker.used = True
        try:
            await self._prepare(worker, task)
            limit_s = timeout_s() if callable(timeout_s) else timeout_s
            if limit_s <= 0:
                raise _NoTimeLeft("no time was left for it when a worker was free")
            value = await self._perform(worker, task.function, task.args, limit_s, task.name)
        except (WorkRaised, _NoTimeLeft):
            self._give_back(worker)
            raise
        except WorkTimedOut as error:
            self._discard(worker)
            if waited_s > limit_s:
                raise WorkTimedOut(f"{error}, after {waited_s:.3g} s of waiting for a free worker") from None
            raise
        except BaseException:
            self._discard(worker)
            raise
        self._give_back(worker)
        return Done(value, waited_s * 1e3)

    async def _prepare(self, worker: Worker, task: Task) -> None:
        if (todo := task.prepare) is None or todo in worker.prepared:
            return
        try:
            await self._perform(worker, todo.function, todo.args, todo.timeout_s, task.name)
        except (WorkRaised, WorkTimedOut, WorkerDied) as error:
            raise WorkNotPrepared(str(error)) from error
        worker.prepared.add(todo)

    async def _perform(
        self, worker: Worker, function: Callable[..., Any], args: tuple[Any, ...], limit_s: float, name: str
    ) -> Any:
        try:
            async with asyncio.timeout(limit_s):
                return await worker.perform(function, args, name)
        except TimeoutError:
            raise WorkTimedOut(f"no result within {limit_s:.3g} s") from None
        except WorkerDied as error:
            if self._closed:
                raise PoolClosed("the server is shutting down") from error
            raise

    async def _take(self, prepare: Preparation | None) -> Worker:
        self._raise_if_unfit()
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())
        if self._idle:
            worker = next((worker for worker in reversed(self._idle) if prepare in worker.prepared), self._idle[-1])
            self._idle.remove(worker)
            return worker
        return await self._given(self._queue_up())

    async def _take_fresh(self) -> Worker:
        """Takes a worker that has run nothing, before all who wait: its task has waited once already."""
        self._raise_if_unfit()
        worker = next((worker for worker in self._idle if not worker.used), None)
        if worker is not None:
            self._idle.remove(worker)
            return worker
        worker = self._idle.pop() if self._idle else await self._given(self._queue_up(first=True))
        if worker.used:
            turn = self._queue_up(first=True)
            self._discard(worker)  # the one that comes in its place goes to who is first
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
                self._give_back(turn.result())  # it came just then
            raise

    def _give_back(self, worker: Worker) -> None:
        if worker.ended:  # having answered, or a moment ago
            self._discard(worker)
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

    def _discard(self, worker: Worker) -> None:
        """Kills a worker, whatever it is doing, and starts another in its place."""
        if self._forks is not None:
            self._forks.kill(worker.number)
        self._workers.pop(worker.number, None)
        worker.close()
        self._fill()

    def _raise_if_unfit(self) -> None:
        if self._closed:
            raise PoolClosed("the server is shutting down")
        if self._problem is not None:
            raise type(self._problem)(*self._problem.args)

    async def _start(self, pause_s: float = 0.0) -> None:
        """Starts a fork server, if there is none, and workers; where that fails, tries again with growing pauses."""
        await asyncio.sleep(pause_s)
        while self._forks is None:
            try:
                self._forks = await ForkServer.launch(self._preload, self._hidden_env, self._ended, self._lost)
            except (ConfigError, WorkerError) as error:
                self._fail_all(error)
            except OSError as error:
                self._fail_all(WorkerDied(f"no worker processes can be started: {error}"))
            else:
                break
            await asyncio.sleep(self._backoff.next_s())
        self._fill()
        if self._problem is not None:
            await asyncio.sleep(EARLY_DEATH_S)  # to see whether they stay
            _log.info("workers started again")
            self._problem = None

    def _start_again(self) -> None:
        """Starts after a pause what is missing."""
        if self._starting is not None:
            self._starting.cancel()  # it waits to see whether those stay that did not
        self._starting = asyncio.create_task(self._start(self._backoff.next_s()))

    def _fill(self) -> None:
        """Starts workers until there are as many as wanted."""
        while self._forks is not None and not self._closed and len(self._workers) < self.count:
            number = next(self._numbers)
            try:
                ours, theirs = socket.socketpair()
            except OSError as error:  # out of file descriptors: more may be had later
                _log.error("worker not started", error=str(error))
                asyncio.get_running_loop().call_later(1.0, self._fill)
                return
            self._forks.start(number, theirs)
            self._workers[number] = worker = Worker(number, ours)
            self._offer(worker)

    def _ended(self, number: int, how: str) -> None:
        """Hears from the fork server that a worker's process has ended."""
        worker = self._workers.get(number)
        if worker is None:  # killed by us
            return
        worker.hear_end(how)
        if worker not in self._idle:  # whoever uses it finds out and discards it
            return
        self._idle.remove(worker)
        del self._workers[number]
        worker.close()
        self._early_deaths = self._early_deaths + 1 if worker.age_s < EARLY_DEATH_S else 0
        _log.warning("idle worker ended", worker=number, how=how)
        if self._early_deaths > EARLY_DEATHS_ALLOWED:
            self._fail_all(WorkerDied(f"worker processes end as soon as they start: {how}"))
            self._start_again()
        elif self._early_deaths:
            pause_s = REPLACE_PAUSE_S * 2**self._early_deaths
            asyncio.get_running_loop().call_later(pause_s, self._fill)
        else:
            self._fill()

    def _lost(self) -> None:
        """Starts all over after the fork server itself has ended, and with it all workers."""
        if self._forks is None:
            return
        _log.error("fork server ended; starting another")
        for worker in self._workers.values():
            worker.hear_end("its parent process ended")
        for worker in self._idle:
            worker.close()
        self._workers.clear()
        self._idle.clear()
        ending = asyncio.create_task(self._forks.close())
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)
        self._forks = None
        self._start_again()

    def _fail_all(self, problem: WorkerError | ConfigError) -> None:
        """Fails all that wait, and every task from now until workers run again, with that problem."""
        _log.error("no workers; trying again", error=str(problem))
        self._problem = problem
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(type(problem)(*problem.args))

    async def close(self) -> None:
        """Kills all workers and ends all that wait or run with `PoolClosed`. No process is left afterwards."""
        self._closed = True
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(PoolClosed("the server is shutting down"))
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        forks, self._forks = self._forks, None
        for worker in self._idle:
            worker.close()
        for worker in self._workers.values():
            worker.hear_end("the server is shutting down")
        if forks is not None:
            await forks.close()
        await asyncio.gather(*self._ending)
