"""Local servers, started and ended by several threads, by the garbage collector, and at the process's end."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from waiting import until

from trainer import local
from trainer.client import RewardClient
from trainer.errors import LocalServerFailed

Config = Callable[[str], str]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Makes configurations that are Python for a process in a server's place; it has to write `ready` when it serves."""

    def launch(server: local.LocalServer, ready: Path) -> subprocess.Popen[bytes]:
        code = f"import sys, pathlib, time\nready = {str(ready)!r}\n" + server.config.read_text() + "\nsys.stdin.read()"
        with server._log.open("wb") as log:
            return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=log, stderr=log)

    monkeypatch.setattr(local.LocalServer, "_launch", launch)

    def make(code: str) -> str:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.py"
        path.write_text(code)
        return str(path)

    return make


SERVES = """
pathlib.Path(ready + ".part").write_text('{"target": "127.0.0.1:1"}')
pathlib.Path(ready + ".part").rename(ready)
"""
NEVER = "sys.stdin.read()"


def serves_when_there_is(path: Path) -> str:
    return f"while not pathlib.Path({str(path)!r}).exists(): time.sleep(0.02)" + SERVES


def test_a_server_that_takes_long_to_start_is_waited_for_in_words(config, monkeypatch, tmp_path):
    monkeypatch.setattr(local, "TELL_EVERY_S", 0.2)
    told: list[str] = []

    def tell(words: str) -> None:
        told.append(words)
        (tmp_path / "go").touch()

    server = local.acquire(config(serves_when_there_is(tmp_path / "go")), tell)
    local.release(server)

    assert server.address == "127.0.0.1:1"
    assert told[0].endswith("has been starting for 0 s; waiting up to 600 s")


def test_a_server_that_is_never_ready_is_ended_with_its_last_words(config, monkeypatch):
    monkeypatch.setattr(local, "START_TIMEOUT_S", 1.0)

    with pytest.raises(LocalServerFailed, match=r"was not ready within 1 s:\nwaiting for a model$"):
        local.acquire(config("print('waiting for a model', flush=True)\n" + NEVER))

    assert local._servers == {}


def test_a_server_that_starts_holds_no_other_up(config, tmp_path):
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(local.acquire, config(serves_when_there_is(tmp_path / "go")))
        try:
            local.release(local.acquire(config(SERVES)))
            assert not slow.done()
        finally:
            (tmp_path / "go").touch()
        local.release(slow.result(30))

    assert local._servers == {}


async def test_threads_that_want_the_same_server_start_one(config, tmp_path):
    path = config(serves_when_there_is(tmp_path / "go"))
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(local.acquire, path) for _ in range(4)]
        await until(lambda: bool(local._servers) and next(iter(local._servers.values())).client_count == 4)
        (tmp_path / "go").touch()
        servers = [call.result(30) for call in calls]

    assert len(set(servers)) == 1
    for server in servers:
        assert server.last_words_if_ended() is None
        local.release(server)
    assert server.last_words_if_ended() is not None


async def test_a_start_that_fails_is_told_to_all_who_wait_and_tried_anew_by_the_next(config, tmp_path):
    path = config(
        f"while not pathlib.Path({str(tmp_path / 'go')!r}).exists(): time.sleep(0.02)\nsys.exit('no such model')"
    )
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(local.acquire, path) for _ in range(2)]
        await until(lambda: bool(local._servers) and next(iter(local._servers.values())).client_count == 2)
        (tmp_path / "go").touch()
        for call in calls:
            with pytest.raises(LocalServerFailed, match=r"did not start:\nno such model"):
                call.result(30)
    assert local._servers == {}

    await asyncio.to_thread(Path(path).write_text, SERVES)
    local.release(local.acquire(path))


async def test_the_collector_may_run_in_the_thread_that_holds_the_lock(config):
    client = RewardClient(f"local:{config(SERVES)}")
    server = client._connected().endpoint._server
    assert server is not None

    def collect() -> None:
        nonlocal client
        with local._lock:
            del client
            gc.collect()

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(30)

    assert not thread.is_alive()
    await until(lambda: server.last_words_if_ended() is not None)


def test_a_forked_child_forgets_no_server_of_its_parent(config):
    server = local.acquire(config(SERVES))
    server.owner_pid = os.getppid()

    local.forget(server)
    local.release(server)

    assert server.client_count == 1
    server.owner_pid = os.getpid()
    local.release(server)


@pytest.mark.end_to_end
@pytest.mark.parametrize("last_act", ["pass", "del client", "client.close()"])
def test_nothing_is_left_on_the_disk_when_the_process_ends(tmp_path, last_act):
    path = tmp_path / "server.yaml"
    path.write_text("rewards:\n  brevity: {length: {unit: words, target: 2, width: 4}}\n")
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    code = (
        f"from trainer.client import RewardClient\nclient = RewardClient('local:{path}'); client.health()\n{last_act}"
    )

    environment = {**os.environ, "TMPDIR": str(temporary)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=90)

    assert list(temporary.glob("reward-server-*")) == []
