"""The proof of the isolation: attacks that must fail, run in real sandboxes before anything else is.

A sandbox that was set up wrong looks like one that works. So what is promised is tried: each probe is a program that
prints `BREACH` and what it could do. Done once per process for each way to make sandboxes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from reward_server.errors import SandboxUnavailable
from reward_server.sandbox.base import Job, Limits, Outcome, Result, Run
from reward_server.sandbox.box import Boot

BREACH: Final = "BREACH"
WORKS: Final = "it works"
PROOF_TIMEOUT_S: Final = 120.0
CANARY_ENV: Final = "REWARD_SERVER_SANDBOX_CANARY"

_LIMITS: Final = Limits(cpu_s=5, wall_s=10, memory_mb=64, processes=8, output_kb=64, files_mb=4)
_PROBES: Final = Path(__file__).with_name("inside") / "probes.py"

RunJob = Callable[[Job], Awaitable[Sequence[Result]]]

_proven: dict[Boot, str] = {}
"""What was found before, by how the sandboxes are made; empty = the isolation holds."""

MEMORY: Final = "held = []\nwhile True: held.append(bytearray(1 << 20))"
FLOOD: Final = "while True: print('x' * 4096)"
FORKS: Final = """
import os, time
started = 0
try:
    while started < 100:
        if os.fork() == 0:
            time.sleep(5)
            os._exit(0)
        started += 1
except OSError:
    print("refused after", started)
else:
    print("BREACH: 100 processes")
"""
LEAVE: Final = """
import pathlib
for place in "/tmp", "/dev/shm", ".":
    file = pathlib.Path(place, "left")
    if file.exists(): print("BREACH: a file of another run")
    file.write_text("left")
"""


async def prove(boot: Boot, run: RunJob) -> None:
    """Proves the isolation. Raises `SandboxUnavailable` with what does not hold."""
    if boot not in _proven:
        try:
            async with asyncio.timeout(PROOF_TIMEOUT_S):
                _proven[boot] = "; ".join(await _breaches(run))
        except TimeoutError as error:
            raise SandboxUnavailable("the isolation could not be proven in time: the machine is too busy") from error
    if _proven[boot]:
        raise SandboxUnavailable(f"the isolation does not hold here: {_proven[boot]}; use another machine or sandbox")


async def _all(run: RunJob, jobs: Sequence[Job]) -> list[Sequence[Result]]:
    """Runs jobs at a time. Raises what one of them raises, when all have ended."""
    found: list[Sequence[Result]] = []
    for results in await asyncio.gather(*(run(job) for job in jobs), return_exceptions=True):
        if isinstance(results, BaseException):
            raise results
        found.append(results)
    return found


async def _breaches(run: RunJob) -> list[str]:
    with _canaries() as facts:
        source = _PROBES.read_text(encoding="utf-8")
        plain = Job(source, [Run(facts)], limits=_LIMITS)
        leaving = Job(LEAVE, [Run(), Run()], limits=_LIMITS)
        greedy = [Job(text, [Run()], limits=_LIMITS) for text in (FORKS, MEMORY, FLOOD)]
        jobs = await _all(run, [plain, leaving, leaving, *greedy])
    if jobs[0][0].outcome is not Outcome.OK or WORKS not in jobs[0][0].stdout:
        raise SandboxUnavailable(f"a program does not run in the sandbox: {jobs[0][0]}")
    found = [line for results in jobs for result in results for line in result.stdout.splitlines() if BREACH in line]
    forks, memory, flood = (results[0] for results in jobs[3:])
    if forks.outcome is not Outcome.OK:
        found.append(f"the limit of processes could not be tried ({forks})")
    if memory.outcome is not Outcome.OUT_OF_MEMORY:
        found.append(f"memory is not limited ({memory.outcome.value})")
    if flood.outcome is not Outcome.OUTPUT_LIMIT or len(flood.stdout) > _LIMITS.output_kb * 1024:
        found.append(f"output is not limited ({flood.outcome.value})")
    return found


@contextmanager
def _canaries() -> Iterator[str]:
    """Lays out what no program may reach. Yields, as lines: a file, a variable, a port, an abstract socket's name."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        secret = Path(folder, "canary")
        secret.write_text("secret", encoding="ascii")
        name = f"reward-server-{secrets.token_hex(8)}"
        unix.bind(f"\0{name}")
        unix.listen()
        os.environ[CANARY_ENV] = "secret"
        try:
            yield "\n".join([str(secret), CANARY_ENV, str(listener.getsockname()[1]), name])
        finally:
            del os.environ[CANARY_ENV]
