"""The systemd units, with paths of this machine put in place of the installed ones."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml
from command_lines import complaint

REPOSITORY = Path(__file__).resolve().parents[2]
UNITS = sorted((REPOSITORY / "deploy/systemd").glob("*.service"))


def settings(unit: Path, key: str) -> list[str]:
    """Returns the values that a unit gives one key."""
    return re.findall(rf"^{key}=(.*)$", unit.read_text(), flags=re.MULTILINE)


@pytest.fixture(params=UNITS, ids=lambda path: path.name)
def unit(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_the_commands_have_flags_that_exist(unit: Path):
    commands = settings(unit, "ExecStartPre") + settings(unit, "ExecStart")
    assert commands
    for command in commands:
        program, *arguments = command.split()
        assert complaint([Path(program).name, *arguments]) is None


def test_it_does_not_run_as_root_and_gains_no_rights(unit: Path):
    assert settings(unit, "User")[0] != "root"
    assert settings(unit, "NoNewPrivileges") == ["yes"]


def test_the_server_has_time_to_drain_before_it_is_killed():
    drain = yaml.safe_load((REPOSITORY / "deploy/server.yaml").read_text())["drain"]
    (stop_s,) = settings(REPOSITORY / "deploy/systemd/reward-server.service", "TimeoutStopSec")
    assert int(stop_s) > drain["notice_s"] + drain["grace_s"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_finds_nothing_to_complain_about(unit: Path, tmp_path: Path):
    installed = re.sub(r"/opt/grpo-reward-service/bin/\S+", "/bin/true", unit.read_text())
    copy = tmp_path / unit.name
    copy.write_text(installed)
    # Man pages are not looked for: containers have none.
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(copy)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
