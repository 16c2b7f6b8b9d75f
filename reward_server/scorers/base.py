"""What a scorer is: samples in, verdicts out.

Three ways to write one:

- `Rule`: a cheap function of one sample, computed on the event loop (`length`, `format`).
- `PooledRule`, in `reward_server.scorers.pooled`: one that may be slow, hang or crash, computed in a worker process.
- `Scorer`: the whole protocol, for what waits on something (a worker process, a judge's model).
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from reward_server.domain import HEALTHY, Call, CostClass, Health, Needs, Sample, Verdict, failed
from reward_server.floor import LOWEST, Floor

if TYPE_CHECKING:
    from reward_server.judge.judge import Judge
    from reward_server.sandbox.sandboxes import Sandboxes
    from reward_server.workers.pool import WorkerPool

YIELD_AFTER_CHARS = 200_000
"""A rule gives other calls a turn after this many characters, so that long texts don't hold up the event loop."""

MAX_REASON_CHARS = 500
"""Exceptions quote what they choked on, which may be a whole completion: of their words so many are told."""


@runtime_checkable
class Scorer(Protocol):
    """Scores samples. One instance serves all calls, several at a time.

    A scorer's constructor takes `(options, context)`: its own `Options` (see `reward_server.options`) and a `ScorerContext`. It must not do I/O;
    what is opened is opened in `start` and closed in `close`.

    One that reads a conversational prompt with all its messages, whatever the view shows of the completion, says so by
    `whole_prompts = True`; others are shown the last user message.

    One whose verdict on a sample never depends on the samples beside it says so by `compares = False`, as rules do: then
    a recipe that asks about some samples only may take verdicts that were given among others.

    One that asks a server elsewhere leaves that out where the context's `asks_hosts` is False, and is well then.
    """

    kind: ClassVar[str]  # its key in the configuration

    @property
    def needs(self) -> Needs:
        """Returns what of a sample it reads; known at the latest after `start`."""

    @property
    def score_range(self) -> tuple[float, float] | None:
        """Returns the smallest and the largest possible score, None where that is unknown."""

    @property
    def cost_class(self) -> CostClass:
        """Returns what one verdict costs, roughly."""

    async def start(self) -> None:
        """Opens what it needs.

        Raises `ConfigError` for what the configuration got wrong; a host that is merely unreachable is no error here
        but shows in `health`.
        """

    async def close(self) -> None:
        """Closes it."""

    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, all that shapes a score besides the options.

        Source hashes, model digests, versions of libraries: they become part of the reward's version. Called after
        `start`, and again for every call: it must be cheap.
        """

    def health(self) -> Health:
        """Returns whether it can score now, from what it knows; asks nobody."""

    def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields each sample's index and verdict once, in any order, until `call.deadline`.

        What it has not yielded by then is cancelled by the caller (the generator is closed): it must then stop its
        own work upstream. It never raises for a bad sample: that is a verdict.
        """


class RewardPart(Scorer, Protocol):
    """Another reward of the configuration, as the scorer of a recipe that is made of it."""

    @property
    def floor_is_lowest(self) -> bool:
        """Returns whether its floor is the low end of its range, and no number that somebody has declared."""

    @property
    def compares(self) -> bool:
        """Returns whether its verdict on a sample may depend on the samples beside it."""

    def score_some(
        self, samples: Sequence[Sample], indexes: Sequence[int], call: Call
    ) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields the verdicts on these of the samples; nothing else is asked for."""


@dataclass(frozen=True, slots=True)
class RuleContext:
    """What a rule is given besides its options, in the server and in worker processes alike."""

    reward_name: str
    folder: Path  # the configuration's folder: relative paths start here


@dataclass(frozen=True, slots=True)
class ScorerContext(RuleContext):
    """What a scorer is given besides its options."""

    pool: WorkerPool  # killable worker processes for people's own functions
    judges: Mapping[str, Judge]  # the configured judges by name
    reward: Callable[[str], RewardPart]  # another reward of the configuration, by name, as a scorer
    floor: Floor = LOWEST  # what the reward declares for a completion that itself breaks its grader
    rule_pool: WorkerPool | None = None  # likewise for rules: nothing of anybody's own code runs there; None = in tests
    sandboxes: Sandboxes | None = None  # where programs run that nobody trusts; None = in tests
    asks_hosts: bool = True  # False = it is started to be looked at only: no server elsewhere is asked for anything


class Rule(abc.ABC):
    """A cheap, pure function of one sample as a scorer. Override `judge_one`."""

    kind: ClassVar[str] = ""
    needs: Needs = Needs()
    score_range: tuple[float, float] | None = None
    cost_class: CostClass = CostClass.TRIVIAL
    compares: bool = False

    async def start(self) -> None:  # noqa: B027  # most rules have nothing to open
        """Nothing to open."""

    async def close(self) -> None:  # noqa: B027  # nor to close
        """Nothing to close."""

    def identity(self) -> Mapping[str, Any]:
        """Returns nothing: a rule is its options."""
        return {}

    def health(self) -> Health:
        """Returns that it can always score."""
        return HEALTHY

    @abc.abstractmethod
    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the verdict on one sample. An exception becomes a failed verdict with its message."""

    def verdict_on(self, sample: Sample) -> Verdict:
        """Returns the verdict on one sample; a rule's bug is that sample's failed verdict, never a dead call."""
        try:
            return self.judge_one(sample)
        except Exception as error:  # noqa: BLE001  # whatever a rule raises is its verdict
            return failed(f"{type(error).__name__}: {error}"[:MAX_REASON_CHARS])

    async def score(
        self,
        samples: Sequence[Sample],
        call: Call,  # noqa: ARG002  # a rule needs no deadline, but every scorer is called alike
    ) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields the verdicts in order, giving way to other calls between long texts."""
        chars = 0
        for index, sample in enumerate(samples):
            yield index, self.verdict_on(sample)
            chars += len(sample.completion)
            if chars > YIELD_AFTER_CHARS:
                chars = 0
                await asyncio.sleep(0)
