"""One client in several threads, event loops and processes."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from trainer.client import AioRewardClient, RewardClient


def scores(client: RewardClient, text: str) -> list[float | None]:
    return client.score(rewards=["a"], completions=[text]).rewards["a"].scores


def test_threads_share_one_client(server):
    with RewardClient(server.target) as client, ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda n: scores(client, "x" * n), range(40)))

    assert results == [[float(n)] for n in range(40)]


def test_an_asyncio_client_can_be_used_in_one_loop_after_another(server):
    client = AioRewardClient(server.target)

    async def ask() -> Any:
        result = await client.score(rewards=["a"], completions=["xx"])
        await client.close()
        return result.rewards["a"].scores

    assert [asyncio.run(ask()) for _ in range(3)] == [[2.0]] * 3


def test_loops_that_have_ended_are_forgotten(server):
    client = AioRewardClient(server.target)

    for _ in range(3):
        asyncio.run(client.list_rewards())

    assert len(client._connections) == 1


async def test_many_calls_at_once_share_one_connection(server):
    async with AioRewardClient(server.target) as client:
        results = await asyncio.gather(*(client.score(rewards=["a"], completions=["x" * n]) for n in range(20)))

        assert [result.rewards["a"].scores for result in results] == [[float(n)] for n in range(20)]
        assert len(client._connections) == 1


async def test_cancelling_a_call_cancels_it_on_the_server(server):
    entered, gone = threading.Event(), threading.Event()

    def wait(request: Any, context: Any) -> None:
        context.add_callback(gone.set)
        entered.set()
        gone.wait(10)

    server.script.append(wait)
    async with AioRewardClient(server.target) as client:
        pending = asyncio.create_task(client.score(rewards=["a"], completions=["x"]))
        await asyncio.to_thread(entered.wait, 10)
        pending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await pending

    assert await asyncio.to_thread(gone.wait, 5)


def _ask_and_tell(client: RewardClient, queue: Any) -> None:
    queue.put((os.getpid(), scores(client, "xxx")))


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_used_client_works_in_a_child_process_and_then_still_in_its_parent(server, method):
    context = multiprocessing.get_context(method)
    with RewardClient(server.target) as client:
        assert scores(client, "xx") == [2.0]
        queue = context.Queue()
        child = context.Process(target=_ask_and_tell, args=(client, queue))
        child.start()
        assert queue.get(timeout=60) == (child.pid, [3.0])
        child.join(30)
        assert child.exitcode == 0
        assert scores(client, "xxxx") == [4.0]


FORK = """
import os, sys
from trainer.client import RewardClient
client = RewardClient(sys.argv[1], on_outage="stop")
{before}
pid = os.fork()
if pid == 0:
    try:
        print({in_child}, flush=True)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
print(client.health())
"""


def forked(target: str, **parts: str) -> list[str]:
    """Runs `before`, then `in_child` in a forked child, in a process that has nothing of gRPC beside the client."""
    command = [sys.executable, "-c", FORK.format(**parts), target]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.splitlines()


@pytest.mark.parametrize("in_child", ["client.health()", "RewardClient(sys.argv[1]).health()"])
def test_a_forked_child_of_a_process_that_has_used_a_client_is_refused_rather_than_crashed(server, in_child):
    in_child_words, in_parent = forked(server.target, before="client.health()", in_child=in_child)

    assert in_child_words.startswith("ForkedProcess this process was forked from one that already talks to a reward")
    assert "multiprocessing.get_context('spawn')" in in_child_words
    assert in_parent == "serving"


def test_a_forked_child_may_use_a_client_that_was_not_used_before(server):
    assert forked(server.target, before="", in_child="client.health()") == ["serving", "serving"]


def test_a_forked_child_that_closes_its_client_leaves_its_parents_open(server):
    assert forked(server.target, before="client.health()", in_child="client.close()") == ["None", "serving"]
