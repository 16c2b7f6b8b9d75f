"""Finds out whether a completion that got no grade did that to its judge itself.

Three things must hold: it failed again and again; with a bland completion in its place the judge answers well, now, at a
host where it failed; and where several of a compared group are suspected, it fails as the only suspect among bland ones
too. A host that is sick answers the control no better, what another host answers proves nothing of it, and one bad
completion is not held against those it was compared with.

A host that breaks takes all with it that it is working on. So a suspect under which one broke is asked once more while
nothing else of the call is: only if that breaks a host too, and it answers a control after that, is it to blame.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from reward_server.domain import NO_COST, Cost
from reward_server.errors import BadAnswer, HostFailed
from reward_server.judge import blame
from reward_server.judge.asking import Asking, Read
from reward_server.judge.material import Material
from reward_server.judge.methods.base import Method, Miss, Opinion, Unit


@dataclass(frozen=True, slots=True)
class Trial:
    """What was found out about one suspect."""

    read: Read  # what it was read as in the end
    guilty: bool  # it broke its judge itself
    spent: Cost


@dataclass(frozen=True, slots=True)
class Said:
    """What the judge thinks of a group."""

    opinions: Sequence[Opinion | Miss]  # (M,)
    failed_at: Collection[str]  # hosts that gave no grade now
    spent: Cost


class Suspects:
    """The suspicions of one call.

    Args:
        method: makes the questions.
        asking: gets them asked.
    """

    def __init__(self, method: Method, asking: Asking) -> None:
        self._method = method
        self._asking = asking
        self._last_read: dict[tuple[str, str], float] = {}  # by affinity and host: when an answer was of use
        self._sick: dict[str, float] = {}  # by host: when a control was begun that it did not answer
        self._controls: dict[tuple[bytes, frozenset[str] | None], asyncio.Task[Read]] = {}

    def note(self, read: Read) -> None:
        """Notes that a completion was graded: it speaks against those of the same task that fail there meanwhile."""
        answered, host = read.meter.last_answered, read.meter.read_at
        if answered is not None and host is not None and not isinstance(read.reading, Miss):
            key = (read.unit.affinity, host)
            self._last_read[key] = max(answered, self._last_read.get(key, answered))

    async def tried(self, group: Sequence[Material], read: Read) -> Trial:
        """Returns what is found out about a suspect that is compared with nobody.

        Args:
            group: the suspect alone, as it was shown.
            read: of its only unit.
        """
        spent = NO_COST
        if not read.meter.failed_at:  # somebody else asked, and knows where
            read, began = await self._shared(read.unit, None)
            spent = read.meter.total if began else NO_COST
            if not _is_suspicious(read):
                return Trial(read, guilty=False, spent=spent)
        if not isinstance(_error(read), HostFailed):
            well, more = await self._is_well(group, read, alone=False)
            return Trial(read, guilty=well, spent=spent + more)
        async with self._asking.alone():
            well, more = await self._is_well(group, read, alone=True)
            spent += more
            if not well:
                return Trial(read, guilty=False, spent=spent)
            again = await self._now(read.unit, None, alone=True)
            spent += again.meter.total
            if not _is_suspicious(again):
                return Trial(again, guilty=False, spent=spent)
            well, more = await self._is_well(group, again, alone=True)
            return Trial(again, guilty=well, spent=spent + more)

    async def guilty(
        self, group: Sequence[Material], reads: Sequence[Read], suspects: Collection[int]
    ) -> tuple[set[int], Cost]:
        """Returns those suspects of a compared group that broke their judge themselves, and what it cost to find out.

        Args:
            group: (M,) materials as they were shown.
            reads: (U,) of its units.
            suspects: positions in the group.
        """
        if not any(isinstance(_error(read), HostFailed) for read in reads):
            return await self._guilty_together(group, reads, suspects)
        async with self._asking.alone():
            return await self._guilty_by_turns(group, reads, suspects)

    async def without(
        self, group: Sequence[Material], reads: Sequence[Read], guilty: Collection[int]
    ) -> tuple[Sequence[Opinion | Miss], Cost]:
        """Returns what the judge thinks of a compared group with bland completions in the places of the guilty.

        Those whom nothing is held against would otherwise have no grades: and where they have none, a floor is no
        less than what the rest of its group gets.
        """
        said = await self._said(self._without(group, guilty), _lasting(reads))
        return said.opinions, said.spent

    async def _guilty_together(
        self, group: Sequence[Material], reads: Sequence[Read], suspects: Collection[int]
    ) -> tuple[set[int], Cost]:
        """Returns who is guilty, and the cost, where no host broke: all that is to be asked is asked at once."""
        control = await self._said(self._without(group, suspects), reads, _failed_at(reads))
        if any(isinstance(control.opinions[each], Miss) for each in suspects):
            return set(), control.spent
        if len(suspects) == 1:
            return set(suspects), control.spent
        alone = [self._said(self._without(group, set(suspects) - {each}), reads) for each in suspects]
        found = dict(zip(suspects, await asyncio.gather(*alone), strict=True))
        return {each for each, said in found.items() if _is_silenced(said.opinions[each])}, sum(
            (said.spent for said in found.values()), control.spent
        )

    async def _guilty_by_turns(
        self, group: Sequence[Material], reads: Sequence[Read], suspects: Collection[int]
    ) -> tuple[set[int], Cost]:
        """Returns who is guilty, and the cost, where a host broke: one suspect after another, and controls between."""
        at, known, spent = _failed_at(reads), _lasting(reads), NO_COST
        asked = max((read.meter.last_asked or 0.0 for read in reads), default=0.0)
        guilty: set[int] = set()
        for each in suspects:
            if self._are_sick(at, asked):
                break
            control = await self._said(self._without(group, suspects), known, at, alone=True)
            spent += control.spent
            if isinstance(control.opinions[each], Miss):
                break
            said = await self._said(self._without(group, set(suspects) - {each}), known, alone=True)
            spent += said.spent
            if _is_silenced(said.opinions[each]):
                after = await self._said(self._without(group, suspects), known, said.failed_at, alone=True)
                spent += after.spent
                guilty |= set() if isinstance(after.opinions[each], Miss) else {each}
        return guilty, spent

    async def _is_well(self, group: Sequence[Material], read: Read, *, alone: bool) -> tuple[bool, Cost]:
        """Returns whether a host where a suspect failed answers others since then, and what it cost to find out."""
        if self._neighbour_was_read(read):
            return True, NO_COST
        at = read.meter.failed_at
        if alone and self._are_sick(at, read.meter.last_asked or 0.0):
            return False, NO_COST
        control = await self._said(self._without(group, {0}), [read], at, alone=alone)
        return not isinstance(control.opinions[0], Miss), control.spent

    def _without(self, group: Sequence[Material], replaced: Collection[int]) -> list[Material]:
        """Returns the group with bland completions in some places; each its own, since equal ones are not compared."""
        single = len(group) == 1
        return [
            blame.bland(material, None if single else position) if position in replaced else material
            for position, material in enumerate(group)
        ]

    def _neighbour_was_read(self, read: Read) -> bool:
        """Returns whether another of the same task was graded after this one was last asked about, where it failed."""
        asked, affinity = read.meter.last_asked, read.unit.affinity
        return asked is not None and any(
            self._last_read.get((affinity, host), -math.inf) > asked for host in read.meter.failed_at
        )

    def _are_sick(self, hosts: Collection[str] | None, since: float) -> bool:
        """Returns whether controls that were begun since then have shown it: those who wait for their turn ask no more."""
        return bool(hosts) and all(self._sick.get(host, -math.inf) > since for host in hosts or ())

    async def _said(
        self,
        group: Sequence[Material],
        reads: Sequence[Read],
        at: Collection[str] | None = None,
        *,
        alone: bool = False,
    ) -> Said:
        """Returns what the judge thinks of this group; what was read of it stays read, the rest is asked now.

        Args:
            group: (M,) materials.
            reads: what is known.
            at: hosts of which one is to answer; None = any.
            alone: see `Asking.alone`.
        """
        began_s, known = time.monotonic(), {read.unit.key: read.reading for read in reads}
        units = self._method.units(group)
        missing = [unit for unit in units if unit.key not in known]
        if alone:
            unique = {unit.key: unit for unit in missing}.values()
            asked = [
                (each, True) for each in await asyncio.gather(*(self._now(unit, at, alone=True) for unit in unique))
            ]
        else:
            asked = await asyncio.gather(*(self._shared(unit, at) for unit in missing))
        known |= {read.unit.key: read.reading for read, _ in asked}
        if alone and any(_error(read) is not None for read, _ in asked):
            self._sick |= dict.fromkeys(at or (), began_s)
        spent = sum((read.meter.total for read, began in asked if began), NO_COST)
        failed_at = {host for read, _ in asked for host in read.meter.failed_at if _error(read) is not None}
        return Said(self._method.opinions(group, [known[unit.key] for unit in units]), failed_at, spent)

    async def _shared(self, unit: Unit, at: Collection[str] | None) -> tuple[Read, bool]:
        """Returns what is read now, and whether it was asked for here: one under way serves all who want to know."""
        key = (unit.key, None if at is None else frozenset(at))
        task = self._controls.get(key)
        began = task is None
        if task is None:
            task = self._controls[key] = asyncio.ensure_future(self._now(unit, at))
            task.add_done_callback(lambda _: self._controls.pop(key))
        return await task, began

    async def _now(self, unit: Unit, at: Collection[str] | None, *, alone: bool = False) -> Read:
        read = await self._asking.read_now(unit, at, alone=alone)
        self.note(read)
        return read


def _error(read: Read) -> Exception | None:
    return read.reading.error if isinstance(read.reading, Miss) else None


def _is_suspicious(read: Read) -> bool:
    error = _error(read)
    return error is not None and blame.is_suspicious(error)


def _is_silenced(opinion: Opinion | Miss) -> bool:
    return isinstance(opinion, Miss) and blame.is_suspicious(opinion.error, compared=True)


def _failed_at(reads: Sequence[Read]) -> set[str] | None:
    """Returns the hosts that gave no grades; None where what went wrong was no host's doing, but too long for any."""
    missed = [read for read in reads if isinstance(_error(read), BadAnswer | HostFailed)]
    return {host for read in missed for host in read.meter.failed_at} if missed else None


def _lasting(reads: Sequence[Read]) -> list[Read]:
    """Returns what need not be asked again: what died with a host may have died of something else."""
    return [read for read in reads if not isinstance(_error(read), HostFailed)]
