"""What becomes of a completion on which a scorer's worker hangs, crashes, raises or runs out of memory.

Such a miss is neutral to a policy, which could learn to cause it rather than do badly; yet workers also break over a
reference, a bug, a full machine. So a suspicion is tested before anybody is blamed:

1. The suspect is tried once more, alone, in a fresh worker. What it scores then is its verdict.
2. Where it breaks that one too, a witness is scored in the same way: a neighbour in the call that was scored, with the
   same inputs apart from its completion; where there is none, the suspect itself with a bland completion in place of its
   own. Only if that is scored now is the suspect's completion to blame. Those that merely raise are tried in one fresh
   worker, each followed by its witness, until a witness is not scored there: a suspect may have spoilt the worker.

A bland witness is scored before the second try too, once for all suspects of the same inputs: a reference that breaks on
everything is found out by it, and none of them is tried again; a function that does so is found out by a few of them (see
`controls`). A death is all the same: it may have been chance.

A completion that was blamed twice is quarantined: it is not run again as long as it is remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import structlog

from reward_server.domain import Blame, Verdict, failed
from reward_server.errors import PoolClosed, WorkerError, WorkRaised, WorkTimedOut
from reward_server.scorers.base import MAX_REASON_CHARS
from reward_server.scorers.controls import Controls, is_hopeless
from reward_server.scorers.in_turn import in_turn
from reward_server.scorers.quarantine import Record
from reward_server.scorers.suspects import Suspect, is_suspicious, shortened
from reward_server.scorers.witnesses import Witness, Witnesses
from reward_server.scorers.work import Outcome, Work
from reward_server.workers.items import ItemDone, ItemOutcome, run_alone, run_items

TOGETHER: Final = 16
"""So many suspects that raised are tried in one fresh worker, one after another."""

FIRST_CHARS: Final = 360
AGAIN_CHARS: Final = 120
"""So much of what went wrong the first and the second time is told."""

Ready = list[tuple[int, Outcome]]
"""Outcomes by the index of their item."""

_log = structlog.get_logger(__name__)


class Trial:
    """Runs the items of one call, and tries again what broke its worker."""

    def __init__(self, work: Work, record: Record) -> None:
        self._work = work
        self._record = record
        self._witnesses = Witnesses(work)
        self._controls = Controls(work, self._witnesses)
        self._suspects: dict[int, WorkerError] = {}

    def stages(self) -> tuple[AsyncGenerator[tuple[int, Outcome], None], ...]:
        """Returns what yields each item's outcome once, as they are ready, to be followed to its end one by one."""
        return self.run(), self.settle()

    async def run(self) -> AsyncGenerator[tuple[int, Outcome], None]:
        """Yields the outcomes of a first try, all but those of suspects."""
        work = self._work
        note, fault = self._witnesses.note, work.fault
        async with aclosing(run_items(work.pool, work.job, work.items, remaining_s=work.remaining_s)) as outcomes:
            async for index, outcome in outcomes:
                if fault is None and isinstance(outcome, ItemDone):  # microseconds count here
                    note(index, outcome)
                    yield index, outcome
                elif (ready := self.admit(index, outcome)) is not None:
                    yield index, ready

    def admit(self, index: int, outcome: ItemOutcome) -> Outcome | None:
        """Takes the outcome of a first try; returns what can be told of it now, None of a suspect."""
        outcome = self._checked(outcome)
        if isinstance(outcome, ItemDone):
            self._witnesses.note(index, outcome)
            return outcome
        if is_suspicious(outcome):
            self._suspects[index] = outcome
            return None
        return self._missing(index, outcome)

    async def settle(self) -> AsyncGenerator[tuple[int, Outcome], None]:
        """Yields the outcomes of suspects, each tried again."""
        errors, self._suspects = self._suspects, {}
        witnesses = self._witnesses.of_each(errors)
        raised: list[Suspect] = []
        others: list[Suspect] = []
        for index in sorted(errors):
            suspect = Suspect(index, witnesses[index], errors[index])
            together = suspect.witness is not None and isinstance(suspect.first, WorkRaised)
            (raised if together else others).append(suspect)
        trials = [self._try_together(raised[begin : begin + TOGETHER]) for begin in range(0, len(raised), TOGETHER)]
        tasks = [asyncio.create_task(trial) for trial in [*trials, *map(self._try, others)]]
        try:
            for task in asyncio.as_completed(tasks):
                for ready in await task:
                    yield ready
        finally:
            for each in tasks:
                each.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _try(self, suspect: Suspect) -> Ready:
        """Tries one suspect alone in a fresh worker, and its witness in another."""
        place, witness, first = suspect
        async with self._work.pool.trial_lanes:
            if self._work.remaining_s() <= 0:
                return [self._too_late(suspect)]
            objection = await self._objection(witness)
            if is_hopeless(objection) and isinstance(first, WorkRaised | WorkTimedOut):
                return [self._unexplained(suspect, objection)]
            second, control = await self._alone(self._work.items[place]), None
            if witness is not None and not objection and not isinstance(second, ItemDone) and is_suspicious(second):
                control = await self._alone(witness.item)
        return [(place, self._weighed(suspect, second, control, objection))]

    async def _objection(self, witness: Witness | None) -> str:
        """Returns why nobody can tell whose fault a miss is, an empty text if one can; tries a bland completion first."""
        controls = self._controls
        if (known := controls.objection(witness)) is not None or witness is None:
            return known or ""
        async with controls.turn(witness):
            if (known := controls.objection(witness)) is None:
                control = await self._alone(witness.item)
                if not controls.note(witness, control):
                    return "nor could a bland completion be tried in its place"
                known = controls.objection(witness)
        return known or ""

    async def _try_together(self, suspects: Sequence[Suspect]) -> Ready:
        """Tries suspects that raised in one fresh worker, or in as few as they leave sound."""
        ready: Ready = []
        while suspects:
            done, suspects = await self._try_in_turn(suspects)
            ready += done
        return ready

    async def _try_in_turn(self, suspects: Sequence[Suspect]) -> tuple[Ready, Sequence[Suspect]]:
        """Tries suspects that raised, the witness after each, in one fresh worker: loading the code may take long.

        What they raised has left the worker alive, and the witness tells whether it is still sound. Bland witnesses that
        have not been tried yet go before them all. Returns also those suspects that a worker was not sound for.
        """
        work, controls = self._work, self._controls
        async with work.pool.trial_lanes:
            if work.remaining_s() <= 0:
                return [self._too_late(suspect) for suspect in suspects], ()
            ready, suspects = self._sifted(suspects)
            untried = {
                witness.bland_on: witness
                for _, witness, _ in suspects
                if witness is not None and controls.objection(witness) is None
            }
            items = [witness.item for witness in untried.values()]
            for place, witness, _ in suspects:
                items += [work.items[place], witness and witness.item]  # there is a witness: else it were sifted out
            outcomes = await self._each_in_turn(items)
        if outcomes is None:  # one of them does something else this time
            return ready + [each for suspect in suspects for each in await self._try(suspect)], ()
        for witness, control in zip(untried.values(), outcomes, strict=False):
            controls.note(witness, control)
        tried = outcomes[len(untried) :]
        for number, (suspect, second, control) in enumerate(zip(suspects, tried[::2], tried[1::2], strict=True)):
            if objection := controls.objection(suspect.witness):
                ready.append((suspect.place, self._weighed(suspect, second, None, objection)))
            elif isinstance(control, ItemDone) and work.is_scored(control):
                ready.append((suspect.place, self._weighed(suspect, second, control)))
            else:  # it is not known who has spoilt the worker
                return ready + await self._try(suspect), suspects[number + 1 :]
        return ready, ()

    def _sifted(self, suspects: Sequence[Suspect]) -> tuple[Ready, Sequence[Suspect]]:
        """Returns what becomes of suspects of whom nobody will be able to tell, and the others."""
        ready: Ready = []
        others: list[Suspect] = []
        for suspect in suspects:
            if is_hopeless(objection := self._controls.objection(suspect.witness) or ""):
                ready.append(self._unexplained(suspect, objection))
            else:
                others.append(suspect)
        return ready, others

    async def _each_in_turn(self, items: Sequence[Any]) -> list[ItemOutcome] | None:
        """Returns the outcomes of items one after another in one fresh worker, None where it did not come to an end."""
        work = self._work
        job = replace(
            work.job,
            function=in_turn,
            args=(work.job.function, work.job.args),
            timeout_s=work.job.timeout_s * len(items),
            first_timeout_s=None,
        )
        done = await run_alone(work.pool, job, items, remaining_s=work.remaining_s) if items else ItemDone([], 0.0)
        if not isinstance(done, ItemDone):
            return None
        return [self._checked(_outcome(result, done.queue_ms)) for result in done.value]

    def _weighed(
        self, suspect: Suspect, second: ItemOutcome, control: ItemOutcome | None, objection: str = ""
    ) -> Outcome:
        """Returns what becomes of a suspect, by its second try and that of its witness, if there is one."""
        work = self._work
        place, witness, first = suspect
        reason = shortened(work.reason(place, first), FIRST_CHARS)
        if isinstance(second, ItemDone):
            self._controls.note_second(second)
            _log.warning("an item broke its worker, but not alone", task=work.job.name, error=type(first).__name__)
            if work.second_counts:
                return second
            return failed(f"{reason}; alone it was scored" if work.is_scored(second) else reason)
        if not is_suspicious(second):
            return self._missing(place, second, f"{reason}; tried again in a fresh worker, ")
        again = work.reason(place, second)
        same = again == work.reason(place, first) or type(first) is type(second) is WorkTimedOut
        reason += "; and again alone in a fresh worker" + ("" if same else f", where {shortened(again, AGAIN_CHARS)}")
        if control is None or witness is None or work.samples is None:
            return failed(f"{reason}; {objection}")
        if not isinstance(control, ItemDone) or not work.is_scored(control):
            return failed(f"{reason}; but neither was {witness.words} scored now")
        reason += f", while {witness.words} was scored"
        self._record.blame(work.samples[place], work.items[place], reason)
        return failed(reason, blame=Blame.COMPLETION)

    def _too_late(self, suspect: Suspect) -> tuple[int, Verdict]:
        return self._unexplained(suspect, "there was no time to try it again alone")

    def _unexplained(self, suspect: Suspect, why: str) -> tuple[int, Verdict]:
        reason = shortened(self._work.reason(suspect.place, suspect.first), FIRST_CHARS)
        return suspect.place, failed(f"{reason}; {why}")

    async def _alone(self, item: Any) -> ItemOutcome:
        work = self._work
        job = replace(work.job, first_timeout_s=None)
        outcome = await run_alone(work.pool, job, item, remaining_s=work.remaining_s)
        if isinstance(outcome, PoolClosed):
            raise outcome
        return self._checked(outcome)

    def _checked(self, outcome: ItemOutcome) -> ItemOutcome:
        """Returns an outcome, or what is wrong with its value."""
        fault = self._work.fault
        return (fault(outcome) or outcome) if fault is not None and isinstance(outcome, ItemDone) else outcome

    def _missing(self, index: int, error: WorkerError, before: str = "") -> Verdict:
        """Returns the verdict on an item that nobody suspects."""
        if isinstance(error, PoolClosed):
            raise error
        away = Blame.OUTAGE if self._work.pool.problem else Blame.UNKNOWN
        return failed(before + shortened(self._work.reason(index, error), MAX_REASON_CHARS), blame=away)


def _outcome(result: tuple[bool, Any], queue_ms: float) -> ItemOutcome:
    returned, value = result
    return ItemDone(value, queue_ms) if returned else WorkRaised(value)
