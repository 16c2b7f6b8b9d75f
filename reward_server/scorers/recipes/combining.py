"""What the scorers share that make one verdict of several: `sum` of rewards, `jury` of judges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Protocol, TypedDict

from reward_server.domain import NO_COST, Blame, Call, Cost, Sample, Status, Verdict, abstained, failed


class Part(Protocol):
    """One of those whose verdicts are combined."""

    def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields each sample's index and verdict; see `Scorer.score`."""


class Carried(TypedDict):
    """What a verdict carries over from its parts, besides the score."""

    explanation: str
    parts: Mapping[str, float | None]
    cost: Cost
    flags: tuple[str, ...]


class Streams:
    """Several streams of verdicts, read at the same time. More may be added while they are read. Close it."""

    def __init__(self) -> None:
        self._arrived: asyncio.Queue[tuple[str, int, Verdict] | None] = asyncio.Queue()
        self._tasks: list[asyncio.Task[None]] = []
        self._ended = 0

    def add(self, name: str, stream: AsyncIterator[tuple[int, Verdict]]) -> None:
        """Starts to read one more stream, whose verdicts come under this name."""
        self._tasks.append(asyncio.create_task(self._run(name, stream)))

    async def read(self) -> AsyncGenerator[tuple[str, int, Verdict], None]:
        """Yields the streams' names, and their indexes and verdicts, as they come.

        What one of the streams raises is raised here, when the others are through.
        """
        while self._ended < len(self._tasks):
            item = await self._arrived.get()
            if item is None:
                self._ended += 1
            else:
                yield item
        await asyncio.gather(*self._tasks)

    async def aclose(self) -> None:
        """Cancels what is still read."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, name: str, stream: AsyncIterator[tuple[int, Verdict]]) -> None:
        try:
            async for index, verdict in stream:
                self._arrived.put_nowait((name, index, verdict))
        finally:
            self._arrived.put_nowait(None)


async def follow(
    parts: Mapping[str, Part], samples: Sequence[Sample], call: Call
) -> AsyncGenerator[tuple[int, Mapping[str, Verdict]], None]:
    """Yields each sample's index and its verdicts by part, in the order of the parts, as soon as all are there.

    All parts score at the same time. What one of them raises is raised here, when the others are through; closing this
    cancels them.
    """
    verdicts: list[dict[str, Verdict]] = [{} for _ in samples]
    async with aclosing(Streams()) as streams:
        for name, part in parts.items():
            streams.add(name, part.score(samples, call))
        async with aclosing(streams.read()) as read:
            async for name, index, verdict in read:
                verdicts[index][name] = verdict
                if len(verdicts[index]) == len(parts):
                    yield index, {part: verdicts[index][part] for part in parts}


def carried(verdicts: Mapping[str, Verdict]) -> Carried:
    """Returns what all parts say together: explanations by name, scores, the sum of costs, every flag once."""
    cost = NO_COST
    for verdict in verdicts.values():
        if verdict.cost is not NO_COST:
            cost += verdict.cost
    return {
        "explanation": "\n".join(f"{name}: {each.explanation}" for name, each in verdicts.items() if each.explanation),
        "parts": {name: verdict.score for name, verdict in verdicts.items()},
        "cost": cost,
        "flags": tuple(dict.fromkeys(flag for verdict in verdicts.values() for flag in verdict.flags)),
    }


def missing(reason: str, misses: Collection[Verdict], carries: Carried) -> Verdict:
    """Returns the verdict that is missing because of these: failed if one of them has failed, otherwise abstained."""
    miss = failed if any(verdict.status is Status.FAILED for verdict in misses) else abstained
    return miss(reason, blame=_blame({verdict.blame for verdict in misses}), **carries)


def _blame(of_misses: Collection[Blame]) -> Blame:
    """Returns what the whole is missing for.

    What no later try mends comes first, then what one may. The completion bears it only where nothing else is at fault.
    """
    for blame in (Blame.REFERENCE, Blame.OUTAGE, Blame.UNKNOWN):
        if blame in of_misses:
            return blame
    return Blame.COMPLETION
