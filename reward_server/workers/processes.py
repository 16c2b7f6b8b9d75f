"""The server's handle on its fork server: starts and kills worker processes, and hears how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final

from reward_server.children import start_child
from reward_server.errors import ConfigError, WorkerDied

READY_TIMEOUT_S: Final = 120.0
"""For starting Python and importing the preloaded modules; a deep-learning library on a cold disk takes a minute."""

END_TIMEOUT_S: Final = 5.0
SEND_PAUSE_S: Final = 0.05
"""Before a command is sent again that the kernel had no room for."""

READ_BYTES: Final = 65_536

BOOT: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from reward_server.workers.forkserver import main; main(int(sys.argv[2]), sys.argv[3:])"
)
"""The fork server's program. It sees the modules that the server sees, however the server was started."""

Event = dict[str, Any]


class ForkServer:
    """A running fork server. Make one with `await ForkServer.launch(...)`, end it with `await close()`.

    It calls `on_end` for every worker that ended, with its number and how it ended in words, and `on_gone` if the fork
    server itself did, and all its workers with it.
    """

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        control: socket.socket,
        on_end: Callable[[int, str], None],
        on_gone: Callable[[], None],
    ) -> None:
        self._process = process
        self._control = control
        self._on_end = on_end
        self._on_gone = on_gone
        self._lines = b""
        self._outgoing: deque[tuple[bytes, socket.socket | None]] = deque()  # commands, and what travels with them
        self._gone = False
        self._pids: dict[int, int] = {}  # of running workers, by number

    @classmethod
    async def launch(
        cls,
        preload: Sequence[str],
        hidden_env: Collection[str],
        on_end: Callable[[int, str], None],
        on_gone: Callable[[], None],
    ) -> ForkServer:
        """Starts one and waits until it has imported the modules.

        Raises `ConfigError` where a module cannot be imported in time, `WorkerDied` where it ends for no reason told,
        `OSError` where the system has no process or file descriptor left.
        """
        if not hasattr(os, "fork"):
            raise ConfigError("worker processes need Linux or macOS; on Windows run the server in WSL")
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        try:
            with theirs:
                process = await start_child(
                    *(sys.executable, "-c", BOOT, json.dumps(sys.path), str(theirs.fileno()), *preload),
                    pass_fds=[theirs.fileno()],
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.DEVNULL,
                    env={name: value for name, value in os.environ.items() if name not in hidden_env},
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        forks = cls(process, ours, on_end, on_gone)
        try:
            await forks._ready(preload)
        except BaseException:
            await forks.close()
            raise
        asyncio.get_running_loop().add_reader(ours, forks._read)
        return forks

    async def _ready(self, preload: Sequence[str]) -> None:
        line = b""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while not line.endswith(b"\n"):  # it says nothing else before it is given something to do
                    data = await asyncio.get_running_loop().sock_recv(self._control, READ_BYTES)
                    if not data:
                        raise WorkerDied(
                            f"the fork server ended at its start: exit status {await self._process.wait()}"
                        )
                    line += data
        except TimeoutError as error:
            modules = ", ".join(preload)
            raise ConfigError(f"workers.preload: importing {modules} took more than {READY_TIMEOUT_S:g} s") from error
        if "refused" in (event := json.loads(line)):
            raise ConfigError(f"workers.preload: {event['refused']}. Install it beside the server, or remove it there.")

    def start(self, number: int, line: socket.socket) -> None:
        """Starts a worker at the other end of that socket, which is closed here once it has been handed over."""
        self._command({"start": number}, line)

    def kill(self, number: int) -> None:
        """Kills a worker and what it started, without waiting for it."""
        self._command({"kill": number}, None)

    def pid_of(self, number: int) -> int | None:
        """Returns the process id of a worker, None before its start is told and after its end."""
        return self._pids.get(number)

    def _command(self, command: Event, line: socket.socket | None) -> None:
        self._outgoing.append((json.dumps(command).encode() + b"\n", line))
        if len(self._outgoing) == 1:  # else it is being waited for that those before it can be sent
            self._send()

    def _send(self) -> None:
        """Sends what waits, in order, as far as there is room for it now; of the rest nothing is lost."""
        if self._gone:
            self._drop_outgoing()
            return
        loop = asyncio.get_running_loop()
        loop.remove_writer(self._control)
        while self._outgoing:
            data, line = self._outgoing[0]
            try:
                count = socket.send_fds(self._control, [data], [] if line is None else [line.fileno()])
            except BlockingIOError:
                loop.add_writer(self._control, self._send)
                return
            except (BrokenPipeError, ConnectionResetError):  # it is gone: `on_gone` is called
                self._drop_outgoing()
                return
            except OSError:  # no memory for it, or too many sockets on their way
                loop.call_later(SEND_PAUSE_S, self._send)
                return
            if line is not None:
                line.close()
            self._outgoing.popleft()
            if count < len(data):
                self._outgoing.appendleft((data[count:], None))

    def _drop_outgoing(self) -> None:
        for _, line in self._outgoing:
            if line is not None:
                line.close()
        self._outgoing.clear()

    def _read(self) -> None:
        try:
            data = self._control.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
            return
        *lines, self._lines = (self._lines + data).split(b"\n")
        for line in lines:
            self._hear(json.loads(line))

    def _hear(self, event: Event) -> None:
        if "started" in event:
            self._pids[event["started"]] = event["pid"]
        else:
            self._pids.pop(event["ended"], None)
            self._on_end(event["ended"], event["how"])

    def _lost(self) -> None:
        """Ends what the fork server left behind: Linux has killed its workers with it, other systems have not."""
        self._leave()
        for pid in self._pids.values():
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        self._pids.clear()
        self._on_gone()

    def _leave(self) -> None:
        """Neither listens nor talks to it any more."""
        if self._gone:
            return
        self._gone = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._control)
        loop.remove_writer(self._control)
        self._drop_outgoing()

    async def close(self) -> None:
        """Ends it and all workers; afterwards none of their processes is left."""
        self._leave()
        self._control.close()  # which it takes as its sign
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
