"""How the server and a worker talk: frames of a kind, a size and a body, over a socket pair.

The server sends chunks: a function, its first arguments, and the items to call it with one after another. The worker
sends what came of them, some at a time, and with the last of a chunk that it is done with it.

Standard library only: worker processes import this.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import Any, Final

HEADER: Final = struct.Struct("!BQ")
"""Kind of the frame, and the size of its body in bytes."""

CHUNK: Final = struct.Struct("!QQQ")
"""Begins a chunk: the code of its first item, MiB that an item may take (0 = any), bytes of the pickle that follows.

That is one of `(function, first arguments)`; then comes one of the items, a list of tuples of further arguments.
"""

MAX_RESULT_BYTES: Final = 64 << 20
"""Of one item; what goes to a worker is bounded by the server's limit on requests."""

MAX_FRAME_BYTES: Final = 80 << 20
"""Of what a worker sends at a time: a result of the largest size and what is sent with it."""


class Kind(IntEnum):
    """What a frame's body is."""

    CHUNK = 1  # to the worker
    RESULTS = 2  # from it: a pickled list of `Result`
    ENDED = 3  # from it: a pickled (nanoseconds that the chunk took, list of the last `Result`s)
    PRINTED = 4  # from it, before them: UTF-8, what the function printed


class Sort:
    """What came of an item. Bare numbers: a member of an enumeration would travel by its name."""

    PLAIN: Final = 0  # the value itself: a number, a text, None, or a short tuple of such
    PICKLED: Final = 1  # a pickle of it, plain data only
    RAISED: Final = 2  # in words what the function raised
    NO_MEMORY: Final = 3  # likewise, where it was that it got no more memory


Result = tuple[int, int, Any]
"""An item's place in its chunk, its `Sort`, and the value or words."""


READ_BYTES: Final = 1 << 16


class Incoming:
    """Frames from a blocking socket, read as many at a time as are there."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    @property
    def waits(self) -> bool:
        """Returns whether another frame is there already."""
        return len(self._buffer) >= HEADER.size and len(self._buffer) >= HEADER.size + self._size()

    def receive(self) -> bytearray:
        """Returns the body of the next frame. Raises `EOFError` where the other end is gone."""
        while len(self._buffer) < HEADER.size:
            self._read()
        end = HEADER.size + self._size()
        while len(self._buffer) < end:
            self._read()
        body = self._buffer[HEADER.size : end]
        if len(self._buffer) == end:
            self._buffer = bytearray()
        else:
            del self._buffer[:end]
        return body

    def _size(self) -> int:
        size: int = HEADER.unpack_from(self._buffer)[1]
        return size

    def _read(self) -> None:
        data = self._connection.recv(READ_BYTES)
        if not data:
            raise EOFError("the other end is gone")
        self._buffer += data


def frame(kind: Kind, body: bytes) -> bytes:
    """Returns a frame."""
    return HEADER.pack(kind, len(body)) + body
