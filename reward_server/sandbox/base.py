"""What a sandbox is: untrusted programs in, what they printed and how they ended out.

A job is one completion's program and all runs of it. Jobs share nothing, nor do runs of one job. What the runs are
compared with (expected outputs) never enters a sandbox.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol, runtime_checkable

from reward_server.domain import Health


@dataclass(frozen=True, slots=True)
class Limits:
    """What each run of a job may use. A new run starts with nothing used."""

    cpu_s: float = 10.0  # of all the run's processes together
    wall_s: float = 20.0  # in its own time: what it waits for a CPU does not count
    memory_mb: int = 512  # of all the run's processes together
    processes: int = 32  # threads count too
    output_kb: int = 1024  # of each of stdout and stderr
    files_mb: int = 64  # working directory, /tmp and /dev/shm together

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}: give a number above 0")


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a job's program, from its start to its end."""

    stdin: str = ""
    tail: str = ""  # code that follows the program's own in this run, such as an assertion; its file does not hold it


@dataclass(frozen=True, slots=True)
class Job:
    """One completion's program and all runs of it."""

    source: str
    runs: Sequence[Run]
    language: str = "python"
    limits: Limits = field(default_factory=Limits)
    most_timeouts: int = 2  # after so many runs out of time the others are not begun, and count as out of time too
    total_s: float = float("inf")  # likewise once the runs have taken so long together, each in its own time


class Outcome(Enum):
    """How a run ended."""

    OK = "ok"  # exit status 0
    FAILED = "failed"  # another exit status, or a signal of the program's own doing
    TIMED_OUT = "timed_out"  # over its CPU time, or over its wall time by its own doing: load never makes it late
    OUT_OF_MEMORY = "out_of_memory"
    OUTPUT_LIMIT = "output_limit"  # it printed more than the limit; what came before is kept
    KILLED = "killed"  # not by its own doing, as far as known: the deadline came, the machine ran out of memory or time


@dataclass(frozen=True, slots=True)
class Result:
    """What one run printed and how it ended."""

    outcome: Outcome
    stdout: str = ""  # up to the limit; bytes that are no UTF-8 are replaced by U+FFFD
    stderr: str = ""
    exit_code: int | None = None  # negative: minus the signal that ended it; None: it was stopped
    cpu_s: float = 0.0
    wall_s: float = 0.0
    own_s: float = 0.0  # of the wall time what was the program's own: it does not grow with the machine's load


def is_spent(job: Job, results: Sequence[Result]) -> bool:
    """Returns whether a job whose first runs ended so is to be given no more time."""
    timeouts = sum(result.outcome is Outcome.TIMED_OUT for result in results)
    return timeouts >= job.most_timeouts or sum(result.own_s for result in results) >= job.total_s


@runtime_checkable
class Sandbox(Protocol):
    """Runs programs that may do anything."""

    async def start(self) -> None:
        """Proves the isolation. Raises nothing: what does not hold is told by `health` and by every `run`."""

    async def close(self) -> None:
        """Kills whatever runs. Nothing can be run afterwards."""

    def health(self) -> Health:
        """Tells whether programs can be run; where not, why the isolation does not hold, and the remedy."""

    def identity(self) -> Mapping[str, Any]:
        """Returns what shapes a result besides the job, as plain data for a reward's version."""

    async def run(self, job: Job, deadline: float = float("inf")) -> Sequence[Result]:
        """Runs a job and returns one result per run, in order.

        At the deadline (on `time.monotonic()`'s clock) what runs is killed, and what has not ended is `KILLED`.
        Cancelling kills the job. Raises `SandboxUnavailable` where nothing can be run, `ValueError` for a language
        that the sandbox does not have.
        """
