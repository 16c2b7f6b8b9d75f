"""Where worker processes come from: keeps so many of them there, whatever ends them."""

from __future__ import annotations

import abc
import asyncio
import itertools
import os
import socket
from collections import deque
from collections.abc import Collection, Sequence
from typing import Final, Self

import structlog

from reward_server.errors import ConfigError, PoolClosed, WorkerDied, WorkerError
from reward_server.workers.backoff import Backoff
from reward_server.workers.processes import ForkServer
from reward_server.workers.worker import AllLost, Worker

EARLY_DEATH_S: Final = 1.0
"""A worker that ends by itself, without a task, within this time of its start counts as unable to start."""

EARLY_DEATHS_ALLOWED: Final = 10
REPLACE_PAUSE_S: Final = 0.05
"""Before the first replacement after an early death; twice as long before each next one."""

_log = structlog.get_logger(__name__)


class Staff(abc.ABC):
    """The workers there are: started when the first is needed, and again when one ends or is discarded."""

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

    def pid_of(self, worker: Worker) -> int | None:
        """Returns the id of a worker's process, None as long as it is not known."""
        return None if self._forks is None else self._forks.pid_of(worker.number)

    def _start_if_new(self) -> None:
        if self._starting is None:
            self._starting = asyncio.create_task(self._start())

    def discard(self, worker: Worker) -> None:
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
                worker = self._new_worker(number, ours, theirs)
            except OSError as error:  # out of file descriptors: more may be had later
                _log.error("worker not started", error=str(error))
                asyncio.get_running_loop().call_later(1.0, self._fill)
                return
            self._forks.start(number, theirs)
            self._workers[number] = worker
            self._offer(worker)

    def _new_worker(self, number: int, ours: socket.socket, theirs: socket.socket) -> Worker:
        try:
            return Worker(number, ours)
        except OSError:
            ours.close()
            theirs.close()
            raise

    def _ended(self, number: int, how: str) -> None:
        """Hears from the fork server that a worker's process has ended."""
        worker = self._workers.get(number)
        if worker is None:  # killed by us
            return
        worker.hear_end(WorkerDied(how, from_outside=how.startswith("killed by SIGKILL")))
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
        for worker in list(self._workers.values()):
            worker.hear_end(AllLost("its parent process ended", from_outside=True))
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
        for worker in list(self._workers.values()):
            worker.fail(PoolClosed("the server is shutting down"))
            worker.close()
        if forks is not None:
            await forks.close()
        await asyncio.gather(*self._ending)

    @abc.abstractmethod
    def _offer(self, worker: Worker) -> None:
        """Takes a worker that is ready, new or free again."""
