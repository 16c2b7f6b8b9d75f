"""Lines written by a thread of its own, so that nobody waits for, or fails with, what they are written to.

A log may be a full disk, a pipe that nobody reads or one whose reader has gone. None of it may cost a call: lines that
cannot be written are dropped and counted, and the count is written as soon as something can be again.
"""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from typing import Any, Final

MAX_WAITING_BYTES: Final = 8 << 20
"""Lines that wait for a slow log take so much memory at most; further ones are dropped."""

FLUSH_TIMEOUT_S: Final = 1.0
"""A server that ends waits so long for its last lines."""


class Lines:
    """A logger for structlog that writes each line to a file descriptor at once, in order, and never waits or raises.

    Args:
        descriptor: where to. It is written to directly: the interpreter's own stream has a lock, on which the end of
            the process would wait for ever if a write were stuck.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._changed = threading.Condition()
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0  # those being written included
        self._dropped_count = 0
        self._torn = False  # the last line was written in part
        threading.Thread(target=self._write_all, name="log", daemon=True).start()

    def __call__(self, *_: Any) -> Lines:
        """Returns itself: structlog asks for a logger by calling."""
        return self

    def msg(self, line: str) -> None:
        """Hands over one line, without its end."""
        data = line.encode(errors="backslashreplace") + b"\n"
        with self._changed:
            if self._waiting_bytes + len(data) > MAX_WAITING_BYTES:
                self._dropped_count += 1
                return
            self._waiting.append(data)
            self._waiting_bytes += len(data)
            self._changed.notify_all()

    debug = info = warning = error = critical = log = msg

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Returns when all lines are written or dropped, or after the timeout."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting_bytes == 0, timeout_s)

    def _write_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                data = self._waiting.popleft()
                dropped_count, self._dropped_count = self._dropped_count, 0
            if dropped_count and not self._written(_dropped_line(dropped_count)):
                self._count_dropped(dropped_count)
            if not self._written(data):
                self._count_dropped(1)
            with self._changed:
                self._waiting_bytes -= len(data)
                self._changed.notify_all()

    def _count_dropped(self, count: int) -> None:
        with self._changed:
            self._dropped_count += count

    def _written(self, data: bytes) -> bool:
        """Returns whether a line was written, whole."""
        rest = b"\n" + data if self._torn else data
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
                self._torn = bool(rest)
        except OSError:
            return False
        return True


def _dropped_line(count: int) -> bytes:
    return json.dumps({"event": "log lines dropped", "level": "warning", "count": count}).encode() + b"\n"
