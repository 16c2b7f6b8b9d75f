"""The reward server of `benchmarks/training.py`, as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
START_WITHIN_S: Final = 180
STOP_WITHIN_S: Final = 60


@contextmanager
def reward_server(config: Path, work: Path) -> Iterator[str]:
    """Starts a server on a free port, yields its address, and ends it. It sees no GPU: these are the trainer's."""
    ready, log = work / "server.ready.json", work / "server.log"
    command = [sys.executable, "-m", "reward_server", "serve", "--config", str(config), "--listen", "127.0.0.1:0"]
    command += ["--ready-file", str(ready), "--until-stdin-closes"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    with (
        log.open("wb") as output,
        subprocess.Popen(  # noqa: S603  # a command of our own
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            cwd=ROOT,
            env=environment,
        ) as process,
    ):
        try:
            yield _address(process, ready, log)
        finally:
            process.terminate()
            try:
                process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                process.kill()


def _address(process: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    until = time.monotonic() + START_WITHIN_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise RuntimeError(f"the reward server did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)
    return str(json.loads(ready.read_text())["target"])
