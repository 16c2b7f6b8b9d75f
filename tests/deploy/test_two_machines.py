"""deploy/ used as its README says: keys, a server with a token and TLS, the health probe, and a client."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from shutil import copy

import pytest

import trainer.config
from reward_server.judge.secret import read_secret
from trainer.client import RewardClient
from trainer.errors import RewardError

REPOSITORY = Path(__file__).resolve().parents[2]
DEPLOY = REPOSITORY / "deploy"

pytestmark = pytest.mark.end_to_end


def make_keys(folder: Path, *names: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DEPLOY / "make-keys.sh", folder, *names], capture_output=True, text=True, check=False, timeout=60
    )


def probe(target: str, ca_file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(DEPLOY / "health.py"), target, str(ca_file)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what deploy/README.md puts on both machines."""
    folder = tmp_path_factory.mktemp("machine")
    copy(DEPLOY / "server.yaml", folder)
    copy(DEPLOY / "train.yaml", folder)
    done = make_keys(folder / "keys", "localhost", "127.0.0.1")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def target(machine: Path) -> Iterator[str]:
    """deploy/server.yaml as it is, served on a free port. Its Ollama is not there; its rules serve all the same."""
    ready, log = machine / "ready.json", machine / "server.log"
    command = [sys.executable, "-m", "reward_server", "serve", "--config", str(machine / "server.yaml")]
    command += ["--listen", "127.0.0.1:0", "--ready-file", str(ready), "--until-stdin-closes"]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output)
    try:
        until = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield json.loads(ready.read_text())["target"]
        process.stdin.close()
        assert process.wait(timeout=60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(timeout=20)


def test_the_servers_configuration_is_right(machine: Path):
    done = subprocess.run(
        [sys.executable, "-m", "reward_server", "check", "--config", machine / "server.yaml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_trainers_configuration_asks_for_rewards_that_the_server_has(machine: Path, target: str):
    rewards = trainer.config.load(machine / "train.yaml").rewards
    with client_with(machine, target) as client:
        served = set(client.list_rewards().rewards)
    assert set(rewards.use) <= served


def client_with(machine: Path, target: str, **changes: str) -> RewardClient:
    """Returns a client with the trainer's half of the keys."""
    keys = machine / "keys/trainer"
    options = {"token_file": str(keys / "token.txt"), "ca_file": str(keys / "ca.crt"), **changes}
    return RewardClient(target, tls=True, on_outage="stop", deadline_s=20, **options)


def test_a_trainer_with_its_half_of_the_keys_is_answered(machine: Path, target: str):
    with client_with(machine, target) as client:
        result = client.score(rewards=["brevity"], completions=["one two three"])
    assert result.rewards["brevity"].scores == [pytest.approx(1 - 57 / 60)]


def test_a_trainer_with_another_token_is_refused(machine: Path, target: str, tmp_path: Path):
    (tmp_path / "token.txt").write_text("something else\n")
    with (
        client_with(machine, target, token_file=str(tmp_path / "token.txt")) as client,
        pytest.raises(RewardError, match="token"),
    ):
        client.score(rewards=["brevity"], completions=["one"])


def test_the_health_probe_finds_it_healthy_without_a_token(machine: Path, target: str):
    done = probe(target, machine / "keys/server/ca.crt")
    assert (done.returncode, done.stderr) == (0, "")


def test_the_health_probe_fails_where_nobody_serves(machine: Path):
    done = probe("127.0.0.1:1", machine / "keys/server/ca.crt")
    assert done.returncode == 1
    assert "UNAVAILABLE" in done.stderr


def test_the_health_probe_trusts_no_other_authority(target: str, tmp_path: Path):
    make_keys(tmp_path / "others", "localhost")
    assert probe(target, tmp_path / "others/server/ca.crt").returncode == 1


def test_keys_are_their_owners_alone_and_the_trainers_half_has_no_private_key(machine: Path):
    files = [path for path in (machine / "keys").rglob("*") if path.is_file()]
    assert all(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 for path in files)
    assert sorted(path.name for path in (machine / "keys/trainer").iterdir()) == ["ca.crt", "token.txt"]


def test_keys_that_are_there_are_kept(machine: Path):
    before = {path.name: path.read_bytes() for path in (machine / "keys/server").iterdir()}
    assert make_keys(machine / "keys", "localhost").returncode == 0
    assert {path.name: path.read_bytes() for path in (machine / "keys/server").iterdir()} == before


def test_a_key_maker_without_names_says_how_it_is_used(tmp_path: Path):
    done = make_keys(tmp_path)
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_a_key_maker_without_openssl_says_so(tmp_path: Path):
    done = subprocess.run(
        ["/bin/sh", DEPLOY / "make-keys.sh", tmp_path / "keys", "localhost"],
        env={**os.environ, "PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode != 0
    assert "needs openssl" in done.stderr


def test_keys_made_before_there_were_judges_get_a_secret_too(tmp_path: Path):
    make_keys(tmp_path / "keys", "localhost")
    (tmp_path / "keys/server/judge-secret").unlink()
    token = (tmp_path / "keys/server/token.txt").read_text()
    make_keys(tmp_path / "keys", "localhost")
    assert len(read_secret(tmp_path / "keys/server/judge-secret").key) == 64
    assert (tmp_path / "keys/server/token.txt").read_text() == token
