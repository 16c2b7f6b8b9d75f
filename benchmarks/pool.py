"""What the pool makes of a host whose slots it is not told: 512 waiting samples over real HTTP.

    python benchmarks/pool.py            # prints a table, writes benchmarks/results/pool.json

Each line is one batch: groups of eight samples, one question each, all waiting from the start, sent by the engine
`ollama` to fake hosts, processes of their own, that work on S questions at a time and take t seconds over each. The ideal is the sum of S / t. It
is reached as measured from the 64th verdict to the last dispatch, since by then the engine has to have found S. "most" is
the most questions that were at each host in the second half of what it answered.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import math
import multiprocessing
import platform
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import structlog

from reward_server.engines.base import Answer, ChatMessage, Place, Question
from reward_server.engines.ollama.engine import Ollama

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from fake_ollama import FakeOllama  # the tests' own

SAMPLES: Final = 512
GROUP: Final = 8
WARM_UP: Final = 64
TARGET: Final = 0.95
SPAWN: Final = multiprocessing.get_context("spawn")
RESULTS: Final = Path(__file__).parent / "results" / "pool.json"

Hosts = tuple[tuple[int, float], ...]  # slots and seconds over an answer, of each

BATCHES: Final[tuple[Hosts, ...]] = (
    ((1, 0.05),),
    ((2, 0.05),),
    ((4, 0.05),),
    ((8, 0.05),),
    ((1, 0.1), (4, 0.1)),
    ((2, 0.1), (4, 0.3)),
)


class CountingOllama(FakeOllama):
    """Notes how many questions are there whenever one comes."""

    def __init__(self, slots: int, seconds: float) -> None:
        super().__init__(slots=slots, seconds=seconds)
        self.seen: list[int] = []

    async def answer(self, request: Any) -> Any:
        """Answers as ever."""
        if request.path == "/api/chat":
            self.seen.append(self.questions_in_flight + 1)
        return await super().answer(request)


@dataclass
class Times:
    """When things happened, on `time.monotonic()`'s clock."""

    sent_s: list[float]
    done_s: list[float]

    def rate(self) -> float:
        """Returns verdicts a second from the one numbered `WARM_UP` to the last dispatch."""
        begin_s, end_s = sorted(self.done_s)[WARM_UP - 1], max(self.sent_s)
        return sum(begin_s < done_s <= end_s for done_s in self.done_s) / (end_s - begin_s)


async def run_batch(engine: Ollama, times: Times) -> None:
    """Has all samples answered."""

    async def one(index: int) -> None:
        messages = (ChatMessage("system", f"Task {index // GROUP}."), ChatMessage("user", f"Completion {index}."))

        async def work(place: Place) -> Answer:
            times.sent_s.append(time.monotonic())
            answer = await place.ask(Question(messages, max_tokens=1))
            times.done_s.append(time.monotonic())
            return answer

        await engine.run(work, affinity=str(index // GROUP), deadline=lambda: math.inf, patience_s=0.0, attempts=1)

    await asyncio.gather(*(one(index) for index in range(SAMPLES)))


def serve(slots: int, seconds: float, pipe: Connection) -> None:
    """Is a fake host until told to end, and then says how many questions it had at a time."""
    with CountingOllama(slots, seconds) as fake:
        pipe.send((fake.url, fake.model))
        pipe.recv()
        pipe.send(max(fake.seen[len(fake.seen) // 2 :]))


@contextmanager
def fake_host(slots: int, seconds: float) -> Iterator[tuple[Connection, str, str]]:
    """Yields a pipe to a fake host in a process of its own, its URL and its model's name."""
    ours, theirs = SPAWN.Pipe()
    child = SPAWN.Process(target=serve, args=(slots, seconds, theirs), daemon=True)
    child.start()
    try:
        yield (ours, *ours.recv())
    finally:
        child.terminate()
        child.join()


async def ask_all(urls: tuple[str, ...], model: str) -> Times:
    """Returns when the engine asked and was answered."""
    engine = Ollama("bench", Ollama.Options(model=model, url=urls), Path(tempfile.gettempdir()))
    times = Times([], [])
    await engine.start()
    try:
        await run_batch(engine, times)
    finally:
        await engine.close()
    return times


def measure(hosts: Hosts) -> dict[str, Any]:
    """Returns one line of the table."""
    with ExitStack() as stack:
        fakes = [stack.enter_context(fake_host(slots, seconds)) for slots, seconds in hosts]
        rate = asyncio.run(ask_all(tuple(url for _, url, _ in fakes), fakes[0][2])).rate()
        for pipe, _, _ in fakes:
            pipe.send("end")
        most = [pipe.recv() for pipe, _, _ in fakes]
    ideal = sum(slots / seconds for slots, seconds in hosts)
    return {"hosts": hosts, "ideal_per_s": ideal, "reached_per_s": rate, "ratio": rate / ideal, "most_in_flight": most}


def main() -> int:
    """Prints the table; returns 1 if a line misses the target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go, as JSON")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    lines = []
    print(f"{'S x t':>20} {'ideal/s':>8} {'reached/s':>9} {'ratio':>6}  most in flight")
    for hosts in BATCHES:
        line = measure(hosts)
        lines.append(line)
        shown = ", ".join(f"{slots} x {seconds:g} s" for slots, seconds in hosts)
        print(
            f"{shown:>20} {line['ideal_per_s']:8.1f} {line['reached_per_s']:9.1f} {line['ratio']:6.3f}  "
            + ", ".join(map(str, line["most_in_flight"]))
        )
    arguments.out.parent.mkdir(exist_ok=True)
    where = {"python": platform.python_version(), "machine": platform.machine()}
    arguments.out.write_text(json.dumps({"target": TARGET, "where": where, "batches": lines}, indent=1) + "\n")
    return int(any(line["ratio"] < TARGET for line in lines))


if __name__ == "__main__":
    raise SystemExit(main())
