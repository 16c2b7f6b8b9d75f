"""The sandbox made with bubblewrap: namespaces, a filter of system calls, limits, and a watch over what they can't limit.

    server process                                   sandbox (bubblewrap, one per job)
    bubblewrap -> box  <== socket, open files ==>    harness -> init -> program (once per run)

Sandboxes boot ahead: Python is started and the usual modules are imported when a job comes. `docs/sandbox.md` tells
what is guaranteed and how.
"""

from __future__ import annotations

import asyncio
import platform
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from reward_server.domain import HEALTHY, Health
from reward_server.errors import SandboxUnavailable
from reward_server.sandbox import seccomp
from reward_server.sandbox.base import Job, Outcome, Result, is_spent
from reward_server.sandbox.box import Boot, Box
from reward_server.sandbox.command import (
    Interpreter,
    command,
    cores,
    find_bwrap,
    is_administrator,
    may_become_another,
    uids,
    version_of,
)
from reward_server.sandbox.proof import prove
from reward_server.sandbox.remedies import explain

PRELOADED: Final = (
    *("array", "bisect", "collections", "copy", "datetime", "decimal", "fractions", "functools", "heapq", "io"),
    *(
        "itertools",
        "json",
        "math",
        "operator",
        "queue",
        "random",
        "re",
        "statistics",
        "string",
        "sys",
        "time",
        "typing",
    ),
)
"""Modules that programs usually import. A program sees them as if it were the first to import them."""

_NOT_STARTED: Final = Health(serving=False, reason="the sandbox has not been started")
_CLOSED: Final = Health(serving=False, reason="the server is shutting down")


class Bubblewrap:
    """A `Sandbox` on this machine.

    Args:
        max_jobs: run at a time; None = one per core that the server may use.
        spare_count: sandboxes booted ahead; None = as many as jobs run at a time.
        python: path of the programs' Python, with the packages that they may use; None = the server's own.
        modules: imported before a program starts.
    """

    def __init__(
        self,
        max_jobs: int | None = None,
        spare_count: int | None = None,
        python: str | None = None,
        modules: Sequence[str] = PRELOADED,
    ) -> None:
        self._max_jobs = max_jobs or cores()
        self._spare_count = self._max_jobs if spare_count is None else spare_count
        self._python = python
        self._modules = tuple(modules)
        self._starting = asyncio.Lock()
        self._slots = asyncio.Semaphore(self._max_jobs)
        self._spares: deque[asyncio.Task[Box]] = deque()
        self._used: set[Box] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._uids = uids() if may_become_another() else None
        self._boot: Boot | None = None
        self._identity: Mapping[str, Any] = {"sandbox": "bubblewrap", "unavailable": _NOT_STARTED.reason}
        self._barred: Health | None = _NOT_STARTED  # nothing may be run
        self._trouble = ""  # why the last sandbox did not boot; the next may

    async def start(self) -> None:
        """Proves the isolation in a real sandbox and boots spare ones. What does not hold is told by `health`.

        A second start waits for the first, and tries again what failed; it changes nothing else.
        """
        async with self._starting:
            if self._barred not in (None, _CLOSED):
                await self._start()

    async def _start(self) -> None:
        try:
            boot, self._identity = await asyncio.to_thread(self._prepare)
            self._boot = boot
            await prove(boot, self._run)
            found = None
        except SandboxUnavailable as error:
            found = Health(serving=False, reason=str(error), refuses=True)
            if self._boot is None:
                self._identity = {"sandbox": "bubblewrap", "unavailable": str(error)}
        if self._barred is not _CLOSED:  # meanwhile
            self._barred = found
            self._refill()

    def _prepare(self) -> tuple[Boot, Mapping[str, Any]]:
        """Returns how sandboxes are made, and the versions of what runs the programs."""
        bwrap, rules = find_bwrap(), seccomp.program()
        interpreter = Interpreter.at(self._python or sys.executable)
        administrator = is_administrator()
        line = command(bwrap, interpreter, as_administrator=administrator)
        identity = {
            "sandbox": "bubblewrap",
            "machine": platform.machine(),
            "modules": list(self._modules),
            "bwrap": version_of(bwrap),
            "python": interpreter.version,
            "packages": interpreter.packages,
            "system_calls": seccomp.digest(rules),
        }
        return Boot(tuple(line), rules, self._modules, administrator), identity

    async def close(self) -> None:
        """Kills all sandboxes. Jobs that run end as `KILLED`."""
        self._barred = _CLOSED
        for box in self._used:
            self._discard(box)
        while self._spares:
            spare = self._spares.pop()
            spare.cancel()
            await asyncio.wait([spare])
            self._throw_away(spare)
        await asyncio.gather(*self._closing)

    def health(self) -> Health:
        """Tells whether programs can be run; where not, why, and the remedy."""
        if self._barred:
            return self._barred
        return Health(serving=False, reason=self._trouble) if self._trouble else HEALTHY

    def identity(self) -> Mapping[str, Any]:
        """Returns the versions of what runs the programs, found when it started; before that nothing is run anyway."""
        return self._identity

    async def run(self, job: Job, deadline: float = float("inf")) -> Sequence[Result]:
        """Runs a job, as `Sandbox.run` says."""
        if job.language != "python":
            raise ValueError(f"the sandbox runs python, not {job.language}")
        if self._barred:
            raise SandboxUnavailable(self._barred.reason)
        return await self._run(job, deadline)

    async def _run(self, job: Job, deadline: float = float("inf")) -> list[Result]:
        results: list[Result] = []
        with suppress(TimeoutError):
            async with asyncio.timeout_at(None if deadline == float("inf") else deadline), self._slots:
                box = await self._take()
                self._used.add(box)
                try:
                    for number in range(len(job.runs)):
                        if is_spent(job, results):
                            return results + [Result(Outcome.TIMED_OUT)] * (len(job.runs) - number)
                        results.append(await box.run(job, number))  # kept when the deadline comes
                finally:
                    self._used.discard(box)
                    await asyncio.shield(self._discard(box))
        return results + [Result(Outcome.KILLED)] * (len(job.runs) - len(results))

    async def _take(self) -> Box:
        """Returns a sandbox that has run nothing."""
        while self._spares:
            spare = self._spares.popleft()
            try:
                await asyncio.wait([spare])
            except asyncio.CancelledError:
                self._spares.appendleft(spare)
                raise
            if spare.exception() is None and spare.result().lives():
                self._refill()
                return spare.result()
            self._throw_away(spare)
        box = await self._new_box()
        self._refill()
        return box

    async def _new_box(self) -> Box:
        if self._boot is None or self._barred is _CLOSED:
            raise SandboxUnavailable((self._barred or _NOT_STARTED).reason)
        try:
            box = await Box.boot(self._boot, None if self._uids is None else next(self._uids))
        except SandboxUnavailable as error:
            self._trouble = explain(str(error))
            raise SandboxUnavailable(self._trouble) from error
        self._trouble = ""
        return box

    def _refill(self) -> None:
        """Boots spare sandboxes. What keeps one from booting is told to the next job, if it lasts."""
        while not self._barred and len(self._spares) < self._spare_count:
            self._spares.append(asyncio.create_task(self._new_box()))

    def _throw_away(self, spare: asyncio.Task[Box]) -> None:
        if not spare.cancelled() and spare.exception() is None:
            self._discard(spare.result())

    def _discard(self, box: Box) -> asyncio.Task[None]:
        task = asyncio.create_task(box.close())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
        return task
