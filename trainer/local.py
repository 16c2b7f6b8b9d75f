"""A reward server of one's own, for a `local:` target: a process that ends with this one, however this one ends.

The server watches its standard input and drains when that closes, which the operating system does for a process that
dies, even by SIGKILL. Clients in one process that name the same configuration share one server.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from trainer.errors import LocalServerFailed

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0
_POLL_S = 0.02
_MAX_LAST_WORDS_CHARS = 4_000
_REMEDY = "install the server's part: pip install 'grpo-reward-service[server]'"


class LocalServer:
    """A server process. Raises `LocalServerFailed` if it does not start."""

    def __init__(self, config: Path) -> None:
        self.config = config
        self.owner_pid = os.getpid()
        self.client_count = 0
        self._folder = Path(tempfile.mkdtemp(prefix="reward-server-"))
        self._log = self._folder / "log"
        ready = self._folder / "ready.json"
        self._process = self._launch(ready)
        try:
            self.address = self._await_address(ready)
        except BaseException:
            self.stop()
            raise

    def last_words_if_ended(self) -> str | None:
        """Returns what the process last wrote if it has ended by itself, else None."""
        if self._process.poll() is None:
            return None
        return f"the server of local:{self.config} has ended (exit status {self._process.returncode}):\n{self._tail()}"

    def stop(self) -> None:
        """Lets the process drain and ends it; it is killed if that takes too long."""
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

    def _await_address(self, ready: Path) -> str:
        give_up_at = time.monotonic() + START_TIMEOUT_S
        while not ready.exists():
            if self._process.poll() is not None:
                raise LocalServerFailed(f"the server of local:{self.config} did not start:\n{self._tail()}")
            if time.monotonic() > give_up_at:
                raise LocalServerFailed(
                    f"the server of local:{self.config} was not ready within {START_TIMEOUT_S:g} s:\n{self._tail()}"
                )
            time.sleep(_POLL_S)
        return str(json.loads(ready.read_text())["target"])

    def _tail(self) -> str:
        words = self._log.read_text(errors="replace").strip()[-_MAX_LAST_WORDS_CHARS:]
        if "ModuleNotFoundError" in words:
            words += f"\nA package is missing; {_REMEDY}"
        return words or "it wrote nothing"


_servers: dict[Path, LocalServer] = {}
_lock = threading.Lock()


def acquire(config: str) -> LocalServer:
    """Returns the server of a configuration file, started unless it runs. Give it back with `release`.

    Raises:
        LocalServerFailed: There is no such file, or the server did not start; its last words are in the message.
    """
    path = Path(config).expanduser().resolve()
    if not path.is_file():
        raise LocalServerFailed(f"target local:{config} names no file: {path} does not exist")
    if importlib.util.find_spec("reward_server") is None:
        raise LocalServerFailed(f"target local:{config} needs the package reward_server; {_REMEDY}")
    with _lock:
        server = _servers.get(path)
        if server is None or server.last_words_if_ended() is not None:
            server = _servers[path] = LocalServer(path)
        server.client_count += 1
        return server


def release(server: LocalServer) -> None:
    """Gives a server back; with its last client it ends. A forked child leaves its parent's alone."""
    if server.owner_pid != os.getpid():
        return
    with _lock:
        server.client_count -= 1
        if server.client_count == 0:
            if _servers.get(server.config) is server:
                del _servers[server.config]
            server.stop()
