"""Puts back, after each task, what a function may have changed in its worker process and what another would stumble on.

Only what is cheap to put back; a function that leaves worse behind costs its worker. Standard library only.
"""

from __future__ import annotations

import builtins
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)


class Initial:
    """The process as it is now: its working directory, Python's built-in names, and no timer running."""

    def __init__(self) -> None:
        self._folder = _working_directory()
        self._builtins = dict(vars(builtins))

    def restore_names(self) -> None:
        """Makes the built-in names so again. Those that were added to them stay: libraries install some."""
        builtins.__dict__.update(self._builtins)

    def restore(self) -> None:
        """Makes the process so again."""
        self.restore_names()  # first: what follows may use them
        for timer in TIMERS:  # the one of `signal.alarm` is among them
            signal.setitimer(timer, 0)
        with suppress(OSError):  # the folder is gone: then there is none to go back to
            os.chdir(self._folder)


def _working_directory() -> str:
    try:
        return str(Path.cwd())
    except OSError:  # it was removed before
        return os.sep
