"""What a worker process does: receive a task, run it, send back its result, until the server's end is gone.

Standard library only.
"""

from __future__ import annotations

import io
import os
import pickle
import signal
import socket
import sys
import sysconfig
import threading
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from reward_server.workers.frames import MAX_RESULT_BYTES, Kind, receive, send
from reward_server.workers.tidying import Initial

MAX_MESSAGE_CHARS: Final = 1_000
IGNORED_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
"""What a terminal and systemd send to the server and its children alike, while the server lets running calls finish."""

PRINTED_BYTES_A_TASK: Final = 8_192
PRINTED_WRITES_A_TASK: Final = 32
LIBRARIES: Final = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parent),
    "<frozen",
)
"""Where code lies that is not a person's own."""


class Explained(Exception):
    """An error whose message is written for people: it reaches them as it is, without its class and place."""


def serve(connection: socket.socket) -> NoReturn:
    """Runs tasks from the connection; ends the process when its other end is gone."""
    _let_forks_be_terminated()
    worker = os.getpid()
    initial = Initial()
    printed, stream = _output(connection)
    try:
        while True:
            _, body = receive(connection)
            if _is_spent(stream):  # by the function before
                printed, stream = _output(connection)
            sys.stdout = sys.stderr = stream
            printed.begin_task()
            kind, reply = _perform(body, initial)
            if os.getpid() != worker:
                os._exit(0)  # a fork made by the function, which came back from it: the answer is not its to give
            with suppress(ValueError):  # closed or detached
                stream.flush()
            printed.end_task()
            send(connection, kind, reply)
    except (EOFError, OSError):
        os._exit(0)


def _output(connection: socket.socket) -> tuple[Printed, io.TextIOWrapper]:
    """Returns what sends prints to the server, and the text stream in front of it."""
    printed = Printed(connection)
    stream = io.TextIOWrapper(
        io.BufferedWriter(printed), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )
    return printed, stream


def _is_spent(stream: io.TextIOWrapper) -> bool:
    """Returns whether nothing can be written to it any more: it is closed, or its buffer was taken (`detach()`)."""
    try:
        return stream.closed
    except ValueError:  # detached: it cannot even tell
        return True


def _perform(body: bytearray, initial: Initial) -> tuple[Kind, bytes]:
    try:
        function, args = pickle.loads(body)  # noqa: S301  # written by the server itself
        body.clear()  # a batch of megabytes need not be there twice
        try:
            result = function(*args)
        finally:
            initial.restore()
        value = pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
        if len(value) > MAX_RESULT_BYTES:
            raise Explained(f"the result is {len(value) >> 20} MiB large; at most {MAX_RESULT_BYTES >> 20} are taken")
    except BaseException as error:  # noqa: BLE001  # sys.exit() and KeyboardInterrupt too: the worker goes on
        return Kind.RAISED, explain(error).encode(errors="backslashreplace")
    return Kind.VALUE, value


def explain(error: BaseException) -> str:
    """Returns the error's class, message and place in one line of bounded length."""
    try:
        message = str(error)
    except Exception as second:  # noqa: BLE001  # a person's own exception class may be broken
        message = f"(its message cannot be had: {type(second).__name__})"
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[:MAX_MESSAGE_CHARS] + " ..."
    if isinstance(error, Explained):
        return message
    told = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return told + _place(error)


def _place(error: BaseException) -> str:
    """Returns in brackets where it was raised: the innermost line of code that is not an installed library's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(LIBRARIES):
            return f" ({Path(frame.filename).name}, line {frame.lineno}, in {frame.name})"
    return ""


class Printed(io.RawIOBase):
    """Sends what a task prints to the server, which logs it: a little of it, as it may be without end.

    Only what Python prints; what a C library or another program writes to the standard streams goes nowhere.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._worker = os.getpid()
        self._lock = threading.Lock()  # the function's threads print too
        self._bytes_left = 0
        self._writes_left = 0

    def begin_task(self) -> None:
        """Allows the next task its share."""
        self._bytes_left, self._writes_left = PRINTED_BYTES_A_TASK, PRINTED_WRITES_A_TASK

    def end_task(self) -> None:
        """Drops what is printed from here to the next task; then nobody at the other end reads."""
        with self._lock:
            self._bytes_left = 0

    def writable(self) -> bool:
        """Returns that it can be written to."""
        return True

    def fileno(self) -> int:
        """Returns the standard output's own, for functions that hand it to a program they start."""
        return 1

    def write(self, data: Any) -> int:
        """Takes all bytes; sends those that the task's share allows."""
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
        send(self._connection, Kind.PRINTED, shown)


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
