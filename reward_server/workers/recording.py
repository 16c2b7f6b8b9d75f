"""Notes in a worker process, before an item, what the item is measured against, and limits its memory.

Standard library only: worker processes import this.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import Final

from reward_server.workers.board import CPU_NS, DELAY_NS, RECORDED_NS, RESIDENT_BYTES

try:
    import resource
except ImportError:  # Windows, where there are no workers either
    resource = None  # type: ignore[assignment]

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class Recorder:
    """Reads what Linux tells of this process; elsewhere it records nothing and limits nothing."""

    def __init__(self, cells: memoryview) -> None:
        self._cells = cells
        self.recorded_ns = 0
        self.memory_mb = 0  # what an item may take more, as long as it is limited

    def record(self, memory_mb: int) -> None:
        """Notes the processor's time and memory so far; from here the process may take so many MiB more (0 = any)."""
        self.lift()
        cells = self._cells
        try:
            cpu_ns, delay_ns = _read("/proc/self/schedstat")[:2]
            _, resident, _, _, _, data, _ = _read("/proc/self/statm")
        except (OSError, ValueError):
            cells[RECORDED_NS], self.recorded_ns, self.memory_mb = 0, time.monotonic_ns(), memory_mb
            return
        self.recorded_ns = time.monotonic_ns()
        cells[CPU_NS], cells[DELAY_NS], cells[RESIDENT_BYTES] = cpu_ns, delay_ns, resident * PAGE_BYTES
        cells[RECORDED_NS] = self.recorded_ns
        if memory_mb:
            self.memory_mb = memory_mb
            self._limit(data * PAGE_BYTES + (memory_mb << 20))

    def _limit(self, size: int) -> None:
        """Limits the private memory, which is what a program asks for as it computes; files it maps do not count."""
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        if hard != resource.RLIM_INFINITY:
            size = min(size, hard)
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (size, hard))

    def lift(self) -> bool:
        """Takes the limit away; returns whether there was one."""
        if not self.memory_mb:
            return False
        self.memory_mb = 0
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_DATA, (hard, hard))
        return True


def _read(path: str) -> list[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        return [int(word) for word in os.read(fd, 256).split()]
    finally:
        os.close(fd)
