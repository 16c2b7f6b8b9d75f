"""The server's handle on its fork server: starts and kills worker processes, and hears how they end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Any, Final

from reward_server.errors import ConfigError, WorkerDied

READY_TIMEOUT_S: Final = 120.0
"""For starting Python and importing the preloaded modules; a deep-learning library on a cold disk takes a minute."""

END_TIMEOUT_S: Final = 5.0
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

        Raises `ConfigError` where a module cannot be imported in time, `WorkerDied` where it ends for no reason told.
        """
        if not hasattr(os, "fork"):
            raise ConfigError("worker processes need Linux or macOS; on Windows run the server in WSL")
        ours, theirs = socket.socketpair()
        ours.settimeout(0)
        with theirs:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", BOOT, json.dumps(sys.path), str(theirs.fileno()), *preload),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                env={name: value for name, value in os.environ.items() if name not in hidden_env},
                start_new_session=True,
            )
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
        """Starts a worker at the other end of that socket."""
        with suppress(OSError):  # it is gone: `on_gone` is called
            socket.send_fds(self._control, [json.dumps({"start": number}).encode() + b"\n"], [line.fileno()])

    def kill(self, number: int) -> None:
        """Kills a worker and what it started, without waiting for it."""
        with suppress(OSError):
            self._control.sendall(json.dumps({"kill": number}).encode() + b"\n")

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
        asyncio.get_running_loop().remove_reader(self._control)
        for pid in self._pids.values():
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        self._pids.clear()
        self._on_gone()

    async def close(self) -> None:
        """Ends it and all workers; afterwards none of their processes is left."""
        asyncio.get_running_loop().remove_reader(self._control)
        self._control.close()  # which it takes as its sign
        try:
            async with asyncio.timeout(END_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
