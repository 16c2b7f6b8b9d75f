"""What worker processes cost, and how soon they are there again after one was killed.

    python benchmarks/workers.py              # prints a table, writes benchmarks/results/workers.json
    python benchmarks/workers.py --only overhead back

Each line is measured 20 times (`--rounds`); the table gives the median, the quartiles and the worst. Other work on the
machine shows in all of them: run it on a quiet one.

    overhead   microseconds an item, 1024 short texts turned into floats by two workers, 16 at a time: the time through
               `run_items` less that of the same calls in a loop here, one after the other
    back       milliseconds from the kill of a pool's only worker to the next result, with math-verify and sympy
               imported: a new one is forked in its place
    hang       seconds until 62 of 64 items are done when two of them never return and are stopped after 1 s of their
               own time, with two workers
    health     milliseconds of a health check of a real server over loopback: `quiet`, and `bombs` while it scores
               batches whose completions hang or crash, so that workers are killed all the time
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from protos.reward.v1 import reward_pb2 as pb
from reward_server.errors import WorkerDied
from reward_server.servicer import SERVICE
from reward_server.workers.items import ItemDone, ItemJob, run_items
from reward_server.workers.pool import WorkerPool

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "support"))
from worker_functions import value  # the tests' own

ROUNDS: Final = 20
ITEMS: Final = 1024
CHUNK: Final = 16
WORKERS: Final = 2
HANGING: Final = (5, 40)
BATCH: Final = 64
PING_PAUSE_S: Final = 0.01
HEALTH_ROUND_S: Final = 1.0
TARGETS: Final = {"overhead": 5.0, "back": 100.0, "hang": 1.1, "health bombs": 50.0}
RESULTS: Final = Path(__file__).parent / "results" / "workers.json"

HANG: Final = "[0 for _ in iter(int, 1)]"
CONFIG: Final = """\
listen: 127.0.0.1:0
workers: {count: 2}
rewards:
  bombs: {python: {function: "bombs.py:reward", timeout_s: 0.3}}
"""
BOMBS: Final = """\
import os

def reward(completions, **kwargs):
    if any(text.startswith("hang") for text in completions):
        while True: pass
    if any(text.startswith("crash") for text in completions):
        os._exit(3)
    return [1.0] * len(completions)
"""


def job(function: Callable[..., Any], timeout_s: float = 30.0) -> ItemJob:
    """Returns a job without options."""
    return ItemJob(function, (), None, "bench", timeout_s)


def soon() -> float:
    """Returns that there is time."""
    return 60.0


async def overhead(rounds: int) -> list[float]:
    """Returns microseconds an item beyond what its function takes."""
    items = [f"{number}.5" for number in range(ITEMS)]
    costs = []
    async with WorkerPool(WORKERS) as pool:
        for turn in range(rounds + 3):
            begin = time.perf_counter()
            expected = [float(item) for item in items]
            direct_s = time.perf_counter() - begin
            begin = time.perf_counter()
            got = {
                index: done async for index, done in run_items(pool, job(float), items, remaining_s=soon, chunk=CHUNK)
            }
            cost_s = time.perf_counter() - begin - direct_s
            assert [getattr(got[index], "value", None) for index in range(ITEMS)] == expected
            if turn >= 3:
                costs.append(cost_s / ITEMS * 1e6)
    return costs


async def back(rounds: int) -> list[float]:
    """Returns milliseconds from a kill to the next result."""
    times = []
    async with WorkerPool(1, ["math_verify", "sympy", "reward_server.scorers.math.equivalence"]) as pool:
        for _ in range(rounds):
            pid = (await outcomes(pool, ["__import__('os').getpid()"]))[0].value
            hanging = asyncio.create_task(outcomes(pool, [HANG]))
            await asyncio.sleep(0.1)
            begin = time.perf_counter()
            os.kill(pid, signal.SIGKILL)
            (died,), (done,) = await asyncio.gather(hanging, outcomes(pool, ["1"]))
            times.append((time.perf_counter() - begin) * 1e3)
            assert isinstance(died, WorkerDied), died
            assert isinstance(done, ItemDone), done
    return times


async def outcomes(pool: WorkerPool, texts: list[str]) -> list[Any]:
    """Returns the outcomes of expressions."""
    got = {index: outcome async for index, outcome in run_items(pool, job(value), texts, remaining_s=soon)}
    return [got[index] for index in range(len(texts))]


async def hang(rounds: int) -> list[float]:
    """Returns seconds until all but two hanging items are done."""
    items = [HANG if number in HANGING else "1" for number in range(BATCH)]
    times = []
    async with WorkerPool(WORKERS) as pool:
        await outcomes(pool, ["1"] * 4)
        for _ in range(rounds):
            begin, ends = time.perf_counter(), []
            async for _, outcome in run_items(pool, job(value, 1.0), items, remaining_s=soon):
                if isinstance(outcome, ItemDone):
                    ends.append(time.perf_counter() - begin)
            assert len(ends) == BATCH - len(HANGING)
            times.append(max(ends))
    return times


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """Yields the target of a real server, as long as the block runs."""
    (folder / "server.yaml").write_text(CONFIG)
    (folder / "bombs.py").write_text(BOMBS)
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "reward_server", "serve", "--config", str(folder / "server.yaml")]
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen([*command, "--ready-file", str(ready)], stderr=log)  # noqa: S603  # our own
    try:
        until = time.monotonic() + 60
        while not ready.exists() or not ready.read_text():
            if child.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the server did not start: {(folder / 'log').read_text()}")
            time.sleep(0.02)
        yield json.loads(ready.read_text())["target"]
    finally:
        child.terminate()
        child.wait()


class Load:
    """Keeps a server busy with batches that hang and crash."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._score = channel.unary_unary(
            f"/{SERVICE}/Score", pb.ScoreRequest.SerializeToString, pb.ScoreResponse.FromString
        )
        self._calls: list[Any] = []
        self._count = 0

    def keep_up(self, count: int) -> None:
        """Sees to it that so many calls are under way."""
        self._calls = [call for call in self._calls if not call.done()]
        while len(self._calls) < count:
            self._calls.append(self._score.future(self._request(), timeout=5.0))

    def _request(self) -> pb.ScoreRequest:
        """Returns a batch that none was like before: what was found guilty is not run again."""
        self._count += 1
        texts = [{9: "hang", 30: "crash", 50: "hang"}.get(number, "fine") for number in range(BATCH)]
        return pb.ScoreRequest(
            rewards=[pb.RewardSelector(name="bombs")],
            batch=pb.Batch(completions=pb.TextColumn(texts=[f"{text} {self._count}".encode() for text in texts])),
        )

    def end(self) -> None:
        """Ends them."""
        for call in self._calls:
            call.cancel()
        self._calls = []


def health(rounds: int) -> dict[str, list[float]]:
    """Returns milliseconds of health checks, all of them, from a quiet server and one that is at work."""
    times: dict[str, list[float]] = {"health quiet": [], "health bombs": []}
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as target, grpc.insecure_channel(target) as line:
        check, load = health_pb2_grpc.HealthStub(line).Check, Load(line)
        for turn in range(2 * rounds + 2):
            name = list(times)[turn % 2]
            until = time.monotonic() + HEALTH_ROUND_S
            while time.monotonic() < until:
                if name == "health bombs":
                    load.keep_up(2)
                begin = time.perf_counter()
                check(health_pb2.HealthCheckRequest(), timeout=30)
                if turn >= 2:
                    times[name].append((time.perf_counter() - begin) * 1e3)
                time.sleep(PING_PAUSE_S)
            load.end()
    return times


def summary(times: list[float]) -> dict[str, float]:
    """Returns median, quartiles and worst."""
    low, median, high = statistics.quantiles(times, n=4)
    return {"count": len(times), "median": median, "quartile_1": low, "quartile_3": high, "worst": max(times)}


def main() -> int:
    """Measures, prints and writes; returns 1 if a median misses its target."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often each line is measured")
    parser.add_argument("--only", nargs="+", default=["overhead", "back", "hang", "health"], help="some lines only")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results go, as JSON")
    arguments = parser.parse_args()
    units = {"overhead": "us/item", "back": "ms", "hang": "s", "health quiet": "ms", "health bombs": "ms"}
    several: dict[str, Callable[[int], Awaitable[list[float]]]] = {"overhead": overhead, "back": back, "hang": hang}
    rows: dict[str, dict[str, float]] = {}
    for name in arguments.only:
        if name == "health":
            rows |= {line: summary(times) for line, times in health(arguments.rounds).items()}
        else:
            rows[name] = summary(asyncio.run(_list(several[name], arguments.rounds)))
    print(f"{'line':14} {'unit':>8} {'median':>8} {'quartiles':>16} {'worst':>8} {'target':>7}")
    for name, row in rows.items():
        quartiles = f"{row['quartile_1']:.2f}-{row['quartile_3']:.2f}"
        target = f"{TARGETS[name]:g}" if name in TARGETS else ""
        print(f"{name:14} {units[name]:>8} {row['median']:8.2f} {quartiles:>16} {row['worst']:8.2f} {target:>7}")
    arguments.out.parent.mkdir(exist_ok=True)
    where = {"python": platform.python_version(), "machine": platform.machine(), "cores": os.cpu_count()}
    report = {"rounds": arguments.rounds, "units": units, "targets": TARGETS, "where": where, "lines": rows}
    arguments.out.write_text(json.dumps(report, indent=1) + "\n")
    return int(any(row["median"] > TARGETS.get(name, row["median"]) for name, row in rows.items()))


async def _list(measure: Callable[[int], Awaitable[list[float]]], rounds: int) -> list[float]:
    return await measure(rounds)


if __name__ == "__main__":
    raise SystemExit(main())
