"""What the scorers share that make one verdict of several: `sum` of rewards, `jury` of judges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Collection, Mapping, Sequence
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


async def follow(
    parts: Mapping[str, Part], samples: Sequence[Sample], call: Call
) -> AsyncGenerator[tuple[int, Mapping[str, Verdict]], None]:
    """Yields each sample's index and its verdicts by part, in the order of the parts, as soon as all are there.

    All parts score at the same time. What one of them raises is raised here, when the others are through; closing this
    cancels them.
    """
    arrived: asyncio.Queue[tuple[str, int, Verdict] | None] = asyncio.Queue()

    async def run(name: str, part: Part) -> None:
        try:
            async for index, verdict in part.score(samples, call):
                arrived.put_nowait((name, index, verdict))
        finally:
            arrived.put_nowait(None)

    verdicts: list[dict[str, Verdict]] = [{} for _ in samples]
    running = [asyncio.create_task(run(name, part)) for name, part in parts.items()]
    ended = 0
    try:
        while ended < len(running):
            item = await arrived.get()
            if item is None:
                ended += 1
                continue
            name, index, verdict = item
            verdicts[index][name] = verdict
            if len(verdicts[index]) == len(parts):
                yield index, {part: verdicts[index][part] for part in parts}
        await asyncio.gather(*running)  # raises what one of them has raised
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


def carried(verdicts: Mapping[str, Verdict]) -> Carried:
    """Returns what all parts say together: explanations by name, scores, the sum of costs, every flag once."""
    cost = NO_COST
    for verdict in verdicts.values():
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
