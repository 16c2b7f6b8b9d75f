"""A reward function that breaks on a word, in the completion or in the reference, each in another way.

Tests copy this file beside a server's configuration: it imports nothing but the standard library, and notes there which
processes it has left behind.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

HARD_S = 0.2  # of the processor's time, for a completion that is hard to grade


def loop() -> None:
    while True:
        pass


def sleep() -> None:
    time.sleep(600)


def take_memory() -> None:
    held = []
    while True:
        held.append(bytearray(b"x") * (1 << 20))


def share_memory() -> None:
    """Takes memory that the system's own limit does not see."""
    shared = mmap.mmap(-1, 2 << 30)
    for place in range(0, len(shared), 4096):
        shared[place] = 1
    sleep()


def fork_and_stay() -> None:
    """Leaves a process behind that belongs to nobody and ends for nothing but SIGKILL."""
    if os.fork() == 0:
        os.setsid()
        ignore_signals()
        with Path(f"{__file__}.pids").open("a") as file:
            print(os.getpid(), file=file)
        sleep()


def fork_and_hang() -> None:
    for _ in range(4):
        fork_and_stay()
    sleep()


def print_without_end() -> None:
    while True:
        print("x" * 1000)  # noqa: T201  # that is what it is for


def fail() -> None:
    raise ValueError("cannot parse it")


def interrupt() -> None:
    raise KeyboardInterrupt


def recurse() -> None:
    recurse()


def overflow_the_stack() -> None:
    sys.setrecursionlimit(1 << 30)
    nested: list[object] = []
    for _ in range(1_000_000):
        nested = [nested]
    repr(nested)


def close_all_files() -> None:
    os.closerange(0, 1000)


def ignore_signals() -> None:
    for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_IGN)


def ignore_signals_and_loop() -> None:
    ignore_signals()
    loop()


def swallow_everything() -> None:
    while True:
        with contextlib.suppress(BaseException):
            loop()


def leave_a_thread() -> None:
    threading.Thread(target=sleep).start()


def work() -> None:
    began = time.thread_time()
    while time.thread_time() - began < HARD_S:
        pass


BOMBS: Mapping[str, Callable[[], object]] = {
    "SEGV": lambda: ctypes.string_at(0),
    "ABORT": os.abort,
    "MEMORY": take_memory,
    "SHARED_MEMORY": share_memory,
    "FORK_TWICE": lambda: (os.fork(), os.fork()),
    "FORK_AND_STAY": fork_and_stay,
    "FORK_AND_HANG": fork_and_hang,
    "EXIT": lambda: os._exit(3),
    "EXIT_WELL": lambda: os._exit(0),
    "SYS_EXIT": lambda: sys.exit(3),
    "LOOP": loop,
    "SLEEP": sleep,
    "PRINT": print_without_end,
    "RAISE": fail,
    "INTERRUPT": interrupt,
    "RECURSE": recurse,
    "STACK": overflow_the_stack,
    "CLOSE": close_all_files,
    "SIGNALS": ignore_signals,
    "SIGNALS_LOOP": ignore_signals_and_loop,
    "SWALLOW": swallow_everything,
    "THREAD": leave_a_thread,
    "HARD": work,
}


REASONS: Mapping[str, str] = {
    "SEGV": "killed by SIGSEGV",
    "ABORT": "killed by SIGABRT",
    "MEMORY": "takes too much memory (memory_mb): MemoryError",
    "SHARED_MEMORY": "",  # memory is looked at ten times a second: its time may be over before
    "FORK_AND_HANG": "did not return in time and was stopped",
    "EXIT": "ended under it: exit status 3",
    "EXIT_WELL": "ended under it: exit status 0",
    "SYS_EXIT": "raised SystemExit: 3",
    "LOOP": "did not return in time and was stopped",
    "SLEEP": "did not return in time and was stopped",
    "PRINT": "did not return in time and was stopped",
    "RAISE": "raised ValueError: cannot parse it",
    "INTERRUPT": "raised KeyboardInterrupt",
    "RECURSE": "raised RecursionError",
    "STACK": "",  # how depends on the version of Python
    "CLOSE": "ended under it",
    "SIGNALS_LOOP": "did not return in time and was stopped",
    "SWALLOW": "did not return in time and was stopped",
}
"""Words of the reason why a function has no score of a completion with that word. All others are scored."""


def graded(completions: Sequence[str], answer: Sequence[str]) -> list[float]:
    """Scores 1 for a completion whose first word is that of its reference."""
    return [_graded(completion, reference) for completion, reference in zip(completions, answer, strict=True)]


def _graded(completion: str, reference: str) -> float:
    said, wanted = completion.split(), reference.split()
    for word in (*said, *wanted):
        if word in BOMBS:
            BOMBS[word]()
    return float(said[0] == wanted[0])
