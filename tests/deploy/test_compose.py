"""compose.yaml, as far as it can be checked without a Docker engine."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_lines import complaint

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
SCRIPTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]


def dockerfile_of(service: dict[str, Any]) -> str:
    """Returns the text of the Dockerfile that a service is built from, or nothing for somebody else's image."""
    if "build" not in service:
        return ""
    return (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).read_text()


@pytest.fixture(params=SERVICES, ids=str)
def service(request: pytest.FixtureRequest) -> dict[str, Any]:
    return SERVICES[request.param]


def test_what_is_mounted_exists_or_is_a_declared_volume(service: dict[str, Any]):
    for mount in service.get("volumes", []):
        source = mount.split(":")[0]
        if source.startswith("."):
            assert (DEPLOY / source).is_file()
        else:
            assert source in COMPOSE["volumes"]


def test_every_declared_volume_is_used():
    used = {mount.split(":")[0] for service in SERVICES.values() for mount in service.get("volumes", [])}
    assert set(COMPOSE["volumes"]) <= used


def test_who_is_waited_for_exists_and_can_meet_the_condition(service: dict[str, Any]):
    for name, wait in service.get("depends_on", {}).items():
        other = SERVICES[name]
        if wait["condition"] == "service_healthy":
            assert "test" in other.get("healthcheck", {}) or "HEALTHCHECK" in dockerfile_of(other)
        else:
            assert wait["condition"] == "service_completed_successfully"
            assert "restart" not in other, f"{name} is waited for to end, but would be started again"


@pytest.mark.parametrize("name", [name for name, service in SERVICES.items() if "reward-service/" in service["image"]])
def test_our_own_commands_have_flags_that_exist(name: str):
    service = SERVICES[name]
    program = service.get("entrypoint", [{"server": "reward-server", "trainer": "grpo-train"}[_side(service)]])
    if program[0] in SCRIPTS and "command" in service:
        assert complaint([*program, *service["command"]]) is None


def _side(service: dict[str, Any]) -> str:
    return str(service["image"]).rpartition("/")[2]


def test_the_server_has_time_to_drain_before_it_is_killed():
    drain = yaml.safe_load((DEPLOY / "server.yaml").read_text())["drain"]
    grace_s = int(SERVICES["reward-server"]["stop_grace_period"].removesuffix("s"))
    assert grace_s > drain["notice_s"] + drain["grace_s"]


def test_the_certificate_is_made_for_the_name_that_the_trainer_asks_for():
    server = yaml.safe_load((DEPLOY / "train.yaml").read_text())["rewards"]["server"]
    assert server.rpartition(":")[0] in SERVICES["keys"]["command"]
    assert server.rpartition(":")[0] in SERVICES


def test_the_trainer_never_sees_the_servers_private_key():
    mounted = {mount.split(":")[0] for mount in SERVICES["trainer"]["volumes"]}
    assert "trainer-keys" in mounted
    assert "server-keys" not in mounted


def test_only_the_server_is_reachable_from_outside_and_by_default_from_this_host_alone():
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert list(published) == ["reward-server"]
    assert all("127.0.0.1" in port for port in published["reward-server"])


def test_the_trainer_reserves_a_gpu():
    (device,) = SERVICES["trainer"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
