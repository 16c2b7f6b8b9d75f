"""A reward server as a real process, for tests: start, read its log, kill, start again on the same port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]


def free_port() -> int:
    """Returns a loopback port that was free a moment ago, for a server that must come back on the same one."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class ServerProcess:
    """`reward-server serve` as a child process. Its log lines are in `log`, over all restarts."""

    def __init__(self, config: Path, *arguments: str, port: int = 0) -> None:
        self.config = config
        self._arguments = arguments
        self._port = port
        self._ready = config.parent / f"{config.stem}.ready.json"
        self.log_path = config.parent / f"{config.stem}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None and self._process.poll() is None:
            self.kill()

    def start(self, timeout_s: float = 60) -> None:
        """Starts it and waits until it serves."""
        self._ready.unlink(missing_ok=True)
        command = [sys.executable, "-m", "reward_server", "serve", "--config", str(self.config)]
        command += ["--listen", f"127.0.0.1:{self._port}", "--ready-file", str(self._ready), "--log-format", "json"]
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=REPOSITORY
            )
        until = time.monotonic() + timeout_s
        while not self._ready.exists():
            if self._process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the server did not start:\n{self.log_path.read_text()}")
            time.sleep(0.02)

    @property
    def target(self) -> str:
        """Returns host:port."""
        return str(json.loads(self._ready.read_text())["target"])

    @property
    def pid(self) -> int:
        """Returns the process id of the one that runs, or ran last."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> list[dict[str, Any]]:
        """Returns the log's JSON lines so far."""
        lines = self.log_path.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Returns the log lines of one event."""
        return [line for line in self.log if line.get("event") == name]

    def wait_for(self, seen: Callable[[list[dict[str, Any]]], bool], timeout_s: float = 60) -> None:
        """Waits until `seen(log)`."""
        until = time.monotonic() + timeout_s
        while not seen(self.log):
            if time.monotonic() > until:
                raise TimeoutError(f"not seen in the server's log:\n{self.log_path.read_text()[-3000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """Ends it by SIGKILL; its children must end by themselves."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(timeout=20)

    def terminate(self, timeout_s: float = 60) -> int:
        """Ends it by SIGTERM and returns its exit status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=timeout_s)

    def children(self) -> list[psutil.Process]:
        """Returns its living descendants."""
        return psutil.Process(self.pid).children(recursive=True)


def wait_until_gone(processes: list[psutil.Process], timeout_s: float = 15) -> list[psutil.Process]:
    """Waits for processes to end and returns those that did not."""
    _, alive = psutil.wait_procs(processes, timeout=timeout_s)
    return alive


def clean_environment(**extra: str) -> dict[str, str]:
    """Returns this process's environment, without the network and with `extra`."""
    return {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **extra}
