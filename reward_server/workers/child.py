"""What a worker process does: receive a chunk of items, run it, send back its results, until the server's end is gone.

Standard library only.
"""

from __future__ import annotations

import os
import pickle
import signal
import socket
import sys
import time
from builtins import all, isinstance, len, map, type  # noqa: A004, UP029  # a function may replace the others
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from reward_server.workers import frames
from reward_server.workers.board import FINISHED, LIMIT, RUNNING, STARTED_NS, Board
from reward_server.workers.explaining import Explained, explain
from reward_server.workers.frames import MAX_RESULT_BYTES, Kind, Result, Sort
from reward_server.workers.printing import is_spent, output
from reward_server.workers.recording import Recorder
from reward_server.workers.tidying import Initial

IGNORED_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""What a terminal and systemd send to the server and its children alike, while the server lets running calls finish."""

FLUSH_NS: Final = 5_000_000
"""Results older than this are sent before the next item is begun: it might never end."""

HOLD_NS: Final = 250_000
"""So long are the results of a chunk held back while another chunk is there: long enough to send a few in one go."""

BEHIND_NS: Final = 2_000_000
"""So far may the record of the process, and what is put back in it, lie behind when an item is begun."""

MAX_BUFFERED_BYTES: Final = 1 << 20
MAX_PLAIN_CHARS: Final = 10_000
MAX_PLAIN_SIZE: Final = 16
MAX_PLAIN_INTEGER: Final = 2**63
SCALARS: Final = frozenset((float, bool, type(None)))


def serve(connection: socket.socket) -> NoReturn:
    """Runs chunks from the connection; ends the process when its other end is gone."""
    _let_forks_be_terminated()
    _, (board_fd, *_), _, _ = socket.recv_fds(connection, 1, 1)
    runner = Runner(connection, Board(board_fd))
    os.close(board_fd)
    incoming = frames.Incoming(connection)
    printed, stream = output(connection)
    try:
        while True:
            body = incoming.receive()
            if is_spent(stream):  # by the function before
                printed, stream = output(connection)
            sys.stdout = sys.stderr = stream
            printed.begin_chunk()
            runner.run(body)
            with suppress(ValueError):  # closed or detached
                stream.flush()
            printed.end_chunk()
            if not incoming.waits:  # else what follows is soon sent with it: each time is a change of processes
                runner.rest()
            elif runner.unsent_ns() > HOLD_NS:
                runner.flush()
    except (EOFError, OSError):
        os._exit(0)


class Runner:
    """Runs the items of chunks one after another, and says on the board which one it is at."""

    def __init__(self, connection: socket.socket, board: Board) -> None:
        self._connection = connection
        self._cells = board.cells
        self._worker = os.getpid()
        self._initial = Initial()
        self._recorder = Recorder(board.cells)
        self._head = b""  # that of the chunk before: mostly the next one has the same
        self._call: tuple[Callable[..., Any], tuple[Any, ...]] = (print, ())
        self._results: list[Result] = []  # of this chunk, not yet sent
        self._size = 0  # of the pickled ones among them
        self._ended = b""  # frames of chunks before
        self._sent_ns = 0

    def run(self, body: bytearray) -> None:
        """Runs one chunk, as far as the server lets it. What came of it is sent with the next `flush`."""
        first, memory_mb, head_size = frames.CHUNK.unpack_from(body)
        begin_ns = time.monotonic_ns()
        try:
            function, args, items = self._unpack(body, head_size)
        except BaseException as error:  # noqa: BLE001  # whatever a module does when it is imported
            self._results = [(-1, Sort.RAISED, explain(error).encode(errors="backslashreplace").decode())]
        else:
            body.clear()  # a batch of megabytes need not be there twice
            self._run(function, args, items, first, memory_mb)
        self._initial.restore_names()
        ended = (time.monotonic_ns() - begin_ns, self._results)
        self._ended += frames.frame(Kind.ENDED, pickle.dumps(ended, pickle.HIGHEST_PROTOCOL))
        self._results, self._size = [], 0

    def _unpack(self, body: bytearray, head_size: int) -> tuple[Callable[..., Any], tuple[Any, ...], list[Any]]:
        begin = frames.CHUNK.size
        head = bytes(memoryview(body)[begin : begin + head_size])
        if head != self._head:
            self._initial.restore()
            self._head = b""
            self._call = pickle.loads(head)  # noqa: S301  # written by the server itself
            self._head = head
        items = pickle.loads(memoryview(body)[begin + head_size :])  # noqa: S301
        return *self._call, items

    def _run(
        self, function: Callable[..., Any], args: tuple[Any, ...], items: list[Any], first: int, memory_mb: int
    ) -> None:
        cells, clock, recorder = self._cells, time.monotonic_ns, self._recorder
        for place, item in enumerate(items):
            if cells[LIMIT] <= first + place:
                return
            now_ns = clock()
            if now_ns - recorder.recorded_ns > BEHIND_NS or memory_mb != recorder.memory_mb:
                self._initial.restore()
                recorder.record(memory_mb)
                now_ns = clock()
            waits = self._results or self._ended
            if waits and (now_ns - self._sent_ns > FLUSH_NS or self._size > MAX_BUFFERED_BYTES):
                self.flush()
                now_ns = clock()
            cells[STARTED_NS] = now_ns
            cells[RUNNING] = first + place
            result = self._result(function, args, item, place)
            if os.getpid() != self._worker:
                os._exit(0)  # a fork made by the function, which came back from it: the answer is not its to give
            cells[FINISHED] = first + place
            self._results.append(result)

    def _result(self, function: Callable[..., Any], args: tuple[Any, ...], item: tuple[Any, ...], place: int) -> Result:
        try:
            value = function(*args, *item)
            if _is_plain(value):
                return place, Sort.PLAIN, value
            pickled = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
            if len(pickled) > MAX_RESULT_BYTES:
                raise Explained(
                    f"the result is {len(pickled) >> 20} MiB large; at most {MAX_RESULT_BYTES >> 20} are taken"
                )
        except BaseException as error:  # noqa: BLE001  # sys.exit() and KeyboardInterrupt too: the worker goes on
            limited = self._recorder.lift()  # there must be memory to tell it
            self._initial.restore()  # first: what follows may use the built-in names
            words = explain(error).encode(errors="backslashreplace").decode()
            return place, Sort.NO_MEMORY if limited and isinstance(error, MemoryError) else Sort.RAISED, words
        self._size += len(pickled)
        return place, Sort.PICKLED, pickled

    def unsent_ns(self) -> int:
        """Returns how long ago something was sent."""
        return time.monotonic_ns() - self._sent_ns

    def rest(self) -> None:
        """Sends all, and makes the process as it was: nobody knows whose the next chunk is."""
        self.flush()
        self._recorder.lift()

    def flush(self) -> None:
        """Sends what has come of items so far."""
        self._initial.restore()
        data, self._ended = self._ended, b""
        if self._results:
            data += frames.frame(Kind.RESULTS, pickle.dumps(self._results, pickle.HIGHEST_PROTOCOL))
            self._results, self._size = [], 0
        if data:
            self._connection.sendall(data)
        self._sent_ns = time.monotonic_ns()


def _is_plain(value: Any) -> bool:
    """Returns whether it can be sent among others as it is: small, and exactly of a type that nobody can have changed."""
    if type(value) is tuple:
        return len(value) <= MAX_PLAIN_SIZE and all(map(_is_scalar, value))
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    kind = type(value)
    return (
        kind in SCALARS
        or (kind is str and len(value) <= MAX_PLAIN_CHARS)
        or (kind is int and -MAX_PLAIN_INTEGER <= value < MAX_PLAIN_INTEGER)
    )


def _let_forks_be_terminated() -> None:
    """Gives processes that a function forks their default signals back, as the worker itself takes no notice of some.

    The signals wait meanwhile: one that is sent to a fork at once (`Process.terminate()`) would otherwise be lost.
    """

    def mask(how: int) -> None:
        signal.pthread_sigmask(how, IGNORED_SIGNALS)

    def restore() -> None:
        for number in IGNORED_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        mask(signal.SIG_UNBLOCK)

    os.register_at_fork(
        before=lambda: mask(signal.SIG_BLOCK),
        after_in_parent=lambda: mask(signal.SIG_UNBLOCK),
        after_in_child=restore,
    )
