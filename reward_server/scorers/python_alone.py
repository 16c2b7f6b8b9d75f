"""Scores the samples of a batch one by one after the function has failed on all of them at once.

So the sample that made it fail is named, and its neighbours are scored.
"""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final

from reward_server.domain import Status, Verdict, failed
from reward_server.errors import PoolClosed, WorkerError
from reward_server.scorers.python_calls import BATCH_SHARE, Batch
from reward_server.scorers.python_parts import score_parts

FIRST_SHARE: Final = 0.5
"""All samples, tried once each, take at most this share of the time left, even if every one of them hangs."""

SLOWER_ALONE: Final = 4.0
"""A sample alone may at first take this many times its share of the time that the batch was given."""

MIN_FIRST_LIMIT_S: Final = 0.1
RELATIVE_TOLERANCE: Final = 1e-6  # sums over arrays of another size round in another way
ABSOLUTE_TOLERANCE: Final = 1e-9

Ready = list[tuple[int, Verdict]]
"""Verdicts that may be given now, with the indexes of their samples."""


async def score_one_by_one(batch: Batch, why: str) -> AsyncGenerator[tuple[int, Verdict], None]:
    """Yields the verdicts on the samples of a batch on which the function failed for the reason `why`."""
    guard = Guard(batch, why)
    alone = [(index,) for index in range(len(batch.samples))]
    async with aclosing(score_parts(batch, alone, _first_limit_s(batch))) as outcomes:
        async for (index,), (verdict,) in outcomes:
            for ready in await guard.admit(index, verdict):
                yield ready
            if guard.objection:
                break
    for ready in await guard.settle():
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
    group where there are such, got the same scores together as alone; if they don't, none of them passes.
    """

    def __init__(self, batch: Batch, why: str) -> None:
        self.objection = ""  # why no more scores may pass
        self._batch = batch
        self._why = why
        self._proven = False
        self._held: dict[int, Verdict] = {}
        self._left = set(range(len(batch.samples)))

    async def admit(self, index: int, verdict: Verdict) -> Ready:
        """Takes one more verdict and returns what may pass now."""
        if self._proven or verdict.score is None:
            return self._passing({index: verdict})
        self._held[index] = verdict
        group = self._batch.samples[index].group
        mates = [other for other in self._held if other != index and self._batch.samples[other].group == group]
        return await self._prove((mates[0], index)) if mates else []

    async def settle(self) -> Ready:
        """Returns the verdicts on all that is left, after the last one was admitted or an objection was found."""
        ready: Ready = []
        if self._held and not self.objection:  # no two of one group: two of different groups, or the only one twice
            first, *others = self._held
            ready = await self._prove((first, others[0] if others else first))
        return ready + [(index, failed(f"{self._why}; {self.objection}")) for index in sorted(self._left)]

    async def _prove(self, pair: tuple[int, int]) -> Ready:
        self.objection = await self._object(pair)
        self._proven = not self.objection
        return self._passing(self._held) if self._proven else []

    async def _object(self, pair: tuple[int, int]) -> str:
        """Returns why the scores held back must not pass, or an empty text."""
        try:
            together = await self._batch.verdicts(pair, lambda: self._batch.limit_s(BATCH_SHARE))
        except PoolClosed:
            raise
        except WorkerError as error:
            reason = self._batch.reason(error, pair)
            return f"on two of its samples, which it scores alone, {reason}. 'calls: sample' calls it on one at a time"
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
