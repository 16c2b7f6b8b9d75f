"""`reward-server serve`: one server from its start to its end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.internal import api_implementation

from reward_server.cli.terminal import located
from reward_server.config import ServerConfig, load
from reward_server.errors import ConfigError
from reward_server.server import RewardServer
from reward_server.telemetry import logs

FAST_PROTOBUF: Final = "upb"
STDIN: Final = 0
READ_BYTES: Final = 65_536


@dataclass(slots=True)
class Serving:
    """What the command line asks for."""

    config: Path
    listen: str | None
    insecure: bool
    ready_file: Path | None
    until_stdin_closes: bool

    def run(self, log_format: logs.LogFormat, log_level: str) -> int:
        """Serves until it is told to stop; returns the exit status. Raises `ConfigError`."""
        with logs.in_background(log_format, log_level):
            config = load(self.config, listen=self.listen)
            warn_of_slow_protobuf(api_implementation.Type())
            with located(config):
                return asyncio.run(self._serve(config))

    async def _serve(self, config: ServerConfig) -> int:
        ready = ReadyFile(self.ready_file)
        ready.remove()
        starting = asyncio.current_task()
        with stopping(ready, until_stdin_closes=self.until_stdin_closes) as stop:
            told = asyncio.create_task(stop.wait())
            # To load a judge's model takes long: who ends the server meanwhile need not wait for it.
            told.add_done_callback(lambda _: starting.cancel() if starting else None)
            try:
                async with RewardServer(config, insecure=self.insecure) as server:
                    starting = None  # from here on it ends by draining
                    ready.write(server.target)
                    await server.serve_until(stop)
            except asyncio.CancelledError:
                if not stop.is_set():
                    raise
            finally:
                told.cancel()
                ready.remove()
        return 0


@contextmanager
def stopping(ready: ReadyFile, *, until_stdin_closes: bool) -> Iterator[asyncio.Event]:
    """Yields the event that SIGTERM, SIGINT or the end of stdin set. A second signal ends the process at once."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()

    def on_signal() -> None:
        if stop.is_set():
            ready.remove()
            os._exit(1)  # whoever asks twice does not want to wait for anything
        stop.set()

    def on_end_of_stdin() -> None:
        # os.read, because a thread blocked inside sys.stdin would hold its lock while the interpreter ends.
        with suppress(OSError):
            while os.read(STDIN, READ_BYTES):
                pass
        with suppress(RuntimeError):  # the loop is closed: it has ended before
            loop.call_soon_threadsafe(stop.set)

    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, on_signal)
    if until_stdin_closes:
        threading.Thread(target=on_end_of_stdin, name="watch of stdin", daemon=True).start()
    try:
        yield stop
    finally:
        for number in signals:
            loop.remove_signal_handler(number)


@dataclass(frozen=True, slots=True)
class ReadyFile:
    """The file that tells others that the server answers, and where. It is there only while that is true."""

    path: Path | None  # None: nobody wants to be told

    def write(self, target: str) -> None:
        """Writes it, whole or not at all. Raises `ConfigError` if it can't."""
        if self.path is None:
            return
        unfinished = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        try:
            unfinished.write_text(json.dumps({"target": target, "pid": os.getpid()}) + "\n", encoding="utf-8")
            unfinished.replace(self.path)
        except OSError as error:
            raise ConfigError(f"--ready-file: {self.path} can't be written: {error.strerror}") from None

    def remove(self) -> None:
        """Removes it, one that an earlier server has left behind too."""
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()


def warn_of_slow_protobuf(implementation: str) -> None:
    """Logs a warning where protobuf runs in pure Python."""
    if implementation != FAST_PROTOBUF:
        structlog.get_logger(__name__).warning(
            "protobuf is slow",
            implementation=implementation,
            expected=FAST_PROTOBUF,
            remedy="calls cost 5 to 9 times as much: unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION, or install a wheel "
            f"of protobuf for Python {sys.version_info[0]}.{sys.version_info[1]}",
        )
