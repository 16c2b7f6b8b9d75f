"""What functions print in a worker process, on its way to the server's log.

Standard library only: worker processes import this.
"""

from __future__ import annotations

import io
import os
import socket
import threading
from typing import Any, Final

from reward_server.workers.frames import Kind, frame

PRINTED_BYTES_A_CHUNK: Final = 8_192
PRINTED_WRITES_A_CHUNK: Final = 32


class Printed(io.RawIOBase):
    """Sends what a chunk prints to the server, which logs it: a little of it, as it may be without end.

    Only what Python prints; what a C library or another program writes to the standard streams goes nowhere.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._worker = os.getpid()
        self._lock = threading.Lock()  # the function's threads print too
        self._bytes_left = 0
        self._writes_left = 0

    def begin_chunk(self) -> None:
        """Allows the next chunk its share."""
        self._bytes_left, self._writes_left = PRINTED_BYTES_A_CHUNK, PRINTED_WRITES_A_CHUNK

    def end_chunk(self) -> None:
        """Drops what is printed from here to the next chunk; then nobody at the other end reads."""
        with self._lock:
            self._bytes_left = 0

    def writable(self) -> bool:
        """Returns that it can be written to."""
        return True

    def fileno(self) -> int:
        """Returns the standard output's own, for functions that hand it to a program they start."""
        return 1

    def write(self, data: Any) -> int:
        """Takes all bytes; sends those that the chunk's share allows."""
        piece = bytes(data)
        if os.getpid() == self._worker:  # a fork must not write into its parent's line
            with self._lock:
                self._send(piece)
        return len(piece)

    def _send(self, piece: bytes) -> None:
        if self._bytes_left <= 0 or self._writes_left <= 0:
            return
        shown = piece[: self._bytes_left]
        self._bytes_left -= len(shown)
        self._writes_left -= 1
        if self._bytes_left <= 0 or self._writes_left <= 0:
            shown += b" ... (the rest of what this call prints is dropped)"
        self._connection.sendall(frame(Kind.PRINTED, shown))


def output(connection: socket.socket) -> tuple[Printed, io.TextIOWrapper]:
    """Returns what sends prints to the server, and the text stream in front of it."""
    printed = Printed(connection)
    stream = io.TextIOWrapper(
        io.BufferedWriter(printed), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    return printed, stream


def is_spent(stream: io.TextIOWrapper) -> bool:
    """Returns whether nothing can be written to it any more: it is closed, or its buffer was taken (`detach()`)."""
    try:
        return stream.closed
    except ValueError:  # detached: it cannot even tell
        return True
