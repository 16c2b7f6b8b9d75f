"""The server's side of the frames: what goes to a worker and comes back, without holding up the event loop."""

from __future__ import annotations

import asyncio
import io
import math
import pickle
import socket
from collections.abc import Callable
from typing import Any, Final

from reward_server.errors import WorkRaised
from reward_server.workers.frames import HEADER, MAX_RESULT_BYTES, Kind

LARGE_BYTES: Final = 1 << 19
"""What is larger is encoded and decoded in a thread; what is smaller takes less time than to change threads."""


class _TooLarge(Exception):
    """More was written than allowed."""


class _Pieces:
    """What a pickler writes, in pieces, up to a size.

    `write` is Python code on purpose: between the pieces the interpreter can switch threads, so that a batch of
    megabytes, pickled in a thread, leaves the event loop its turns. `pickle.dumps` would not.
    """

    def __init__(self, max_bytes: float) -> None:
        self.pieces: list[bytes] = []
        self.max_bytes = max_bytes
        self.size = 0

    def write(self, piece: bytes) -> int:
        self.pieces.append(piece)
        self.size += len(piece)
        if self.size > self.max_bytes:
            raise _TooLarge
        return len(piece)


class PlainUnpickler(pickle.Unpickler):
    """Decodes numbers, texts, lists, dicts and their like only: no result makes the server import or call anything."""

    def find_class(self, module_name: str, global_name: str) -> Any:
        """Refuses every class and function."""
        raise pickle.UnpicklingError(f"it holds a {module_name}.{global_name}")


async def pack(function: Callable[..., Any], args: tuple[Any, ...]) -> list[bytes]:
    """Returns the pieces of a task's frame. The function travels by name: it must be importable in the worker.

    Raises `WorkRaised` for arguments that cannot be sent, such as lists nested thousands deep.
    """
    try:
        return _pack(function, args, LARGE_BYTES)
    except _TooLarge:
        return await asyncio.to_thread(_pack, function, args, math.inf)


def _pack(function: Callable[..., Any], args: tuple[Any, ...], max_bytes: float) -> list[bytes]:
    written = _Pieces(max_bytes)
    try:
        pickle.Pickler(written, pickle.HIGHEST_PROTOCOL).dump((function, args))
    except _TooLarge:
        raise
    except Exception as error:
        raise WorkRaised(f"{type(error).__name__}: {error} (on the way to the worker process)") from error
    return [HEADER.pack(Kind.TASK, written.size), *written.pieces]


async def unpack(body: bytearray) -> Any:
    """Returns a result. Raises `WorkRaised` where it is not plain data."""
    try:
        return await asyncio.to_thread(_unpack, body) if len(body) > LARGE_BYTES else _unpack(body)
    except Exception as error:
        raise WorkRaised(f"the result is not plain data: {error}") from error


def _unpack(body: bytearray) -> Any:
    return PlainUnpickler(io.BytesIO(body)).load()


async def transmit(line: socket.socket, pieces: list[bytes]) -> None:
    """Sends a packed frame over a non-blocking socket."""
    loop = asyncio.get_running_loop()
    for piece in pieces:
        await loop.sock_sendall(line, piece)


async def receive(line: socket.socket) -> tuple[Kind, bytearray]:
    """Returns the next frame from a non-blocking socket.

    Raises `EOFError` or `OSError` where the worker is gone, `ValueError` where something else than a frame comes.
    """
    kind, size = HEADER.unpack(await _receive_exactly(line, HEADER.size))
    if size > MAX_RESULT_BYTES:
        raise ValueError(f"a frame of {size} bytes")
    return Kind(kind), await _receive_exactly(line, size)


async def _receive_exactly(line: socket.socket, size: int) -> bytearray:
    loop = asyncio.get_running_loop()
    body = bytearray(size)
    rest = memoryview(body)
    while rest:
        count = await loop.sock_recv_into(line, rest)
        if count == 0:
            raise EOFError("the worker is gone")
        rest = rest[count:]
    return body
