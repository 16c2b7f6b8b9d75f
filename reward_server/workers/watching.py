"""How much memory an item takes, as Linux tells of its process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from reward_server.own_time import relatives

PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


def taken_bytes(pid: int, before: int) -> int:
    """Returns the memory that a process and its children hold beyond the bytes that it held before.

    A child begins with all that its parent holds, in common with it: of each only what is more is counted.
    """
    taken = resident_bytes(Path(f"/proc/{pid}")) - before
    for place in relatives(pid):
        if place.parent.name == "proc":
            taken += max(0, resident_bytes(place) - before)
    return taken


def resident_bytes(place: Path) -> int:
    """Returns the memory that a process holds, 0 where that is not told."""
    try:
        return int((place / "statm").read_bytes().split()[1]) * PAGE_BYTES
    except (OSError, ValueError, IndexError):
        return 0
