"""Servers and clients for the tests of the client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from fake_reward_server import FakeServer

from trainer.client import AioRewardClient, RewardClient


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer().start()
    yield fake
    fake.stop()


@pytest.fixture
def fake_server() -> Iterator[Callable[[], FakeServer]]:
    """Makes servers that are not started, and stops them in the end."""
    made: list[FakeServer] = []

    def make() -> FakeServer:
        made.append(FakeServer())
        return made[-1]

    yield make
    for fake in made:
        fake.stop()


class _Blocking:
    """The asyncio client behind the face of the blocking one, so that one suite tries both."""

    def __init__(self, client: AioRewardClient) -> None:
        self._client = client
        self._loop = asyncio.new_event_loop()

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._client, name)
        return (lambda *args, **kwargs: self._run(member(*args, **kwargs))) if callable(member) else member

    def submit(self, **batch: Any) -> Any:
        async def submit() -> Any:
            return self._client.submit(**batch)

        pending = self._run(submit())
        return type("Pending", (), {"collect": lambda _: self._run(pending.collect())})()

    def _run(self, work: Awaitable[Any]) -> Any:
        return self._loop.run_until_complete(work)

    def end(self) -> None:
        self._run(self._client.close())
        self._loop.close()


@pytest.fixture(params=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Iterator[Callable[..., Any]]:
    """Makes clients of each kind in turn, and closes them in the end."""
    made: list[Any] = []

    def make(target: str, **options: Any) -> Any:
        if request.param == "blocking":
            made.append(RewardClient(target, **options))
        else:
            made.append(_Blocking(AioRewardClient(target, **options)))
        return made[-1]

    yield make
    for client in made:
        (client.close if request.param == "blocking" else client.end)()
