"""The server's side of the frames: what goes to a worker and comes back, without holding up the event loop."""

from __future__ import annotations

import asyncio
import io
import math
import pickle
from typing import Any, Final

from reward_server.errors import WorkerError, WorkOutOfMemory, WorkRaised
from reward_server.workers.frames import CHUNK, HEADER, Kind, Result, Sort

LARGE_BYTES: Final = 1 << 19
"""What is larger is encoded and decoded in a thread; what is smaller takes less time than to change threads."""

Pieces = list[bytes]


class _TooLarge(Exception):
    """More was written than allowed."""


class _Written:
    """What a pickler writes, in pieces, up to a size.

    `write` is Python code on purpose: between the pieces the interpreter can switch threads, so that a batch of
    megabytes, pickled in a thread, leaves the event loop its turns. `pickle.dumps` would not.
    """

    def __init__(self, max_bytes: float) -> None:
        self.pieces: Pieces = []
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


async def pack(value: Any) -> Pieces:
    """Returns a pickle in pieces. A function travels by name: it must be importable in the worker.

    Raises `WorkRaised` for what cannot be sent, such as lists nested thousands deep.
    """
    try:
        return _pack(value, LARGE_BYTES)
    except _TooLarge:
        return await asyncio.to_thread(_pack, value, math.inf)


def _pack(value: Any, max_bytes: float) -> Pieces:
    written = _Written(max_bytes)
    try:
        pickle.Pickler(written, pickle.HIGHEST_PROTOCOL).dump(value)
    except _TooLarge:
        raise
    except Exception as error:
        raise WorkRaised(f"{type(error).__name__}: {error} (on the way to the worker process)") from error
    return written.pieces


def chunk_frame(first_code: int, memory_mb: int | None, head: Pieces, items: Pieces) -> Pieces:
    """Returns the frame of a chunk: its head and its items as packed."""
    head_size = sum(map(len, head))
    body_size = CHUNK.size + head_size + sum(map(len, items))
    return [HEADER.pack(Kind.CHUNK, body_size) + CHUNK.pack(first_code, memory_mb or 0, head_size), *head, *items]


def unpack(body: bytes | bytearray) -> Any:
    """Returns what is pickled, if it is plain data. Raises all sorts of errors where it is not."""
    return PlainUnpickler(io.BytesIO(body)).load()


def unpack_results(kind: Kind, body: bytes | bytearray) -> tuple[int | None, list[Result]]:
    """Returns the results in a frame with all values unpacked, and how long their chunk took if it has ended.

    Raises `ValueError` for what no worker sends.
    """
    try:
        took_ns, results = unpack(body) if kind is Kind.ENDED else (None, unpack(body))
        return took_ns, [result if result[1] == Sort.PLAIN else _opened(*result) for result in results]
    except Exception as error:  # a function may have written to the socket
        raise ValueError(f"results that are none: {type(error).__name__}") from error


def _opened(place: int, sort: int, value: Any) -> Result:
    """Returns a result with its value in place of the pickle of it."""
    if sort != Sort.PICKLED:
        return place, int(sort), str(value)
    try:
        return place, Sort.PLAIN, unpack(value)
    except Exception as error:  # noqa: BLE001  # whatever it is, only this item has no result
        return place, Sort.RAISED, f"the result is not plain data: {error}"


def error_of(sort: int, words: str) -> WorkerError:
    """Returns the error that a result tells of."""
    return WorkOutOfMemory(words) if sort == Sort.NO_MEMORY else WorkRaised(words)
