"""The quickstart: a reward server and a trainer as two processes, from nothing to a report.

    python examples/quickstart/demo.py

Gets the model, starts the server, trains against it, stops the server. Ctrl-C ends it early and keeps what there is.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import get_model
from rich.console import Console

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
LOGS = REPOSITORY / "runs" / "logs"
START_WITHIN_S = 120
STOP_WITHIN_S = 60

console = Console(highlight=False)


class DemoError(Exception):
    """The demo cannot go on. The message says why."""


@contextmanager
def reward_server() -> Iterator[str]:
    """Starts the reward server on a free port, yields its address, and ends it by SIGTERM."""
    LOGS.mkdir(parents=True, exist_ok=True)
    ready, log = LOGS / "server.ready.json", LOGS / "server.log"
    ready.unlink(missing_ok=True)
    command = [sys.executable, "-m", "reward_server", "serve", "--config", str(HERE / "server.yaml")]
    # Should this process be killed, its end of the pipe closes, and the server ends by itself.
    command += ["--listen", "127.0.0.1:0", "--ready-file", str(ready), "--until-stdin-closes"]
    with (
        log.open("wb") as output,
        # In a session of its own: Ctrl-C is for the trainer, which still needs the server.
        subprocess.Popen(  # noqa: S603  # a command of our own
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, cwd=REPOSITORY
        ) as process,
    ):
        try:
            yield _address(process, ready, log)
        finally:
            _stop(process, log)


def _stop(process: subprocess.Popen[bytes], log: Path) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(timeout=STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        process.kill()
        raise DemoError(f"the reward server did not stop within {STOP_WITHIN_S} s: see {log}") from None


def _address(process: subprocess.Popen[bytes], ready: Path, log: Path) -> str:
    until = time.monotonic() + START_WITHIN_S
    while not ready.exists():
        if process.poll() is not None or time.monotonic() > until:
            raise DemoError(f"the reward server did not start. The end of {log}:\n{log.read_text()[-2000:]}")
        time.sleep(0.1)
    return str(json.loads(ready.read_text())["target"])


def train(address: str) -> int:
    """Runs the trainer in the foreground and returns its exit code. Ctrl-C and SIGTERM reach it; it saves and ends."""
    command = [sys.executable, "-m", "trainer", "train", "--config", str(HERE / "train.yaml"), "--server", address]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}  # the model is here, and nothing else is wanted
    trainer = subprocess.Popen(command, cwd=REPOSITORY, env=environment)  # noqa: S603  # a command of our own

    def pass_on(number: int, frame: FrameType | None) -> None:
        del frame
        trainer.send_signal(number)

    signal.signal(signal.SIGTERM, pass_on)
    # The terminal sends Ctrl-C to the trainer as well as to this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        return trainer.wait()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)


def main() -> int:
    """Runs the demo and returns the exit code."""
    began = time.monotonic()
    try:
        console.rule("model", align="left")
        get_model.fetch()
        get_model.convert()
        console.print(f"in place: {get_model.FOLDER}")
        console.rule("reward server and trainer", align="left")
        with reward_server() as address:
            console.print(f"reward server: a process of its own at {address}, log in {LOGS / 'server.log'}")
            exit_code = train(address)
        console.print(f"The reward server has ended. All in all: {(time.monotonic() - began) / 60:.1f} minutes.")
    except (DemoError, get_model.ModelError) as error:
        console.print(str(error), style="red", markup=False)
        return 1
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
