"""How the server and a worker talk: frames of a kind, a size and a body, over a socket pair.

Standard library only: worker processes import this.
"""

from __future__ import annotations

import socket
import struct
from enum import IntEnum
from typing import Final

HEADER: Final = struct.Struct("!BQ")
"""Kind of the frame, and the size of its body in bytes."""

MAX_RESULT_BYTES: Final = 64 << 20
"""Of what a worker sends; what goes to it is bounded by the server's limit on requests."""


class Kind(IntEnum):
    """What a frame's body is."""

    TASK = 1  # to the worker: a pickled (function, args)
    VALUE = 2  # from it: a pickled result, plain data only
    RAISED = 3  # from it: UTF-8, what the function raised
    PRINTED = 4  # from it, before one of the two: UTF-8, what the function printed


def send(connection: socket.socket, kind: Kind, body: bytes) -> None:
    """Sends one frame on a blocking socket."""
    connection.sendall(HEADER.pack(kind, len(body)))
    connection.sendall(body)


def receive(connection: socket.socket) -> tuple[Kind, bytearray]:
    """Returns the next frame from a blocking socket. Raises `EOFError` where the other end is gone."""
    kind, size = HEADER.unpack(_receive_exactly(connection, HEADER.size))
    return Kind(kind), _receive_exactly(connection, size)


def _receive_exactly(connection: socket.socket, size: int) -> bytearray:
    body = bytearray(size)
    rest = memoryview(body)
    while rest:
        count = connection.recv_into(rest)
        if count == 0:
            raise EOFError("the other end is gone")
        rest = rest[count:]
    return body
