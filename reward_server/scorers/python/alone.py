"""Scores the samples of a batch one by one after the function has failed on all of them at once.

So the sample that made it fail is named and tried, and its neighbours are scored.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from reward_server.domain import Status, Verdict, failed
from reward_server.errors import PoolClosed, WorkerError
from reward_server.scorers.python.calls import BATCH_SHARE, Batch
from reward_server.scorers.suspects import shortened

FIRST_SHARE: Final = 0.25
"""All samples, tried once each, take at most this share of the time left, even if every one of them hangs.

By the clock they take longer where the machine is busy: a limit is of a call's own time.
"""

SLOWER_ALONE: Final = 4.0
"""A sample alone may at first take this many times its share of the time that the batch was given."""

MIN_FIRST_LIMIT_S: Final = 0.1
WHY_CHARS: Final = 180  # so long may each of two errors be that a verdict's reason tells
RELATIVE_TOLERANCE: Final = 1e-6  # sums over arrays of another size round in another way
ABSOLUTE_TOLERANCE: Final = 1e-9

Ready = list[tuple[int, Verdict]]
"""Verdicts that may be given now, with the indexes of their samples."""


async def score_one_by_one(batch: Batch, why: str) -> AsyncGenerator[tuple[int, Verdict], None]:
    """Yields the verdicts on the samples of a batch on which the function failed for the reason `why`."""
    guard = Guard(batch, why)
    trial = batch.trial(batch.alone(), first_timeout_s=_first_limit_s(batch))
    for stage in trial.stages():
        async with aclosing(stage):
            async for index, outcome in stage:
                for ready in await guard.admit(index, batch.verdicts(outcome, 1)[0]):
                    yield ready
                if guard.objection:
                    break
        for ready in await guard.settle():
            yield ready
        if guard.objection:
            break
    for ready in guard.rest():
        yield ready


def _first_limit_s(batch: Batch) -> float:
    count, lanes = len(batch.samples), batch.function.pool.count
    as_in_batch_s = SLOWER_ALONE * batch.limit_s(BATCH_SHARE) / count
    all_hang_s = FIRST_SHARE * batch.remaining_s() * lanes / count
    return max(MIN_FIRST_LIMIT_S, min(as_in_batch_s, all_hang_s))


class Guard:
    """Lets scores of single samples pass once it is seen that the function gives the same ones in company.

    A function that compares the samples of its call with one another (ranks, duplicates, distance from the mean) gives
    something for a single one too, and that would be a wrong number. Scores are held back until two samples, of one
    group and of different words where there are such, got the same scores together as alone; if they don't, none of
    them passes.
    """

    def __init__(self, batch: Batch, why: str) -> None:
        self.objection = ""  # why no more scores may pass
        self._batch = batch
        self._why = shortened(why, WHY_CHARS)
        self._proven = False
        self._held: dict[int, Verdict] = {}
        self._left = set(range(len(batch.samples)))

    async def admit(self, index: int, verdict: Verdict) -> Ready:
        """Takes one more verdict and returns what may pass now."""
        if self._proven or verdict.score is None:
            return self._passing({index: verdict})
        self._held[index] = verdict
        mates = [other for other in self._others(index) if self._group(other) == self._group(index)]
        return await self._prove((mates[0], index)) if mates else []

    async def settle(self) -> Ready:
        """Returns what may pass after the last of several was admitted, with no two of one group among them."""
        if not self._held or self.objection:
            return []
        first, *others = self._held  # two of different groups or the same words, or the only one twice
        return await self._prove((first, [*self._others(first), *others, first][0]))

    def rest(self) -> Ready:
        """Returns the verdicts on all that is left in the end."""
        return [(index, failed(f"{self._why}; {self.objection}")) for index in sorted(self._left)]

    def _others(self, index: int) -> list[int]:
        """Returns the samples held back that say something else than this one: ranks and means need a difference."""
        samples = self._batch.samples
        return [other for other in self._held if samples[other].completion != samples[index].completion]

    def _group(self, index: int) -> int:
        return self._batch.samples[index].group

    async def _prove(self, pair: tuple[int, int]) -> Ready:
        self.objection = await self._object(pair)
        self._proven = not self.objection
        return self._passing(self._held) if self._proven else []

    async def _object(self, pair: tuple[int, int]) -> str:
        """Returns why the scores held back must not pass, or an empty text."""
        try:
            outcome = await self._batch.outcome(pair, BATCH_SHARE)
        except PoolClosed:
            raise
        except WorkerError as error:
            reason = shortened(self._batch.reason(error, pair), WHY_CHARS)
            return f"on two of its samples, which it scores alone, {reason}. 'calls: sample' calls it on one at a time"
        together = self._batch.verdicts(outcome, len(pair))
        if all(_agree(self._held[index], verdict) for index, verdict in zip(pair, together, strict=True)):
            return ""
        return (
            "and its samples cannot be scored one by one, as their scores depend on one another or on chance. "
            "'calls: group' calls it on one group at a time"
        )

    def _passing(self, verdicts: dict[int, Verdict]) -> Ready:
        ready = list(verdicts.items())
        for index, _ in ready:
            self._left.discard(index)
            self._held.pop(index, None)
        return ready


def _agree(alone: Verdict, together: Verdict) -> bool:
    if alone.score is None or together.status is not Status.SCORED or together.score is None:
        return False
    return math.isclose(alone.score, together.score, rel_tol=RELATIVE_TOLERANCE, abs_tol=ABSOLUTE_TOLERANCE)
