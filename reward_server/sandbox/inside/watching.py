"""How the harness looks after a run, from outside the run's namespaces."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from reward_server.own_time import OwnTime, Reading

PAGE_BYTES: Final = resource.getpagesize()
TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")
MEBIBYTE: Final = 1 << 20
TICK_MS: Final = 10
"""From look to look."""

LATE_FACTOR: Final = 10
LATE_S: Final = 10.0
"""A run that is not over its own time is stopped all the same after so many times its limit, and so much more."""

Processes = Mapping[int, tuple[bytes, int]]
"""State and parent, by process id."""


def look(base_pages: int) -> tuple[int, float, Processes]:
    """Returns the run's memory in bytes, its CPU seconds, and its processes.

    Memory of each process is what it has above the harness, of which it is a copy; CPU time includes ended processes.
    """
    pages, ticks = 0, 0
    processes: dict[int, tuple[bytes, int]] = {}
    for name in os.listdir("/proc"):  # noqa: PTH208  # a hundred times a second
        if not name.isdigit() or name == "1":
            continue
        try:
            facts = Path("/proc", name, "stat").read_bytes().rpartition(b") ")[2].split()
        except OSError:
            continue  # it has ended
        is_init = facts[1] == b"1"  # its own work is ours, not the program's
        processes[int(name)] = facts[0], int(facts[1])
        ticks += sum(map(int, facts[13 if is_init else 11 : 15]))
        pages += 0 if is_init else max(0, int(facts[21]) - base_pages)
    return pages * PAGE_BYTES, ticks / TICKS_PER_S, processes


def exact_bytes(processes: Iterable[int]) -> float:
    """Returns the memory of processes, what they share counted once; infinite where the kernel does not tell."""
    total_kb = 0
    for pid in processes:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_bytes().splitlines()
        except PermissionError:
            return float("inf")
        except OSError:
            continue  # it has ended
        total_kb += sum(int(line.split()[1]) for line in lines if line.startswith(b"Pss:"))
    return total_kb * 1024


def resident_pages() -> int:
    """Returns the caller's own resident size."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])


def oom_kills() -> int:
    """Returns how many processes of the machine the kernel has killed for want of memory."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/vmstat").read_bytes().splitlines():
            if line.startswith(b"oom_kill "):
                return int(line.split()[1])
    return 0


class Clock:
    """A program's own time, once there is a program.

    Where the kernel does not tell how long it waited for a CPU, of time in which it was ready only CPU time counts. That
    it waits for a disk, or is stopped, is believed for `idle_s` seconds only.
    """

    def __init__(self, idle_s: float) -> None:
        self.own_s = 0.0
        self._idle_ns = int(idle_s * 1e9)
        self._last_ns = time.monotonic_ns()
        self._cpu_s = 0.0
        self._own: OwnTime | None = None

    def tick(self, program: int | None, state: bytes, cpu_s: float) -> None:
        """Adds the time since the last tick. `cpu_s`: of all its processes, since the run began."""
        now_ns = time.monotonic_ns()
        last_ns, self._last_ns = self._last_ns, now_ns
        used_s, self._cpu_s = cpu_s - self._cpu_s, cpu_s
        if program is None:
            return
        if self._own is None:
            self._own = OwnTime(program, last_ns, Reading(0, 0), self._idle_ns)
        own_s = self._own.look(now_ns, last_ns + TICK_MS * 1_000_000)
        if own_s is None:
            own_s = self.own_s + (used_s if state == b"R" else (now_ns - last_ns) / 1e9)
        self.own_s = max(self.own_s, own_s)


class Watch:
    """Says when a run must be stopped. `init` is the first process of its namespace."""

    def __init__(self, init: int, limits: Mapping[str, float], base_pages: int) -> None:
        self._init = init
        self._limits = limits
        self._base_pages = base_pages
        self._clock = Clock(idle_s=limits["wall_s"])
        self._began_s = time.monotonic()
        self._program: int | None = None
        self.cpu_s = 0.0  # at the last look

    @property
    def own_s(self) -> float:
        """Returns the seconds since then that were the program's own, at the last look."""
        return self._clock.own_s

    def wall_s(self) -> float:
        """Returns the seconds since the run began."""
        return time.monotonic() - self._began_s

    def reason_to_stop(self) -> str | None:
        """Returns why the run must be stopped now, or None."""
        memory, self.cpu_s, processes = look(self._base_pages)
        if self._program is None:
            self._program = min((pid for pid, (_, parent) in processes.items() if parent == self._init), default=None)
        state = b"S" if self._program is None or self._program not in processes else processes[self._program][0]
        self._clock.tick(self._program, state, self.cpu_s)
        if self._takes_too_much(memory, processes):
            return "out_of_memory"
        if self.cpu_s > self._limits["cpu_s"] or self._clock.own_s > self._limits["wall_s"]:
            return "timed_out"
        return "late" if self.wall_s() > LATE_FACTOR * self._limits["wall_s"] + LATE_S else None

    def _takes_too_much(self, memory: int, processes: Processes) -> bool:
        most = self._limits["memory_mb"] * MEBIBYTE
        if memory <= most:
            return False
        return exact_bytes(pid for pid in processes if pid != self._init) - self._base_pages * PAGE_BYTES > most
