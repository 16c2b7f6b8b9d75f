"""Has a reward score the probes, each as a group of its own, and the pairs once more in the other order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from reward_server.audit.probes import PAIRS, Probe
from reward_server.domain import Call, Needs, Sample, Verdict
from reward_server.errors import ConfigError
from reward_server.reward import RewardInfo
from reward_server.rewards import Rewards
from reward_server.scoring import Selector


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a reward said of one probe."""

    probe: Probe
    verdicts: tuple[Verdict, ...]  # (M,) of the probe's completions, in their order
    again: tuple[Verdict, ...] = ()  # (M,) of the same, asked in the other order; pairs only

    def scores(self) -> tuple[float | None, ...]:
        """Returns (M,) the scores, None where one is missing."""
        return tuple(verdict.score for verdict in self.verdicts)


@dataclass(frozen=True, slots=True)
class Session:
    """All that came of an audit."""

    info: RewardInfo
    outcomes: Sequence[Outcome]
    wall_s: float  # spent scoring, without the start of engines

    def verdicts(self) -> Iterator[Verdict]:
        """Yields every verdict."""
        for outcome in self.outcomes:
            yield from outcome.verdicts
            yield from outcome.again


class Progress(Protocol):
    """Who is told how far it is."""

    def begin(self, count: int) -> None:
        """Is told how many verdicts there will be."""

    def advance(self) -> None:
        """Is told that there is one more."""


@dataclass(frozen=True, slots=True)
class Running:
    """How the probes are scored.

    The other order is asked of rewards that are opened afresh: a judge remembers its verdicts as long as it is open,
    and what is only remembered would pass for agreement with itself.
    """

    open_rewards: Callable[[], Rewards]
    reward: str
    fit: Callable[[Needs], Sequence[Probe]]  # returns the probes that have what the reward needs
    batch_size: int  # completions a call, or a little more: a group is never parted
    timeout_s: float  # for one call
    progress: Progress

    async def run(self) -> Session:
        """Returns the verdicts.

        Raises:
            ConfigError: the reward can't be opened, or can't score now.
            RequestError: the probes lack what it needs.
        """
        async with self.open_rewards() as rewards:
            info = self._info(rewards)
            probes = self.fit(info.needs)
            pairs = [probe for probe in probes if probe.set == PAIRS]
            self.progress.begin(sum(len(probe.completions) for probe in [*probes, *pairs]))
            first, wall_s = await self._pass(rewards, probes, backwards=False)
        second: list[tuple[Verdict, ...]] = []
        if pairs:
            async with self.open_rewards() as rewards:
                self._info(rewards)
                second, more_s = await self._pass(rewards, pairs, backwards=True)
                wall_s += more_s
        again = dict(zip(map(id, pairs), second, strict=True))
        outcomes = [Outcome(probe, found, again.get(id(probe), ())) for probe, found in zip(probes, first, strict=True)]
        return Session(info, outcomes, wall_s)

    def _info(self, rewards: Rewards) -> RewardInfo:
        info = next(info for info in rewards.describe() if info.name == self.reward)
        if not info.health.serving:
            raise ConfigError(f"rewards.{self.reward}: {info.health.reason}")
        return info

    async def _pass(
        self, rewards: Rewards, probes: Sequence[Probe], *, backwards: bool
    ) -> tuple[list[tuple[Verdict, ...]], float]:
        """Returns the verdicts on every probe's completions, in their order however they were asked for, and the time."""
        found: list[tuple[Verdict, ...]] = []
        began = time.monotonic()
        for batch in _batches(probes, self.batch_size):
            found += await self._score(rewards, batch, backwards=backwards)
        return found, time.monotonic() - began

    async def _score(self, rewards: Rewards, probes: Sequence[Probe], *, backwards: bool) -> list[tuple[Verdict, ...]]:
        places = [
            (group, place)
            for group, probe in enumerate(probes)
            for place in (reversed if backwards else iter)(range(len(probe.completions)))
        ]
        samples = [_sample(probes[group], place, group) for group, place in places]
        verdicts: dict[tuple[int, int], Verdict] = {}
        call = Call(deadline=time.monotonic() + self.timeout_s)
        async for _, index, verdict in rewards.run([Selector(self.reward)], samples, call):
            verdicts[places[index]] = verdict
            self.progress.advance()
        return [
            tuple(verdicts[group, place] for place in range(len(probe.completions)))
            for group, probe in enumerate(probes)
        ]


def _batches(probes: Sequence[Probe], size: int) -> Iterator[list[Probe]]:
    batch: list[Probe] = []
    count = 0
    for probe in probes:
        batch.append(probe)
        count += len(probe.completions)
        if count >= size:
            yield batch
            batch, count = [], 0
    if batch:
        yield batch


def _sample(probe: Probe, place: int, group: int) -> Sample:
    return Sample(probe.completions[place], probe.prompt, probe.columns, group)
