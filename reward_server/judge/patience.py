"""How long a call waits for a host that is away or busy: one clock for all samples of the call."""

from __future__ import annotations

import asyncio
import time
from typing import Final

FIRST_PAUSE_S: Final = 0.25
LONGEST_PAUSE_S: Final = 4.0


class Patience:
    """Says whether a question that found no host may be asked again, after a pause.

    The first such failure of a call starts a clock that every answer stops. While it runs all samples of the call
    try again, with growing pauses; when it has run out, none does: a host that is gone costs a call one wait and not
    one for every sample.

    Args:
        limit_s: how long to wait for a host without any answer from it.
        deadline: when the whole call ends, on `time.monotonic()`'s clock.
    """

    def __init__(self, limit_s: float, deadline: float) -> None:
        self._limit_s = limit_s
        self._deadline = deadline
        self._since: float | None = None

    def answered(self) -> None:
        """Notes that the host is there."""
        self._since = None

    async def another_try(self, tries: int) -> bool:
        """Pauses and returns True if there is time for another try; returns False at once if there is none.

        Args:
            tries: how often this question has failed so; each doubles the pause.
        """
        now = time.monotonic()
        if self._since is None:
            self._since = now
        pause_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(tries - 1, 10))
        if now + pause_s >= min(self._deadline, self._since + self._limit_s):
            return False
        await asyncio.sleep(pause_s)
        return True
