"""One worker process, as the server sees it."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Any, Final

import structlog

from reward_server.errors import WorkerDied, WorkRaised
from reward_server.workers import messages
from reward_server.workers.frames import Kind

END_WAIT_S: Final = 2.0
"""How long the news of how a process ended may take once its line is cut."""

_log = structlog.get_logger(__name__)


class Worker:
    """A process that performs one call after another. Whoever uses it when a call does not return must kill it."""

    def __init__(self, number: int, line: socket.socket) -> None:
        line.settimeout(0)
        self.number = number
        self.prepared: set[Hashable] = set()  # what it has done once and keeps
        self.used = False  # by a task before: something of it may be left in the process
        self._line = line
        self._started = time.monotonic()
        self._end: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # how it ended

    @property
    def age_s(self) -> float:
        """Returns the seconds since its start."""
        return time.monotonic() - self._started

    @property
    def ended(self) -> bool:
        """Returns whether its process is known to have ended."""
        return self._end.done()

    async def perform(self, function: Callable[..., Any], args: tuple[Any, ...], name: str) -> Any:
        """Returns what the function returns there. Raises `WorkRaised`, or `WorkerDied` with how it ended."""
        pieces = await messages.pack(function, args)
        try:
            await messages.transmit(self._line, pieces)
            while (frame := await messages.receive(self._line))[0] is Kind.PRINTED:
                _log.info("worker printed", task=name, worker=self.number, text=_text(frame[1]))
        except (EOFError, OSError, ValueError):
            raise WorkerDied(await self._how_it_ended()) from None
        kind, body = frame
        if kind is Kind.RAISED:
            raise WorkRaised(_text(body))
        return await messages.unpack(body)

    async def _how_it_ended(self) -> str:
        try:
            async with asyncio.timeout(END_WAIT_S):
                return await self._end
        except TimeoutError:
            return "it no longer answers, though its process is there"

    def hear_end(self, how: str) -> None:
        """Notes how the process ended, and wakes whoever still waits for its answer."""
        if not self._end.done():
            self._end.set_result(how)
        with suppress(OSError):  # another process may hold the other end open
            self._line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Gives up the line to it."""
        self._line.close()


def _text(body: bytearray) -> str:
    return body.decode(errors="replace").rstrip("\n")
