"""What bland completions told in one call: on which inputs a scorer works at all."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Hashable
from typing import Final

from reward_server.scorers.suspects import is_suspicious
from reward_server.scorers.witnesses import Witness, Witnesses
from reward_server.scorers.work import Work
from reward_server.workers.items import ItemDone, ItemOutcome

INPUTS_TO_GIVE_UP: Final = 3
"""Once a bland completion was not scored on so many inputs, and nothing else of the call either, no other is tried."""

BREAKS_TOO: Final = "it breaks on a bland completion too, so nobody can tell why"
NOT_SCORED: Final = "a bland completion in its place is not scored either, so nobody can tell why"
GIVEN_UP: Final = "nothing else of the call is scored, nor bland completions in the place of others"
NO_WITNESS: Final = "nobody can tell why"


class Controls:
    """What is known of the inputs of one call: a reference that breaks a scorer says nothing of other references."""

    def __init__(self, work: Work, witnesses: Witnesses) -> None:
        self._work = work
        self._witnesses = witnesses
        self._objections: dict[Hashable, str] = {}  # by inputs; an empty text: a bland completion is scored there
        self._turns: defaultdict[Hashable, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._works = False  # something of the call was scored

    def turn(self, witness: Witness) -> asyncio.Lock:
        """Returns what whoever tries a bland completion holds, so that each is tried once."""
        return self._turns[witness.bland_on]

    def objection(self, witness: Witness | None) -> str | None:
        """Returns why nobody can tell whose fault a miss is; an empty text if one can, None if that is not known yet.

        A neighbour has been scored before, so one can.
        """
        if witness is None:
            return NO_WITNESS
        if not witness.is_bland:
            return ""
        known = self._objections.get(witness.bland_on)
        return GIVEN_UP if known is None and self._gives_up() else known

    def note(self, witness: Witness, control: ItemOutcome) -> bool:
        """Takes what came of a bland completion in a worker that no suspect has used; returns whether it tells anything.

        A deadline or a full machine does not.
        """
        if isinstance(control, ItemDone):
            is_scored = self._work.is_scored(control)
            self._works = self._works or is_scored
            self._objections[witness.bland_on] = "" if is_scored else NOT_SCORED
        elif is_suspicious(control):
            self._objections[witness.bland_on] = BREAKS_TOO
        return witness.bland_on in self._objections

    def note_second(self, second: ItemDone) -> None:
        """Takes what a suspect returned when it was tried again."""
        self._works = self._works or self._work.is_scored(second)

    def _gives_up(self) -> bool:
        if self._works or len(self._objections) < INPUTS_TO_GIVE_UP:
            return False
        self._works = self._witnesses.any_scored()
        return not self._works


def is_hopeless(objection: str) -> bool:
    """Returns whether a suspect that has raised, or timed out, is not worth a second try: it may be for its own score."""
    return objection not in ("", NOT_SCORED)
