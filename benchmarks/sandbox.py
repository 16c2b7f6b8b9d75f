"""What a run in the sandbox costs.

    python benchmarks/sandbox.py            # prints a table, writes benchmarks/results/sandbox.json

The program reads a line and prints it. Medians of 20, one at a time, on a machine that does nothing else:

    start            the proof of the isolation, once per process
    cold job         a job of one run, no sandbox booted ahead
    warm job         the same with one that waited
    run in a job     each further run of the same job
    python           the same program as a plain process, not confined, for comparison
    jobs per second  of one run each, as many at a time as cores, booting included
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from reward_server.sandbox.base import Job, Outcome, Run
from reward_server.sandbox.bubblewrap import Bubblewrap
from reward_server.sandbox.proof import _proven

TIMES: Final = 20
MANY: Final = 60
SOURCE: Final = "print(input())"
RESULTS: Final = Path(__file__).parent / "results" / "sandbox.json"


async def median_ms(action: Callable[[], Awaitable[Any]], pause_s: float = 0.0) -> float:
    """Returns the median of 20 times, after one that does not count."""
    times = []
    for _ in range(TIMES + 1):
        await asyncio.sleep(pause_s)
        began = time.perf_counter()
        await action()
        times.append(1000 * (time.perf_counter() - began))
    return statistics.median(times[1:])


async def started(spare_count: int) -> Bubblewrap:
    """Returns a sandbox that serves."""
    sandbox = Bubblewrap(spare_count=spare_count)
    await sandbox.start()
    if not sandbox.health().serving:
        raise SystemExit(sandbox.health().reason)
    return sandbox


async def run(sandbox: Bubblewrap, run_count: int) -> None:
    """Runs one job."""
    results = await sandbox.run(Job(SOURCE, [Run("x\n")] * run_count))
    assert all(result.outcome is Outcome.OK for result in results), results


def plain() -> None:
    """Runs the program without a sandbox."""
    subprocess.run([sys.executable, "-c", SOURCE], input=b"x\n", stdout=subprocess.DEVNULL, check=True)  # noqa: S603


async def measured() -> dict[str, float]:
    """Returns all figures."""
    found = {}
    began = time.perf_counter()
    cold = await started(spare_count=0)
    found["start, ms"] = 1000 * (time.perf_counter() - began)
    found["cold job, ms"] = await median_ms(lambda: run(cold, 1))
    many = await median_ms(lambda: run(cold, 11))
    found["run in a job, ms"] = (many - found["cold job, ms"]) / 10
    await cold.close()
    warm = await started(spare_count=2)
    found["warm job, ms"] = await median_ms(lambda: run(warm, 1), pause_s=0.3)
    began = time.perf_counter()
    await asyncio.gather(*(run(warm, 1) for _ in range(MANY)))
    found["jobs per second"] = MANY / (time.perf_counter() - began)
    await warm.close()
    found["python, ms"] = await median_ms(lambda: asyncio.to_thread(plain))
    return found


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.parse_args()
    _proven.clear()
    found = {name: round(value, 1) for name, value in asyncio.run(measured()).items()}
    for name, value in found.items():
        print(f"{name:20}{value:10}")
    machine = {"python": platform.python_version(), "kernel": platform.release().split("-")[0], "cores": os.cpu_count()}
    RESULTS.write_text(json.dumps({"machine": machine, "figures": found}, indent=2) + "\n", encoding="utf-8")
    print(f"written to {RESULTS}")


if __name__ == "__main__":
    main()
