"""The process that workers are forked from: one thread, the preloaded modules, and nothing of the server.

The server starts it as a program of its own and tells it over a socket, one JSON object a line, to start or kill a
worker by number; it tells back which worker ended, and how. It outlives every worker, and no worker outlives it: when
the server's end of the socket is gone, in whatever way the server ended, it kills what it started and ends too.

Standard library only.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import selectors
import signal
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NoReturn

from reward_server.workers import child

PR_SET_PDEATHSIG: Final = 1  # <sys/prctl.h>
PR_SET_CHILD_SUBREAPER: Final = 36
MAX_FDS_A_MESSAGE: Final = 16
READ_BYTES: Final = 65_536


def main(control_fd: int, preload: Sequence[str]) -> None:
    """Imports the modules, then serves the server at the other end of `control_fd` until it goes away."""
    _ignore_signals()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)  # what a killed worker leaves behind becomes ours, and we end it
    control = socket.socket(fileno=control_fd)
    with suppress(OSError):  # the server may be gone at any time; then there is nobody left to serve
        for name in preload:
            try:
                importlib.import_module(name)
            except BaseException as error:  # noqa: BLE001  # whatever stops an import is told to the server
                _tell(control, refused=f"cannot import {name!r}: {type(error).__name__}: {error}")
                return
        gc.freeze()  # what is loaded now stays: keeps its memory shared with the workers
        _tell(control, ready=True)
        ForkServer(control).run()


class ForkServer:
    """Starts workers, kills them, and tells how they ended."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._lines = b""  # commands read so far, the last one perhaps in part
        self._connections: deque[int] = deque()  # file descriptors for workers to be started, in order
        self._workers: dict[int, int] = {}  # process id -> the server's number for it
        self._swept: set[int] = set()  # killed processes that workers left behind, not yet gone
        self._wakeup, self._wake = socket.socketpair()  # a byte arrives when a child process ends
        self._selector = selectors.DefaultSelector()

    def run(self) -> None:
        """Obeys the server until it goes away; then nothing that was started here is left."""
        for end in (self._wakeup, self._wake):
            end.settimeout(0)
        signal.set_wakeup_fd(self._wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._control, selectors.EVENT_READ)
        self._selector.register(self._wakeup, selectors.EVENT_READ)
        try:
            while self._turn():
                pass
        finally:
            self._end_all()

    def _turn(self) -> bool:
        """Waits for something to do and does it; returns whether the server is still there."""
        for key, _ in self._selector.select():
            if key.fileobj is self._wakeup:
                self._wakeup.recv(READ_BYTES)
                self._reap()
            elif not self._obey():
                return False
        return True

    def _obey(self) -> bool:
        data, fds, _, _ = socket.recv_fds(self._control, READ_BYTES, MAX_FDS_A_MESSAGE)
        self._connections.extend(fds)
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            command = json.loads(line)
            if "start" in command:
                self._start(command["start"])
            else:
                self._kill(command["kill"])
        return bool(data)

    def _start(self, number: int) -> None:
        connection = self._connections.popleft()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:  # no process or memory to be had just now
            os.close(connection)
            _tell(self._control, ended=number, how=f"could not be started: {error.strerror}")
            return
        if pid == 0:
            self._become_worker(connection, parent)
        os.close(connection)
        self._workers[pid] = number
        _tell(self._control, started=number, pid=pid)

    def _become_worker(self, connection_fd: int, parent: int) -> NoReturn:
        try:
            os.setsid()  # a group of its own, so that it is killed together with what it starts
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            self._selector.close()
            for ours in (self._control, self._wakeup, self._wake):
                ours.close()
            _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # kills even a worker that never gives up the interpreter's lock
            if os.getppid() == parent:  # else the fork server died before the line above
                _turn_away_from_terminal()
                child.serve(socket.socket(fileno=connection_fd))
        finally:
            os._exit(1)

    def _kill(self, number: int) -> None:
        for pid, its_number in self._workers.items():
            if its_number == number:
                _kill_group(pid)

    def _reap(self) -> None:
        """Collects the child processes that ended, and ends what they leave behind."""
        sweep = False
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                number = self._workers.pop(pid, None)
                if number is not None:
                    with suppress(OSError):  # mostly there is nobody left in its group
                        os.killpg(pid, signal.SIGKILL)
                    _tell(self._control, ended=number, how=how_it_ended(os.waitstatus_to_exitcode(status)))
                sweep = sweep or number is not None or pid in self._swept
                self._swept.discard(pid)
        if sweep:
            self._sweep()

    def _sweep(self) -> None:
        """Kills processes that dead workers left behind outside their groups (daemons); they became our children."""
        for pid in _children():
            if pid not in self._workers:
                self._swept.add(pid)
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def _end_all(self) -> None:
        for pid in self._workers:
            _kill_group(pid)
        self._workers.clear()
        with suppress(ChildProcessError):
            while True:  # each that ends may hand us its own children
                self._sweep()
                os.waitpid(-1, 0)


def how_it_ended(exit_code: int) -> str:
    """Returns in words how a process ended: its exit status, or if negative the signal that killed it."""
    if exit_code >= 0:
        return f"exit status {exit_code}"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:  # a real-time signal
        name = f"signal {-exit_code}"
    return f"killed by {name}" + (", often the kernel out of memory" if name == "SIGKILL" else "")


def _kill_group(pid: int) -> None:
    """Kills a worker and all it started. Safe from reused ids: its id is taken until we have collected it."""
    for kill in (os.killpg, os.kill):  # the group is missing for a moment after the fork
        with suppress(OSError):
            kill(pid, signal.SIGKILL)


def _children() -> Iterator[int]:
    """Yields the ids of this process's children, on Linux; elsewhere none."""
    for file in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            yield from map(int, file.read_text().split())


def _ignore_signals() -> None:
    """Takes no notice of what is meant for the server, here and in workers.

    Handlers, not SIG_IGN: that would be inherited by the programs that a function starts.
    """
    for number in child.IGNORED_SIGNALS:
        signal.signal(number, lambda *_: None)


def _turn_away_from_terminal() -> None:
    """Points the standard streams at nothing, so that no function's output gets in between the server's logs."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


def _prctl(option: int, value: int) -> None:
    """Sets a Linux process attribute; elsewhere the socket's end has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _tell(control: socket.socket, **event: Any) -> None:
    control.sendall(json.dumps(event).encode() + b"\n")
