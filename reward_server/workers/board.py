"""The memory that the server shares with each worker: which item runs, since when, and how far the worker may go.

Eight numbers of 64 bits, each written by one side only and in one piece. Items are known by *codes*, numbers that
grow from item to item over a worker's whole life, so that one number tells the chunk as well as the place in it.

Standard library only: worker processes import this.
"""

from __future__ import annotations

import mmap
import os
import sys
import tempfile
from typing import Final

SIZE_BYTES: Final = 64
UNLIMITED: Final = 2**64 - 1

LIMIT: Final = 0  # by the server: items of this code and above must not be begun; 0 = none at all
RUNNING: Final = 1  # by the worker: code of the item begun last, from 1
FINISHED: Final = 2  # by the worker: code of the item that has ended last; less than RUNNING while one runs
STARTED_NS: Final = 3  # by the worker, all that follows too: when the item began last was begun, on CLOCK_MONOTONIC
RECORDED_NS: Final = 4  # when the three below were read; 0 = they could not be
CPU_NS: Final = 5  # that the main thread had had on a processor by then
DELAY_NS: Final = 6  # that it had waited for one
RESIDENT_BYTES: Final = 7  # memory that the process held then


class Board:
    """One end of the shared memory."""

    def __init__(self, fd: int) -> None:
        """Maps the file, which may be closed afterwards."""
        self._mapped = mmap.mmap(fd, SIZE_BYTES)
        self.cells = memoryview(self._mapped).cast("Q")

    def running(self) -> int:
        """Returns the code of the item that runs just now, 0 between items."""
        code = self.cells[RUNNING]
        return 0 if self.cells[FINISHED] >= code else code

    def close(self) -> None:
        """Gives the memory back."""
        self.cells.release()
        self._mapped.close()


def new_file() -> int:
    """Returns a descriptor of a file of the board's size that lies in memory only, or at least under no name."""
    if sys.platform == "linux":
        fd = os.memfd_create("reward-worker")
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.ftruncate(fd, SIZE_BYTES)
    return fd
