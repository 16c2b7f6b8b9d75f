"""The scoring of one call's samples: who is asked, what has come back, and when it ends.

A reward is computed once per scoring, however many ask: the call itself, and recipes of which it is a part. A scoring
ends by itself, at the call's deadline, or when it is closed; then nothing of it is left running.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple

from reward_server.arrivals import CLOSED, LATE, Arrivals
from reward_server.domain import Call, Sample, Verdict, failed
from reward_server.scorers.base import YIELD_AFTER_CHARS
from reward_server.views import View, text_bytes

if TYPE_CHECKING:
    from reward_server.reward import Reward

COMBINE_S: Final = 0.02
"""At the deadline, recipes made of parts get this long to put together what their parts say by then."""


class Selector(NamedTuple):
    """A reward asked for by name, optionally at a version."""

    name: str
    expected_version: str = ""  # empty: whatever is served


@dataclass(frozen=True, slots=True)
class RewardResult:
    """Verdicts of one reward."""

    name: str
    version: str
    verdicts: Sequence[Verdict]  # (M,)
    total_ms: float  # from the start of scoring to the last of them
    indexes: Sequence[int] | None = None  # (M,) positions of the samples; None = all, in order


@dataclass(frozen=True, slots=True)
class ScoringCall(Call):
    """A call as scorers see it: a recipe made of parts finds here what is computed for the call already."""

    scoring: Scoring | None = field(default=None, compare=False, repr=False)


class Scoring:
    """One call's samples and all that is computed for them. Close it when nobody waits for it any more.

    Args:
        samples: (N,) as they were sent.
        call: who asks, and until when.
        tasks: where tasks are noted until they have ended, so that a server that stops can wait for them.
        max_completion_bytes: a longer completion is not scored, its neighbours are.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        call: Call,
        tasks: set[asyncio.Task[None]],
        max_completion_bytes: float = math.inf,
    ) -> None:
        self.call = call
        self._refused = _too_long(samples, max_completion_bytes)
        self._count = len(samples)
        self._kept = None if not self._refused else [i for i in range(len(samples)) if i not in self._refused]
        self.samples = samples if self._kept is None else [samples[index] for index in self._kept]
        self._tasks = tasks
        self._changed = asyncio.Event()
        self._arrivals: dict[str, Arrivals] = {}
        self._asked: list[Arrivals] = []
        self._computed: set[str] | None = None  # names of rewards that are computed for all; None = not known yet
        self._seen: dict[tuple[View, bool], Sequence[Sample]] = {}  # by view, and whether prompts are whole
        self._call_seen: ScoringCall | None = None
        self._chars_left = YIELD_AFTER_CHARS
        self._closed = False
        self._began = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        if call.deadline < math.inf:
            self._timer = asyncio.get_running_loop().call_at(call.deadline, self._expire)

    def ask(self, rewards: Sequence[Reward]) -> None:
        """Starts the rewards whose verdicts are the result."""
        self._asked = [self.arrivals(reward) for reward in rewards]

    def arrivals(self, reward: Reward) -> Arrivals:
        """Returns the verdicts of a reward as they come; starts it when it is first asked for."""
        arrivals = self._arrivals.get(reward.name)
        if arrivals is None:
            arrivals = self._arrivals[reward.name] = Arrivals(reward, len(self.samples), self._changed)
            if self._closed:  # a recipe asks for one more part, though its call is over
                arrivals.fail_rest(CLOSED)
            elif self.samples:
                self._start(arrivals)
        return arrivals

    def computes(self, reward: Reward) -> bool:
        """Returns whether a reward is or will be computed for all samples: it was asked for, or is part of what was.

        The answer is the same at any time of a scoring, however far its recipes have got.
        """
        if self._computed is None:
            self._computed = set()
            waiting = [arrivals.reward for arrivals in self._arrivals.values()]
            while waiting:
                found = waiting.pop()
                if found.name not in self._computed:
                    self._computed.add(found.name)
                    waiting += found.asked_for_all
        return reward.name in self._computed or reward.name in self._arrivals

    @property
    def done(self) -> bool:
        """Returns whether all that was asked for is there."""
        return all(arrivals.done.is_set() for arrivals in self._asked)

    async def results(self, by: float = math.inf) -> list[RewardResult]:
        """Returns the verdicts of each reward asked for, at the latest at `by` (on time.monotonic()'s clock).

        What is not there at `by` is failed in this answer only: the scoring goes on until its own deadline.
        """
        if not self.done:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(None if by == math.inf else by + 2 * COMBINE_S):
                    for arrivals in self._asked:
                        await arrivals.done.wait()
        return self.results_now()

    def results_now(self) -> list[RewardResult]:
        """Returns the verdicts as they are now; what is not there is failed."""
        return [
            RewardResult(arrivals.reward.name, arrivals.version, self._spread(arrivals), arrivals.total_ms)
            for arrivals in self._asked
        ]

    async def arriving(self) -> AsyncIterator[list[RewardResult]]:
        """Yields what has come since the last time, until all is there. Nothing is yielded twice."""
        fresh = [(arrivals, dict(self._refused)) for arrivals in self._asked]
        read = [0] * len(self._asked)
        while True:
            for number, (arrivals, verdicts) in enumerate(fresh):
                for index in arrivals.order[read[number] :]:
                    verdicts[self._kept[index] if self._kept else index] = arrivals.verdict(index)
                read[number] = len(arrivals.order)
            results = [_result(arrivals, verdicts) for arrivals, verdicts in fresh if verdicts]
            fresh = [(arrivals, {}) for arrivals in self._asked]
            if results:
                yield results
            elif self.done:
                return
            else:
                await self._changed.wait()

    def close(self) -> None:
        """Stops all that is still running; nothing is waited for."""
        self._closed = True
        self._call_seen = None  # it refers back to here
        if self._timer is not None:
            self._timer.cancel()
        for arrivals in self._arrivals.values():
            arrivals.fail_rest(CLOSED)

    def _start(self, arrivals: Arrivals) -> None:
        """Computes a cheap rule here and now, unless the texts are long; everything else in a task of its own."""
        reward = arrivals.reward
        shown_as = (reward.view, reward.whole_prompts)
        seen = self._seen.get(shown_as)
        if seen is None:
            seen = reward.view.show_all(self.samples, whole_prompts=reward.whole_prompts)
            self._seen[shown_as] = seen
        rule = reward.rule
        if rule is not None and self._take_turn(seen):
            arrivals.put_all([rule.verdict_on(sample) for sample in seen])
            return
        arrivals.task = asyncio.create_task(arrivals.fill(seen, self._scoring_call()))
        self._tasks.add(arrivals.task)
        arrivals.task.add_done_callback(self._tasks.discard)

    def _take_turn(self, seen: Sequence[Sample]) -> bool:
        """Returns whether rules may go through these texts at once, without giving other calls a turn in between."""
        chars = sum([len(sample.completion) for sample in seen])
        if chars > self._chars_left:
            return False
        self._chars_left -= chars
        return True

    def _scoring_call(self) -> ScoringCall:
        if self._call_seen is None:
            call = self.call
            self._call_seen = ScoringCall(
                call.deadline,
                call.experiment,
                call.run_id,
                call.step,
                call.request_id,
                call.attempt_count,
                call.peer,
                scoring=self,
            )
        return self._call_seen

    def _spread(self, arrivals: Arrivals) -> Sequence[Verdict]:
        """Returns (N,) verdicts, those on refused completions among them."""
        if self._kept is None:
            return arrivals.verdicts()
        verdicts = self._refused | dict(zip(self._kept, arrivals.verdicts(), strict=True))
        return [verdicts[index] for index in range(self._count)]

    def _expire(self) -> None:
        """Ends what is not ready at the deadline: first what computes, then what waits for parts."""
        for arrivals in self._arrivals.values():
            if not arrivals.reward.parts:
                arrivals.fail_rest(self._late())
        if not self.done:
            self._timer = asyncio.get_running_loop().call_later(COMBINE_S, self._expire_rest)

    def _expire_rest(self) -> None:
        for arrivals in self._arrivals.values():
            arrivals.fail_rest(self._late())

    def _late(self) -> str:
        return f"{LATE}, {max(0.0, self.call.deadline - self._began):.1f} s after it came in"


def _result(arrivals: Arrivals, verdicts: Mapping[int, Verdict]) -> RewardResult:
    return RewardResult(
        arrivals.reward.name, arrivals.version, list(verdicts.values()), arrivals.total_ms, indexes=list(verdicts)
    )


def _too_long(samples: Sequence[Sample], max_bytes: float) -> dict[int, Verdict]:
    sizes = [text_bytes(sample.completion) for sample in samples]
    return {
        index: failed(
            f"the completion has {size:,} bytes, over the server's limit of {max_bytes:,}: "
            "shorten it (max_completion_length), or raise limits.max_completion_kb of the server"
        )
        for index, size in enumerate(sizes)
        if size > max_bytes
    }
