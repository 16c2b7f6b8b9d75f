"""One worker process, as the server sees it."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Hashable
from contextlib import suppress
from typing import Final

import structlog

from reward_server.errors import WorkerDied, WorkerError
from reward_server.workers.board import LIMIT, RUNNING, UNLIMITED, Board, new_file
from reward_server.workers.chunks import Chunk, Loss
from reward_server.workers.frames import HEADER, MAX_FRAME_BYTES, Kind, Result, Sort
from reward_server.workers.messages import LARGE_BYTES, chunk_frame, unpack_results

END_WAIT_S: Final = 2.0
"""How long the news of how a process ended may take once its line is cut."""

READ_BYTES: Final = 1 << 16
JOINED_BYTES: Final = 1 << 16
"""A frame that is smaller is sent in one piece."""

_log = structlog.get_logger(__name__)


class AllLost(WorkerDied):
    """The process that all workers are forked from has ended, and they with it."""


class Worker:
    """A process that performs chunks in the order given. Whoever uses it must kill it when one of them does not end."""

    def __init__(self, number: int, line: socket.socket) -> None:
        """Takes over this end of the line. Raises `OSError` where there is no memory to share."""
        line.settimeout(0)
        self.number = number
        self.prepared: set[Hashable] = set()  # what it has done once and keeps
        self.used = False  # by a task before: something of it may be left in the process
        self.lost = False  # it can be given nothing any more
        self.on_rest: Callable[[], None] | None = None  # called when it has nothing more to do
        self._line = line
        self._loop = asyncio.get_running_loop()
        self._started = time.monotonic()
        self._chunks: deque[Chunk] = deque()  # given and not ended, in order
        self._next_code = 1
        self._outgoing: deque[bytes | memoryview] = deque()
        self._blocked = False  # there is no room on the line for what goes out
        self._incoming = bytearray()
        self._opening = False  # a large frame is being decoded in a thread
        self._how: WorkerDied | None = None  # it ended
        self._cut_at = 0  # the item that ran when the line was cut
        self._end_timer: asyncio.TimerHandle | None = None
        board_fd = new_file()
        try:
            self.board = Board(board_fd)
            socket.send_fds(line, [b"B"], [board_fd])
        finally:
            os.close(board_fd)
        self._loop.add_reader(line, self._readable)

    @property
    def age_s(self) -> float:
        """Returns the seconds since its start."""
        return time.monotonic() - self._started

    @property
    def fit(self) -> bool:
        """Returns whether it can be given something."""
        return not self.lost and self._how is None and self._end_timer is None

    @property
    def chunks(self) -> tuple[Chunk, ...]:
        """Returns what it has not done with yet, in its order."""
        return tuple(self._chunks)

    def limit_to(self, code: int) -> None:
        """Lets it begin no item of that code or above, of the chunks that it has now."""
        self.board.cells[LIMIT] = code

    def send(self, chunk: Chunk) -> None:
        """Gives it a chunk, behind those that it has. The chunk's `done` tells its end, whatever happens."""
        if self.lost:
            chunk.end(
                Loss(self._how or WorkerDied("it is gone", from_outside=True), None, known=False, begun=0, suspects=0)
            )
            return
        if not self._chunks:
            self.board.cells[LIMIT] = UNLIMITED
        chunk.first_code, self._next_code = self._next_code, self._next_code + len(chunk.indexes)
        self._chunks.append(chunk)
        frame = chunk_frame(chunk.first_code, chunk.memory_mb, chunk.head, chunk.packed)
        if not self._outgoing:
            self._loop.call_soon(self._write)  # what else is given to it just now goes along: sending is what costs
        self._outgoing += frame

    def _write(self) -> None:
        """Sends what waits as far as there is room for it."""
        if self.lost:
            return
        try:
            while self._outgoing:
                self._join()
                piece = self._outgoing[0]
                count = self._line.send(piece)
                if count == len(piece):
                    self._outgoing.popleft()
                else:
                    self._outgoing[0] = memoryview(piece)[count:]
        except BlockingIOError:
            if not self._blocked:
                self._blocked = True
                self._loop.add_writer(self._line, self._write)
            return
        except OSError:
            self._outgoing.clear()
            self._cut()
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._line)

    def _join(self) -> None:
        """Makes one piece of the small ones that are next."""
        size, small = 0, []
        while self._outgoing and size + len(self._outgoing[0]) < JOINED_BYTES:
            size += len(self._outgoing[0])
            small.append(self._outgoing.popleft())
        if small:
            self._outgoing.appendleft(b"".join(small) if len(small) > 1 else small[0])

    def _readable(self) -> None:
        """Reads what has arrived, a bounded piece of it: the rest has its turn after others."""
        try:
            data = self._line.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._cut()
            return
        self._incoming += data
        try:
            self._parse()
        except ValueError as error:  # what a function wrote to the socket
            self.fail(WorkerDied(f"it sent something else than results: {error}"))

    def _parse(self) -> None:
        while not self._opening and not self.lost and len(self._incoming) >= HEADER.size:
            number, size = HEADER.unpack_from(self._incoming)
            kind = Kind(number)
            if size > MAX_FRAME_BYTES:
                raise ValueError(f"a frame of {size} bytes")
            end = HEADER.size + size
            if len(self._incoming) < end:
                return
            body = bytes(memoryview(self._incoming)[HEADER.size : end])
            del self._incoming[:end]
            if kind is Kind.PRINTED:
                self._log_printed(body)
            elif size > LARGE_BYTES:
                self._open(kind, body)
            else:
                self._deliver(*unpack_results(kind, body))

    def _open(self, kind: Kind, body: bytes) -> None:
        """Decodes a large frame in a thread, and reads nothing meanwhile."""

        def opened(future: asyncio.Future[tuple[int | None, list[Result]]]) -> None:
            self._opening = False
            if self.lost:
                return
            try:
                self._deliver(*future.result())
                self._parse()
            except ValueError as error:
                self.fail(WorkerDied(f"it sent something else than results: {error}"))
                return
            if self._how is not None:
                self._read_rest()
            elif not self._opening:
                self._loop.add_reader(self._line, self._readable)

        self._opening = True
        self._loop.remove_reader(self._line)
        self._loop.run_in_executor(None, unpack_results, kind, body).add_done_callback(opened)

    def _deliver(self, took_ns: int | None, results: list[Result]) -> None:
        if not self._chunks:
            raise ValueError("results of nothing")
        chunk = self._chunks[0]
        if results and results[0][0] == -1:  # its function could not be had
            results = [(place, Sort.RAISED, results[0][2]) for place in range(len(chunk.indexes))]
        try:
            chunk.take(results)
        except (IndexError, TypeError) as error:
            raise ValueError("a place that is none") from error
        if took_ns is not None:
            chunk.took_ns = took_ns
            self._chunks.popleft()
            chunk.end(None)
            if not self._chunks and self.on_rest is not None:
                self.on_rest()

    def _log_printed(self, body: bytes) -> None:
        text = body.decode(errors="replace").rstrip("\n")
        _log.info("worker printed", task=self._chunks[0].name if self._chunks else "", worker=self.number, text=text)

    def _cut(self) -> None:
        """Waits for the news of how the process ended, as its line is cut."""
        self._loop.remove_reader(self._line)
        if self._end_timer is None and not self.lost:
            self._cut_at = self.board.running()
            gone = WorkerDied("it no longer answers, though its process is there")
            self._end_timer = self._loop.call_later(END_WAIT_S, self.fail, gone)

    def hear_end(self, how: WorkerDied) -> None:
        """Notes how the process ended, and wakes whoever still waits for its answers."""
        if self._how is None and not self.lost:
            self._how = how
            if not self._opening:
                self._read_rest()

    def _read_rest(self) -> None:
        """Reads what the process sent before it ended; then that is all there is."""
        with suppress(OSError, ValueError):
            while data := self._line.recv(READ_BYTES):  # another process may hold the other end open
                self._incoming += data
        with suppress(ValueError):
            self._parse()
        if not self._opening:
            self.fail(self._how or WorkerDied("it ended"))

    def fail(self, error: WorkerError, running: int = 0) -> None:
        """Gives it up: ends its chunks with that error, for which the item that runs (or that given) may be blamed."""
        if self.lost:
            return
        self.lost = True
        self._loop.remove_reader(self._line)
        self._loop.remove_writer(self._line)
        self._outgoing.clear()
        if self._end_timer is not None:
            self._end_timer.cancel()
        code = running or self._cut_at or self.board.running()
        last = self.board.cells[RUNNING]
        begun = [max(0, min(last - chunk.first_code + 1, len(chunk.indexes))) for chunk in self._chunks]
        suspects = sum(begun) - sum(chunk.result_count for chunk in self._chunks)
        for count in begun:
            chunk = self._chunks.popleft()
            chunk.end(Loss(error, chunk.place_of(code), known=code > 0, begun=count, suspects=suspects))
        if self.on_rest is not None:
            self.on_rest()

    def close(self) -> None:
        """Gives up the line to it."""
        self.fail(WorkerDied("it was given up", from_outside=True))
        if self._line.fileno() >= 0:
            self._line.close()
            self.board.close()
