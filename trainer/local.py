"""A reward server of one's own, for a `local:` target: a process that ends with this one, however this one ends.

The server watches its standard input and drains when that closes, which the operating system does for a process that
dies, even by SIGKILL. Clients in one process that name the same configuration share one server.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue

from trainer.errors import LocalServerFailed

_log = logging.getLogger("trainer.client")

START_TIMEOUT_S = 600.0
"""Time to get ready. Judges load their models meanwhile, each of which may take minutes."""

TELL_EVERY_S = 10.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02
_MAX_LAST_WORDS_CHARS = 4_000
_REMEDY = "install the server's part: pip install 'grpo-reward-service[server]'"


class LocalServer:
    """A server process. One thread starts it, others may wait for its address meanwhile."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.owner_pid = os.getpid()
        self.client_count = 0
        self._address: Future[str] = Future()
        self._folder = Path(tempfile.mkdtemp(prefix="reward-server-"))
        self._log = self._folder / "log"
        self._process: subprocess.Popen[bytes] | None = None  # None: not launched yet

    @property
    def address(self) -> str:
        """Where it listens; waits until it does. Raises `LocalServerFailed` if it did not start."""
        return self._address.result()

    def start(self, tell: Callable[[str], object]) -> None:
        """Launches the process and waits until it serves, telling now and then that it does not yet.

        Raises:
            LocalServerFailed: It ended, or took too long; its last words are in the message.
        """
        try:
            ready = self._folder / "ready.json"
            self._process = self._launch(ready)
            address = self._await_address(self._process, ready, tell)
        except BaseException as error:
            self.stop()
            given_up = LocalServerFailed(f"the start of the server of local:{self.config} was given up: {error!r}")
            self._address.set_exception(error if isinstance(error, LocalServerFailed) else given_up)
            raise
        self._address.set_result(address)

    def last_words_if_ended(self) -> str | None:
        """Returns what the process last wrote if it has ended by itself, else None."""
        if self._process is None or self._process.poll() is None:
            return None
        return f"the server of local:{self.config} has ended (exit status {self._process.returncode}):\n{self._tail()}"

    def stop(self) -> None:
        """Lets the process drain and ends it; it is killed if that takes too long."""
        if self._process is not None:
            if self._process.stdin is not None:
                self._process.stdin.close()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _launch(self, ready: Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "reward_server", "serve", "--config", str(self.config)]
        command += ["--listen", "127.0.0.1:0", "--ready-file", str(ready), "--until-stdin-closes"]
        with self._log.open("wb") as log:
            # In a session of its own, so that Ctrl-C reaches this process first, which then ends it in order.
            return subprocess.Popen(  # noqa: S603  # this interpreter, and a path that the person gave
                command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )

    def _await_address(self, process: subprocess.Popen[bytes], ready: Path, tell: Callable[[str], object]) -> str:
        name = f"the server of local:{self.config}"
        began = told = time.monotonic()
        while not ready.exists():
            now = time.monotonic()
            if process.poll() is not None:
                raise LocalServerFailed(f"{name} did not start:\n{self._tail()}")
            if now - began > START_TIMEOUT_S:
                raise LocalServerFailed(f"{name} was not ready within {START_TIMEOUT_S:g} s:\n{self._tail()}")
            if now - told >= TELL_EVERY_S:
                told = now
                tell(f"{name} has been starting for {now - began:.0f} s; waiting up to {START_TIMEOUT_S:.0f} s")
            time.sleep(_POLL_S)
        return str(json.loads(ready.read_text())["target"])

    def _tail(self) -> str:
        try:
            words = self._log.read_text(errors="replace").strip()[-_MAX_LAST_WORDS_CHARS:]
        except FileNotFoundError:  # stopped, and its folder is gone
            words = ""
        if "ModuleNotFoundError" in words:
            words += f"\nA package is missing; {_REMEDY}"
        return words or "it wrote nothing"


_servers: dict[Path, LocalServer] = {}
_lock = threading.Lock()  # never held while a process starts or ends
_forgotten: SimpleQueue[LocalServer | None] = SimpleQueue()  # None: this process ends
_reaper: threading.Thread | None = None


def acquire(config: str, tell: Callable[[str], object] | None = None) -> LocalServer:
    """Returns the server of a configuration file, started unless it runs. Give it back with `release` or `forget`.

    Args:
        config: The file.
        tell: Is told, in words, about every ten seconds that it is still starting; without, a warning is logged.

    Raises:
        LocalServerFailed: There is no such file, or the server did not start; its last words are in the message.
    """
    path = Path(config).expanduser().resolve()
    if not path.is_file():
        raise LocalServerFailed(f"target local:{config} names no file: {path} does not exist")
    if importlib.util.find_spec("reward_server") is None:
        raise LocalServerFailed(f"target local:{config} needs the package reward_server; {_REMEDY}")
    server, is_new = _entry(path)
    try:
        if is_new:
            server.start(tell or _log.warning)
        server.address  # noqa: B018  # waits for the thread that starts it
    except BaseException:
        release(server)
        raise
    return server


def release(server: LocalServer) -> None:
    """Gives a server back; with its last client it ends, which takes a while. A forked child leaves its parent's alone."""
    if server.owner_pid != os.getpid():
        return
    with _lock:
        server.client_count -= 1
        if server.client_count > 0:
            return
        if _servers.get(server.config) is server:
            del _servers[server.config]
    server.stop()


def forget(server: LocalServer) -> None:
    """Gives a server back without waiting. For finalisers: these run anywhere, even in a thread that holds the lock."""
    if server.owner_pid == os.getpid():
        _forgotten.put(server)


def _entry(path: Path) -> tuple[LocalServer, bool]:
    """Returns the server of a configuration, counted as used once more, and whether it has to be started."""
    global _reaper  # noqa: PLW0603  # one for the process
    with _lock:
        if _reaper is None:
            _reaper = threading.Thread(target=_reap, name="end of local reward servers", daemon=True)
            _reaper.start()
        server = _servers.get(path)
        is_new = server is None or server.last_words_if_ended() is not None
        if server is None or is_new:
            server = _servers[path] = LocalServer(path)
        server.client_count += 1
        return server, is_new


def _reap() -> None:
    while (server := _forgotten.get()) is not None:
        release(server)


@atexit.register
def _end_all() -> None:
    """Ends, with this process, the servers that nobody gave back; a forked child has none of its own."""
    if _reaper is not None and _reaper.is_alive():
        _forgotten.put(None)
        _reaper.join()
    for server in list(_servers.values()):
        if server.owner_pid == os.getpid():
            server.stop()
