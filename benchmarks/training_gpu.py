"""How busy the GPUs are while `benchmarks/training.py` runs, as the driver says it."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from training_numbers import GpuReading

EVERY_MS: Final = 100


def gpu_names() -> list[str]:
    """Returns what the GPUs in use are called; none where there is no driver."""
    if (tool := shutil.which("nvidia-smi")) is None:
        return []
    command = [tool, *_chosen(), "--query-gpu=name", "--format=csv,noheader"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # found on the path
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else []


@contextmanager
def readings(file: Path) -> Iterator[list[GpuReading]]:
    """Yields a list that holds, once the block has ended, ten readings a second of each GPU in use."""
    found: list[GpuReading] = []
    if (tool := shutil.which("nvidia-smi")) is None:
        yield found
        return
    command = [tool, *_chosen(), "--query-gpu=timestamp,index,utilization.gpu,memory.used"]
    command += ["--format=csv,noheader,nounits", f"--loop-ms={EVERY_MS}"]
    with file.open("wb") as output, subprocess.Popen(command, stdout=output) as process:  # noqa: S603  # found on the path
        try:
            yield found
        finally:
            process.terminate()
            process.wait()
    found += parse(file.read_text(errors="replace"))


def parse(text: str) -> list[GpuReading]:
    """Returns the readings in the tool's output; lines that are not whole are left out."""
    found = []
    for line in text.splitlines():
        try:
            at, gpu, use, memory = (part.strip() for part in line.split(","))
            moment = dt.datetime.strptime(at, "%Y/%m/%d %H:%M:%S.%f").astimezone()  # local time it is
            found.append(GpuReading(moment.timestamp(), int(gpu), float(use), float(memory)))
        except ValueError:
            continue
    return found


def _chosen() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [f"--id={visible}"] if visible and all(part.isdigit() for part in visible.split(",")) else []
