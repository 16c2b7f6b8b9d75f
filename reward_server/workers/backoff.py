"""How long to wait before something that failed is tried again."""

from __future__ import annotations

from typing import Final

FIRST_S: Final = 0.5
LONGEST_S: Final = 30.0


class Backoff:
    """Pauses that grow to twice their length each time, up to a longest one."""

    def __init__(self) -> None:
        self._next_s = FIRST_S

    def next_s(self) -> float:
        """Returns the pause to make now."""
        pause_s, self._next_s = self._next_s, min(2 * self._next_s, LONGEST_S)
        return pause_s

    def reset(self) -> None:
        """Begins again with the shortest, as it has worked."""
        self._next_s = FIRST_S
