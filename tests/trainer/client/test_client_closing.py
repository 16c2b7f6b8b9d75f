"""A client that is closed while a call of it is under way, or before one."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from fake_reward_server import FakeServer

from trainer.client import AioRewardClient, RewardClient
from trainer.errors import ClientClosed


@pytest.fixture
def busy(server: FakeServer) -> Iterator[threading.Event]:
    """Is set once a call has arrived, whose answer then waits for the end of the test."""
    arrived, over = threading.Event(), threading.Event()

    def work(request: object, context: object) -> None:
        arrived.set()
        over.wait(30)

    server.script += [work] * 50
    yield arrived
    over.set()


@pytest.mark.parametrize("on_outage", ["wait", "stop", "missing"])
@pytest.mark.parametrize("sample_count", [1, 40])  # in one chunk, and in more than are on their way at a time
def test_a_call_whose_client_another_thread_closes_ends_with_that_error(server, busy, on_outage, sample_count):
    server.max_request_bytes = 1500
    client = RewardClient(server.target, on_outage=on_outage)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.score, rewards=["a"], completions=["x" * 400] * sample_count)
        assert busy.wait(10)
        listed = server.list_count

        client.close()

        with pytest.raises(
            ClientClosed, match=f"this client of reward server {server.target} was closed; make another"
        ):
            call.result(20)
    assert server.list_count == listed


@pytest.mark.parametrize("sample_count", [1, 40])
async def test_a_call_whose_client_another_task_closes_ends_with_that_error(server, busy, sample_count):
    server.max_request_bytes = 1500
    client = AioRewardClient(server.target)
    call = asyncio.create_task(client.score(rewards=["a"], completions=["x" * 400] * sample_count))
    assert await asyncio.to_thread(busy.wait, 10)

    await client.close()

    with pytest.raises(ClientClosed, match="was closed; make another"):
        await asyncio.wait_for(call, 20)


async def test_a_cancelled_call_stays_cancelled(server, busy):
    async with AioRewardClient(server.target) as client:
        call = asyncio.create_task(client.score(rewards=["a"], completions=["x"]))
        assert await asyncio.to_thread(busy.wait, 10)

        call.cancel()

        with pytest.raises(asyncio.CancelledError):
            await call


def test_a_submitted_batch_whose_client_is_closed_has_no_verdicts(server, busy):
    client = RewardClient(server.target)
    pending = client.submit(rewards=["a"], completions=["x"])
    assert busy.wait(10)

    client.close()

    with pytest.raises(ClientClosed):
        pending.collect()


def test_a_client_that_waits_for_its_server_stops_waiting_when_it_is_closed(server):
    server.stop()
    client = RewardClient(server.target)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.list_rewards)

        client.close()

        with pytest.raises(ClientClosed):
            call.result(30)


@pytest.mark.parametrize("method", ["health", "list_rewards", "close"])
def test_a_closed_client_connects_no_more_and_may_be_closed_again(server, method):
    client = RewardClient(server.target)
    client.close()

    if method == "close":
        client.close()
    else:
        with pytest.raises(ClientClosed):
            getattr(client, method)()
    assert server.list_count == 0


def test_a_client_closed_in_one_event_loop_serves_another(server):
    client = AioRewardClient(server.target)

    async def ask() -> list[float | None]:
        async with client:
            result = await client.score(rewards=["a"], completions=["xx"])
        with pytest.raises(ClientClosed):
            await client.health()
        return result.rewards["a"].scores

    assert asyncio.run(ask()) == asyncio.run(ask()) == [2.0]
