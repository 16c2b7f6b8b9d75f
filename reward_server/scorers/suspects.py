"""Items that have broken their worker, and may be to blame for it."""

from __future__ import annotations

from typing import Final, NamedTuple

from reward_server.errors import PoolClosed, WorkerDied, WorkerError, WorkNotPrepared, WorkTimedOut
from reward_server.scorers.witnesses import Witness

LEFT_OUT: Final = " ... "

ERROR_CHARS: Final = 200
"""So much of what a suspect's error says is told: others may follow it."""


class Suspect(NamedTuple):
    """An item that has broken its worker."""

    place: int  # among the items of the call
    witness: Witness | None
    first: WorkerError


def is_suspicious(error: WorkerError) -> bool:
    """Returns whether an error may be the item's own doing. A deadline, a machine out of memory, broken code are not."""
    if isinstance(error, WorkTimedOut):
        return error.own_time
    if isinstance(error, WorkerDied):
        return not error.from_outside
    return not isinstance(error, PoolClosed | WorkNotPrepared)


def shortened(text: str, max_chars: int) -> str:
    """Returns the text, without its middle if it is longer: its end tells the place where something was raised."""
    if len(text) <= max_chars:
        return text
    begin = (max_chars - len(LEFT_OUT)) // 2
    return text[:begin] + LEFT_OUT + text[len(text) - (max_chars - len(LEFT_OUT) - begin) :]
