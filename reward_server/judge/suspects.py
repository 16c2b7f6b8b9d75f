"""Finds out whether a completion that got no grade did that to its judge itself.

Three things must hold: it failed again and again, alone; with a bland completion in its place the judge answers well,
now; and where several of a compared group are suspected, it fails as the only suspect among bland ones too. A host that
is sick answers the control no better, and one bad completion is not held against those it was compared with.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Collection, Sequence

from reward_server.domain import NO_COST, Cost
from reward_server.judge import blame
from reward_server.judge.asking import Read
from reward_server.judge.material import Material
from reward_server.judge.methods.base import Method, Miss, Opinion, Unit

AskNow = Callable[[Unit], Awaitable[Read]]
"""Asks a unit whatever the memory knows of better days."""


class Suspects:
    """The suspicions of one call.

    Args:
        method: makes the questions.
        ask_now: gets one asked.
    """

    def __init__(self, method: Method, ask_now: AskNow) -> None:
        self._method = method
        self._ask_now = ask_now
        self._last_read: dict[str, float] = {}  # by affinity: when an answer was of use, on time.monotonic()'s clock
        self._controls: dict[bytes, asyncio.Task[Read]] = {}

    def note(self, read: Read) -> None:
        """Notes that a completion was graded: it speaks against those of the same task that fail meanwhile."""
        answered, affinity = read.meter.last_answered, read.unit.affinity
        if answered is not None and not isinstance(read.reading, Miss):
            self._last_read[affinity] = max(answered, self._last_read.get(affinity, answered))

    async def guilty(
        self, group: Sequence[Material], reads: Sequence[Read], suspects: Collection[int]
    ) -> tuple[set[int], Cost]:
        """Returns those of the suspects that broke their judge themselves, and what it cost to find out.

        Args:
            group: (M,) materials as they were shown.
            reads: (U,) of its units.
            suspects: positions in the group.
        """
        if not suspects:
            return set(), NO_COST
        if not self._method.compares and self._neighbour_was_read(reads[0]):
            return set(suspects), NO_COST
        opinions, spent = await self._opinions(self._without(group, suspects), reads)
        if any(isinstance(opinions[each], Miss) for each in suspects):
            return set(), spent
        if len(suspects) == 1:
            return set(suspects), spent
        alone = [self._opinions(self._without(group, set(suspects) - {each}), reads) for each in suspects]
        found = dict(zip(suspects, await asyncio.gather(*alone), strict=True))
        return {each for each, (said, _) in found.items() if _is_silenced(said[each])}, sum(
            (cost for _, cost in found.values()), spent
        )

    def _without(self, group: Sequence[Material], replaced: Collection[int]) -> list[Material]:
        """Returns the group with bland completions in some places; each its own, since equal ones are not compared."""
        single = len(group) == 1
        return [
            blame.bland(material, None if single else position) if position in replaced else material
            for position, material in enumerate(group)
        ]

    def _neighbour_was_read(self, read: Read) -> bool:
        """Returns whether another completion of the same task was graded after this one was last asked about."""
        asked = read.meter.last_asked
        return asked is not None and self._last_read.get(read.unit.affinity, -math.inf) > asked

    async def _opinions(
        self, group: Sequence[Material], reads: Sequence[Read]
    ) -> tuple[Sequence[Opinion | Miss], Cost]:
        """Returns what the judge thinks of this group, and what it cost to find out; what was read of it stays read."""
        known = {read.unit.key: read.reading for read in reads}
        units = self._method.units(group)
        asked = await asyncio.gather(*(self._asked(unit) for unit in units if unit.key not in known))
        known |= {read.unit.key: read.reading for read, _ in asked}
        spent = sum((read.meter.total for read, began in asked if began), NO_COST)
        return self._method.opinions(group, [known[unit.key] for unit in units]), spent

    async def _asked(self, unit: Unit) -> tuple[Read, bool]:
        """Returns what is read now, and whether it was asked for here: one under way serves all who want to know."""
        task = self._controls.get(unit.key)
        began = task is None
        if task is None:
            task = self._controls[unit.key] = asyncio.ensure_future(self._ask_now(unit))
            task.add_done_callback(lambda _: self._controls.pop(unit.key))
        return await task, began


def _is_silenced(opinion: Opinion | Miss) -> bool:
    return isinstance(opinion, Miss) and blame.is_suspicious(opinion.error)
