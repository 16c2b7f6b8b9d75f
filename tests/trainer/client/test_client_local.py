"""A `local:` target starts a real server of its own, shares it, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from trainer import local
from trainer.client import AioRewardClient, RewardClient
from trainer.errors import LocalServerFailed

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "server.yaml"
    path.write_text("rewards:\n  brevity: {length: {unit: words, target: 2, width: 4}}\n")
    return f"local:{path}"


def servers() -> list[psutil.Process]:
    """Returns the server processes that this process has started."""
    return [
        child for child in psutil.Process().children(recursive=True) if "reward_server" in " ".join(child.cmdline()[:3])
    ]


def wait_until_gone(process: psutil.Process) -> None:
    try:
        process.wait(30)
    except psutil.NoSuchProcess:
        return


def scores(client: RewardClient, text: str) -> list[float | None]:
    return client.score(rewards=["brevity"], completions=[text]).rewards["brevity"].scores


def test_a_server_is_started_and_ended_with_its_client(config):
    with RewardClient(config) as client:
        assert scores(client, "two words") == [1.0]
        (process,) = servers()

    assert not process.is_running()


def test_an_asyncio_client_starts_one_too(config):
    async def ask() -> list[float | None]:
        async with AioRewardClient(config) as client:
            results = await asyncio.gather(*(client.score(rewards=["brevity"], completions=["one"]) for _ in range(3)))
            assert len(servers()) == 1
            return [result.rewards["brevity"].scores[0] for result in results]

    assert asyncio.run(ask()) == [0.75] * 3
    assert servers() == []


def test_clients_of_one_configuration_share_a_server(config):
    with RewardClient(config) as one:
        scores(one, "x")
        with RewardClient(config) as two:
            scores(two, "x")
            assert len(servers()) == 1
        assert scores(one, "two words") == [1.0]

    assert servers() == []


def test_a_forgotten_client_ends_its_server(config):
    client = RewardClient(config)
    scores(client, "x")
    (process,) = servers()

    del client
    gc.collect()

    wait_until_gone(process)
    assert servers() == []


@pytest.mark.parametrize(
    "ending", ["os.kill(os.getpid(), signal.SIGKILL)", "sys.exit(3)", "raise RuntimeError", "pass"]
)
def test_the_server_ends_with_the_process_however_that_ends(config, ending):
    code = (
        "import os, signal, sys; from trainer.client import RewardClient; from trainer import local\n"
        f"client = RewardClient({config!r}); client.list_rewards()\n"
        "print(next(iter(local._servers.values()))._process.pid, flush=True)\n" + ending
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=90, check=False)

    pid = int(done.stdout)
    until = time.monotonic() + 30
    while psutil.pid_exists(pid):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_the_mistakes_of_a_configuration_are_shown_as_they_are(tmp_path):
    (tmp_path / "bad.yaml").write_text("rewards:\n  x: {lenght: 3}\n")

    with pytest.raises(
        LocalServerFailed, match=r"bad\.yaml did not start:\n(.*\n)*.*bad\.yaml:2: .*did you mean 'length'"
    ):
        RewardClient(f"local:{tmp_path / 'bad.yaml'}").list_rewards()

    assert servers() == []


def test_a_configuration_that_is_not_there_is_named(tmp_path):
    with pytest.raises(LocalServerFailed, match=r"names no file: .*none\.yaml does not exist"):
        RewardClient(f"local:{tmp_path / 'none.yaml'}").list_rewards()


def test_a_server_that_is_not_installed_has_a_remedy(config, monkeypatch):
    monkeypatch.setattr(local.importlib.util, "find_spec", lambda name: None)

    with pytest.raises(LocalServerFailed, match=r"pip install 'grpo-reward-service\[server\]'"):
        RewardClient(config).list_rewards()


def test_a_server_that_dies_is_not_waited_for_and_started_anew_for_the_next_client(config):
    client = RewardClient(config)
    scores(client, "x")
    (process,) = servers()
    process.send_signal(signal.SIGKILL)

    with pytest.raises(LocalServerFailed, match=r"has ended \(exit status -9\)"):
        scores(client, "x")

    with RewardClient(config) as another:
        assert scores(another, "two words") == [1.0]
    client.close()
    assert servers() == []


def test_a_forked_child_leaves_its_parents_server_running(config):
    code = (
        "import os; from trainer.client import RewardClient; from trainer import local\n"
        f"client = RewardClient({config!r}); client.health()\n"
        "if os.fork() == 0:\n"
        "    client.close(); local.release(next(iter(local._servers.values()))); os._exit(0)\n"
        "os.wait(); print(client.health()); client.close(); print(local._servers)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=90)

    assert done.stdout.splitlines() == ["serving", "{}"]
