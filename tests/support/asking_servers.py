"""Scorers that ask a server over HTTP, for tests without configuration and reward server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from reward_server.domain import Call, Sample, Verdict
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.endpoints import remote
from reward_server.scorers.endpoints.get_reward import Endpoint
from reward_server.scorers.endpoints.reward_model import RewardModel


def context(folder: Path = Path("/")) -> ScorerContext:
    def no_other(name: str) -> Any:
        raise KeyError(name)

    return ScorerContext("mine", folder, None, {}, no_other)  # type: ignore[arg-type]


@asynccontextmanager
async def asking(kind: type[Any], folder: Path = Path("/"), **options: Any) -> AsyncIterator[Any]:
    """Yields a started scorer of that kind."""
    scorer = kind(kind.Options(**options), context(folder))
    await scorer.start()
    try:
        yield scorer
    finally:
        await scorer.close()


def endpoint(url: str, **options: Any) -> Any:
    return asking(Endpoint, url=url, **options)


def reward_model(protocol: str, url: str, folder: Path = Path("/"), **options: Any) -> Any:
    return asking(RewardModel, folder, protocol=protocol, url=url, **options)


async def verdicts(scorer: Any, samples: Sequence[Sample], within_s: float = 30) -> list[Verdict]:
    """Returns the verdicts in the order of the samples, each of which must have got exactly one."""
    got = [item async for item in scorer.score(samples, Call(deadline=time.monotonic() + within_s))]
    assert sorted(index for index, _ in got) == list(range(len(samples)))
    return [verdict for _, verdict in sorted(got, key=lambda item: item[0])]


def samples_of(*completions: Any, prompt: Any = "Q", **columns: Any) -> list[Sample]:
    return [Sample(completion, prompt, columns) for completion in completions]


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes tries and looks at servers follow each other at once."""
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.005)
    monkeypatch.setattr(remote, "SOONEST_LOOK_S", 0.02)
    monkeypatch.setattr(remote, "LATEST_LOOK_S", 0.05)
    monkeypatch.setattr(remote, "WATCH_S", 0.05)


async def until(seen: Any, within_s: float = 10) -> None:
    """Waits until `seen()`."""
    async with asyncio.timeout(within_s):
        while not seen():  # noqa: ASYNC110  # what is waited for happens in another thread
            await asyncio.sleep(0.01)
