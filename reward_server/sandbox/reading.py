"""Files and pipes of a run, as the server holds them."""

from __future__ import annotations

import asyncio
import fcntl
import os
from contextlib import ExitStack, suppress
from typing import IO, Final

CHUNK_BYTES: Final = 65_536
MAX_PIPE_BYTES: Final = 1 << 20
SET_PIPE_SIZE, ADD_SEALS, ALL_SEALS = 1031, 1033, 15  # of Linux; Python has no names for them elsewhere


def file_of(text: str) -> IO[bytes]:
    """Returns an open file in memory that holds a text and can't be changed any more."""
    descriptor = os.memfd_create("run", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    file = os.fdopen(descriptor, "r+b", buffering=0)
    rest = memoryview(text.encode("utf-8", "surrogateescape" if _is_escaped(text) else "replace"))
    while rest:
        rest = rest[file.write(rest) :]
    file.seek(0)
    fcntl.fcntl(descriptor, ADD_SEALS, ALL_SEALS)
    return file


def _is_escaped(text: str) -> bool:
    """Tells whether each lone surrogate of a text stands for a byte."""
    try:
        text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
    return True


class CappedReader:
    """Reads what a program prints, up to a limit; then it reads no more, and the program waits until it is stopped.

    The pipe holds as much as the kernel allows, so that a busy server does not hold up a program that prints.
    """

    def __init__(self, stack: ExitStack, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._parts: list[bytes] = []
        self._bytes = 0
        self._ended = asyncio.Event()
        self.full = asyncio.Event()
        self._ours, self.end = os.pipe2(os.O_CLOEXEC)
        stack.callback(self._close)
        os.set_blocking(self._ours, False)
        with suppress(OSError):
            fcntl.fcntl(self.end, SET_PIPE_SIZE, min(MAX_PIPE_BYTES, max(CHUNK_BYTES, limit_bytes)))

    def start(self) -> None:
        """Begins to read; the program has the other end now."""
        os.close(self.end)
        self.end = -1
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def _read(self) -> None:
        try:
            part = os.read(self._ours, min(CHUNK_BYTES, self._limit_bytes + 1 - self._bytes))
        except BlockingIOError:
            return
        self._parts.append(part)
        self._bytes += len(part)
        if self._bytes > self._limit_bytes:
            self.full.set()
        if not part or self.full.is_set():
            self._ended.set()
            asyncio.get_running_loop().remove_reader(self._ours)

    async def whole(self) -> None:
        """Waits until everything up to the limit is read."""
        await self._ended.wait()

    def text(self) -> str:
        """Returns what was read, as text."""
        return b"".join(self._parts)[: self._limit_bytes].decode("utf-8", "replace")

    def _close(self) -> None:
        if self.end >= 0:
            os.close(self.end)
        else:
            asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)
