"""Rules that break their worker on a word, in the completion or in the reference, each in another way."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reward_server.domain import Needs, Sample, Verdict, abstained, scored
from reward_server.scorers.base import RuleContext
from reward_server.scorers.pooled import GroupRule, PooledOptions, PooledRule

FORKS = 8  # a few: the tests share their machine


def hang() -> None:
    while True:
        pass


def take_memory() -> None:
    held = []
    while True:
        held.append(bytearray(b"x") * (1 << 20))


def fork() -> None:
    for _ in range(FORKS):
        if os.fork() == 0:
            time.sleep(600)
    hang()


def print_without_end() -> None:
    while True:
        print("x" * 1000)  # noqa: T201  # that is what it is for


def fail() -> None:
    raise ValueError("cannot parse it")


BOMBS: Mapping[str, Callable[[], Any]] = {
    "HANG": hang,
    "SEGV": lambda: ctypes.string_at(0),
    "MEM": take_memory,
    "EXIT": lambda: os._exit(3),
    "FORK": fork,
    "PRINT": print_without_end,
    "RAISE": fail,
}


POISONED: list[str] = []
"""What POISON leaves behind breaks all that come after it in the same process."""


def set_off(text: str) -> None:
    for word, bomb in BOMBS.items():
        if word in text:
            bomb()
    if POISONED or "POISON" in text:
        POISONED.append(text)
        fail()


class BombOptions(PooledOptions):
    """Short limits, and a file that is there once a bomb named ONCE has gone off."""

    timeout_s: float = 0.5
    memory_mb: int = 64
    marker: str = ""
    log: str = ""


class Bombs(PooledRule):
    """Scores 1 for the reference in the completion, else 0; abstains on an empty one."""

    kind = "bombs"
    Options = BombOptions
    needs = Needs(frozenset({"answer"}))
    score_range = (0.0, 1.0)

    def __init__(self, options: BombOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._options = options

    def judge_one(self, sample: Sample) -> Verdict:
        text = f"{sample.completion} {sample.columns['answer']}"
        if self._options.log:
            with Path(self._options.log).open("a") as log:
                print(sample.completion, file=log)
        set_off(text)
        if "ONCE" in text and not Path(self._options.marker).exists():
            Path(self._options.marker).touch()
            fail() if "FAIL" in text else os._exit(4)
        if "WORSE" in text:  # raises first, and then crashes
            if Path(self._options.marker).exists():
                os._exit(5)
            Path(self._options.marker).touch()
            fail()
        if "BUSY" in text:  # a fair amount of the processor's time
            began = time.thread_time()
            while time.thread_time() - began < 0.2:
                pass
        if not sample.completion or ("UNSURE" in text and "surely" not in text):
            return abstained("nothing said")
        return scored(float(str(sample.columns["answer"]) in sample.completion), flags=("told",) * ("FLAG" in text))


class Longest(GroupRule):
    """Scores 1 for the longest completion of a prompt."""

    kind = "longest"
    Options = BombOptions
    score_range = (0.0, 1.0)

    def judge_group(self, samples: Sequence[Sample]) -> Sequence[Verdict]:
        for sample in samples:
            set_off(sample.completion)
        longest = max(len(sample.completion) for sample in samples)
        return [scored(float(len(sample.completion) == longest)) for sample in samples]
