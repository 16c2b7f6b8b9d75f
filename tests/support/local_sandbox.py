"""A sandbox that keeps nothing in: it runs the tests' own programs as they are, and can be told to fail."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from reward_server.children import start_child, to_its_end
from reward_server.domain import HEALTHY, Health
from reward_server.sandbox.base import Job, Outcome, Result, Run


class LocalSandbox:
    def __init__(self) -> None:
        self.said_health = HEALTHY
        self.faults: list[Exception | Outcome] = []  # one for each of the next jobs
        self.jobs: list[Job] = []
        self.started = 0

    def get(self, choice: Any, where: str) -> LocalSandbox:
        """Stands for `Sandboxes` too."""
        return self

    async def start(self) -> None:
        self.started += 1

    async def close(self) -> None: ...

    def health(self) -> Health:
        return self.said_health

    def identity(self) -> Mapping[str, Any]:
        return {"kind": "local"}

    async def run(self, job: Job, deadline: float = float("inf")) -> Sequence[Result]:
        self.jobs.append(job)
        if self.faults:
            fault = self.faults.pop(0)
            if isinstance(fault, Exception):
                raise fault
            return [Result(fault) for _ in job.runs]
        return [await self._ran(job, run, deadline) for run in job.runs]

    async def _ran(self, job: Job, run: Run, deadline: float) -> Result:
        source = f"{job.source}\n{run.tail}".encode(errors="replace").decode()
        pipe = asyncio.subprocess.PIPE
        process = await start_child(sys.executable, "-I", "-c", source, stdin=pipe, stdout=pipe, stderr=pipe)
        try:
            async with asyncio.timeout(min(job.limits.wall_s, deadline - time.monotonic())):
                out, err = await process.communicate(run.stdin.encode(errors="replace"))
        except TimeoutError:
            return Result(Outcome.TIMED_OUT, cpu_s=job.limits.wall_s)
        finally:
            if process.returncode is None:
                process.kill()
                await to_its_end(process.wait())
        outcome = Outcome.FAILED if process.returncode else Outcome.OK
        return Result(outcome, out.decode(), err.decode(), process.returncode)
