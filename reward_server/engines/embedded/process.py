"""Starts, watches and ends the child process of the engine `embedded`."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from reward_server.children import start_child, to_its_end
from reward_server.errors import HostUnreachable

LOAD_TIMEOUT_S: Final = 300.0
END_TIMEOUT_S: Final = 3.0
"""Less than the server gives an engine to close in."""
MAX_SOCKET_PATH_BYTES: Final = 100
"""Unix sockets have room for 104 to 108 bytes, depending on the system."""
LAST_WORDS_BYTES: Final = 600
"""How much of the end of llama.cpp's own log is kept for messages."""


@dataclass(frozen=True, slots=True)
class LlamaOrder:
    """What the child is to load."""

    model: str  # absolute path
    adapter: str | None  # absolute path of a LoRA adapter; None = none
    context_tokens: int  # of each slot
    slots: int
    threads: int
    verbosity: int  # llama.cpp's: 1 = errors, 3 = all that is worth reading


class LlamaProcess:
    """One run of the child process. Make it with `start`, end it with `end`."""

    def __init__(self, process: asyncio.subprocess.Process, folder: Path, *, show_log: bool) -> None:
        self._process = process
        self._folder = folder
        self._log_end = b""
        self._reader = asyncio.create_task(self._read_log(show=show_log), name="log of llama.cpp")

    @classmethod
    async def start(cls, order: LlamaOrder, label: str) -> Self:
        """Returns the process with its model loaded. Raises `HostUnreachable` with llama.cpp's words if it fails."""
        process = await start_child(
            sys.executable,
            "-m",
            "reward_server.engines.embedded.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the server's terminal is the server's to handle
        )
        llama = cls(process, _private_folder(), show_log=order.verbosity > 1)
        try:
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                complaint = await llama._load(order)
        except TimeoutError as error:
            llama.kill()
            await llama.end()
            raise HostUnreachable(f"{label}: the model was not loaded within {LOAD_TIMEOUT_S:.0f} s") from error
        except BaseException:
            llama.kill()  # while it loads it does not hear that it is to end
            await to_its_end(llama.end())
            raise
        if complaint:
            await llama.end()
            raise HostUnreachable(f"{label}: the model cannot be loaded: {complaint}{llama.last_words()}")
        return llama

    @property
    def socket(self) -> Path:
        """Returns the unix socket that llama.cpp's HTTP server listens on."""
        return self._folder / "llama.sock"

    @property
    def pid(self) -> int:
        """Returns the child's process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Tells whether it has not ended yet."""
        return self._process.returncode is None

    async def ended(self) -> str:
        """Returns, once it has ended, how: "signal SIGSEGV" or "exit code 1", with its last words."""
        code = await self._process.wait()
        await self._reader
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return how + self.last_words()

    def last_words(self) -> str:
        """Returns the end of llama.cpp's log in brackets, or nothing."""
        lines = self._log_end.decode(errors="replace").splitlines()[-4:]
        return f" ({'; '.join(line.strip() for line in lines)})" if lines else ""

    def kill(self) -> None:
        """Ends the process at once. `end` must follow."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """Ends the process: asks it to, then kills it. Nothing is left of it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(END_TIMEOUT_S):
                    await self._process.wait()
        finally:  # whoever called this may have no more time: the process must not be left over for that
            self.kill()
            shutil.rmtree(self._folder, ignore_errors=True)
        await self._process.wait()
        await self._reader

    async def _load(self, order: LlamaOrder) -> str:
        """Gives the child its order and waits until the model is loaded. Returns what went wrong, or nothing."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101  # a pipe, see `start`
        assert stdout is not None  # noqa: S101  # a pipe, see `start`
        with suppress(ConnectionError):
            stdin.write(json.dumps({**asdict(order), "socket": str(self.socket)}).encode() + b"\n")
            await stdin.drain()
        line = await stdout.readline()
        if not line:
            return f"its process ended by {await self.ended()}"
        answer: dict[str, Any] = json.loads(line)
        return str(answer.get("error", ""))

    async def _read_log(self, *, show: bool) -> None:
        """Keeps the end of what llama.cpp writes to its log, and shows it all where that was asked for."""
        log = self._process.stderr
        assert log is not None  # noqa: S101  # a pipe, see `start`
        while piece := await log.read(65536):
            self._log_end = (self._log_end + piece)[-LAST_WORDS_BYTES:]
            if show:
                sys.stderr.write(piece.decode(errors="replace"))


def _private_folder() -> Path:
    """Makes a folder that only this user can enter, with a path short enough for a unix socket in it."""
    folder = Path(tempfile.mkdtemp(prefix="llama-"))
    if len(os.fsencode(folder / "llama.sock")) > MAX_SOCKET_PATH_BYTES:
        folder.rmdir()
        folder = Path(tempfile.mkdtemp(prefix="llama-", dir="/tmp"))  # mkdtemp makes it private
    return folder
