"""A scorer opened as a server opens it, on an event loop of its own, to be asked from plain tests."""

from __future__ import annotations

import asyncio
import selectors
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import yaml

from reward_server.config import load
from reward_server.domain import Call, Sample, Verdict
from reward_server.registry import SCORERS
from reward_server.reward import RewardInfo
from reward_server.rewards import Rewards
from reward_server.scoring import Selector

REWARD: Final = "contracted"
WITHIN_S: Final = 300.0
"""What a batch may take; nothing is judged by it."""

GIVES_UP_S: Final = 5.0
"""What is stopped must have ended by then."""

T = TypeVar("T")


class Turns(selectors.DefaultSelector):
    """Waits for a loop's next events, and knows how long the loop was busy between them."""

    longest_s = 0.0  # CPU time of the loop's thread: what else the machine does is not in it
    _began: float | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Returns the next events; a turn of the loop ends here, and the next begins."""
        if self._began is not None:
            self.longest_s = max(self.longest_s, time.thread_time() - self._began)
        try:
            return super().select(timeout)
        finally:
            self._began = time.thread_time()


class Loop:
    """An event loop in a thread of its own. A context manager."""

    def __enter__(self) -> Self:
        self.turns = Turns()
        self._loop = asyncio.SelectorEventLoop(self.turns)
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Returns what the coroutine returns."""
        running: Future[T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return running.result()


class Opened:
    """A scorer in the place of a reward of a server: the whole way but gRPC. A context manager.

    Args:
        scorer: its class, installed or not.
        configuration: what the server's file says; its reward `contracted` is of the scorer's kind.
        folder: the configuration's.
    """

    def __init__(self, scorer: type[Any], configuration: Mapping[str, Any], folder: Path) -> None:
        file = folder / "server.yaml"
        file.write_text(yaml.safe_dump(dict(configuration)))
        kinds = {**{kind: SCORERS[kind] for kind in _kinds_in(configuration, scorer)}, scorer.kind: scorer}
        self._rewards = Rewards(load(file, scorers=kinds), scorers=kinds)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._loop = stack.enter_context(Loop())
            self._loop.run(self._rewards.__aenter__())
            stack.callback(lambda: self._loop.run(self._rewards.__aexit__(None, None, None)))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    @property
    def info(self) -> RewardInfo:
        """Returns what a trainer is told of it."""
        return next(info for info in self._rewards.describe() if info.name == REWARD)

    @property
    def longest_turn_s(self) -> float:
        """Returns the longest that the latest `score` has held up the event loop, in seconds of its CPU time."""
        return self._loop.turns.longest_s

    def score(self, samples: Sequence[Sample]) -> list[Verdict]:
        """Returns the verdicts in the samples' order. Raises `AssertionError` unless each got exactly one."""
        return self.score_at_once([samples])[0]

    def score_at_once(self, batches: Sequence[Sequence[Sample]]) -> list[list[Verdict]]:
        """Returns the same of several calls that are made at the same time."""
        return self._loop.run(self._score_all(batches))

    def abandon(self, samples: Sequence[Sample], after_s: float) -> list[str]:
        """Begins to score, stops after a moment, and returns the tasks that are left on the loop for that."""
        return self._loop.run(self._abandoned(samples, after_s))

    async def _score_all(self, batches: Sequence[Sequence[Sample]]) -> list[list[Verdict]]:
        self._loop.turns.longest_s = 0.0
        verdicts = await asyncio.gather(*(self._score(batch) for batch in batches))
        await asyncio.sleep(0)  # so that the last turn has ended
        return verdicts

    async def _score(self, samples: Sequence[Sample]) -> list[Verdict]:
        call = Call(deadline=time.monotonic() + WITHIN_S)
        got: dict[int, Verdict] = {}
        async for _, index, verdict in self._rewards.run([Selector(REWARD)], samples, call):
            assert index not in got, f"sample {index} got two verdicts"
            got[index] = verdict
        assert sorted(got) == list(range(len(samples))), "not every sample got a verdict"
        return [got[index] for index in range(len(samples))]

    async def _abandoned(self, samples: Sequence[Sample], after_s: float) -> list[str]:
        before = asyncio.all_tasks()
        scoring = self._rewards.begin([Selector(REWARD)], samples, Call(deadline=time.monotonic() + WITHIN_S))
        await asyncio.sleep(after_s)
        scoring.close()
        by = time.monotonic() + GIVES_UP_S
        while len(asyncio.all_tasks()) > len(before) and time.monotonic() < by:  # noqa: ASYNC110  # nothing tells
            await asyncio.sleep(0.01)
        now = asyncio.all_tasks()  # what works in the background may have taken turns
        return [str(task.get_coro()) for task in now - before] if len(now) > len(before) else []


def _kinds_in(configuration: Mapping[str, Any], scorer: type[Any]) -> set[str]:
    """Returns the kinds of the other rewards in the configuration."""
    named = {key for reward in configuration["rewards"].values() for key in reward if key in SCORERS}
    return named - {scorer.kind}
