"""What the attacks look for on the host, and a sandbox to attack."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sandbox_attacks import LIMITS, PRELUDE

import reward_server
from reward_server.sandbox import bubblewrap
from reward_server.sandbox.base import Job, Limits, Result, Run

VARIABLE = "SANDBOX_TEST_SECRET"


@dataclass(frozen=True)
class Host:
    """What lies open on the host."""

    folder: Path
    facts: str

    def run_outside(self, source: str, limits_s: float = 20) -> subprocess.CompletedProcess[str]:
        """Runs an attack as an ordinary process."""
        descriptor = json.loads(self.facts)["descriptor"]
        return subprocess.run(
            [sys.executable, "-c", PRELUDE + source],
            input=self.facts,
            capture_output=True,
            text=True,
            timeout=limits_s,
            cwd=self.folder,
            pass_fds=[descriptor],
            check=False,
        )


@contextmanager
def host_in(folder: Path) -> Iterator[Host]:
    """Lays out what no program may reach."""
    (folder / "file").write_text("secret")
    (folder / "private").write_text("secret")
    (folder / "private").chmod(0o600)
    abstract = f"sandbox-test-{os.getpid()}-{folder.name}"
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.socket(socket.AF_UNIX) as named,
        socket.socket(socket.AF_UNIX) as unnamed,
        (folder / "file").open() as opened,
    ):
        os.chdir(folder)  # a socket's path is short
        named.bind("socket")
        named.listen()
        unnamed.bind(f"\0{abstract}")
        unnamed.listen()
        os.set_inheritable(opened.fileno(), True)
        facts = {
            "folder": str(folder),
            "file": str(folder / "file"),
            "private": str(folder / "private"),
            "home": str(Path.home()),
            "home_count": _count(Path.home()),
            "hostname": socket.gethostname(),
            "server_file": str(Path(reward_server.__file__).parents[1] / "pyproject.toml"),
            "server_pid": os.getpid(),
            "variable": VARIABLE,
            "descriptor": opened.fileno(),
            "port": listener.getsockname()[1],
            "abstract": abstract,
            "socket": "socket",
        }
        yield Host(folder, json.dumps(facts))


def _count(folder: Path) -> int:
    return len(list(folder.iterdir())) if os.access(folder, os.R_OK) else 0


async def started() -> bubblewrap.Bubblewrap | str:
    """Returns a started sandbox, or why none can be had here."""
    sandbox = bubblewrap.Bubblewrap(spare_count=0)
    await sandbox.start()
    health = sandbox.health()
    return sandbox if health.serving else health.reason


async def run_one(sandbox: bubblewrap.Bubblewrap, source: str, stdin: str = "", limits: Limits = LIMITS) -> Result:
    """Runs a program once."""
    return (await sandbox.run(Job(source, [Run(stdin)], limits=limits)))[0]
