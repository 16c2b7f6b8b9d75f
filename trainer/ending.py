"""How a run is told to end: signals, and what is raised where it ends early.

One process ends at once, in the middle of whatever it does. Of several none may leave the others waiting for it in a
collective, so each only notes the signal, and all end together after the step that is running (`trainer.steps`). A second
signal acts as if nothing were in its way.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """The run was told to stop: by Ctrl-C, or by SIGTERM. No `Exception`: a reward function must not swallow it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.exit_code = 128 + signal_number


class OutOfMemory(Exception):
    """Memory ran out. The message says what takes how much, and which settings to change."""


class StopSignal:
    """Whether the run was told to stop, and by which signal."""

    def __init__(self, *, at_once: bool) -> None:
        self._at_once = at_once
        self.noted = 0  # the signal's number; 0 = none came

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Turns the first Ctrl-C or SIGTERM into `Interrupted`, or into a note for the end of the step."""
        if threading.current_thread() is not threading.main_thread():  # Python takes signals there only
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def restore() -> None:
            for number, handler in before.items():
                signal.signal(number, handler)

        def stop(number: int, frame: FrameType | None) -> None:
            del frame
            restore()
            self.noted = number
            if self._at_once:
                raise Interrupted(number)

        for number in before:
            signal.signal(number, stop)
        try:
            yield
        finally:
            restore()
