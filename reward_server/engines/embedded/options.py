"""Options of the engine `embedded`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import ClassVar, Final

from pydantic import Field

from reward_server.options import Options

MAX_THREADS: Final = 8
"""More threads than this seldom make a small model faster."""


def sensible_threads() -> int:
    """Returns how many threads llama.cpp gets by default: half of the cores.

    Its threads spin while they wait for one another, so they crawl as soon as they share cores with anything busy:
    on two cores beside a training process one thread took 1.1 s for a verdict, and two took 9.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(MAX_THREADS, cores // 2))


class EmbeddedOptions(Options):
    """Options of the engine `embedded`."""

    shorthand: ClassVar[str | None] = "model"

    model: Path = Field(description="a GGUF file; a relative path starts at the configuration's folder")
    adapter: Path | None = Field(None, description="a GGUF file with a LoRA adapter for that model")
    context_tokens: int = Field(2048, ge=256, description="context of each slot, prompt and answer together")
    slots: int = Field(
        1, ge=1, le=64, description="questions answered at a time; each slot has a prefix cache of its own"
    )
    threads: int = Field(default_factory=sensible_threads, ge=1, le=512, description="threads of llama.cpp")
    think: bool = Field(default=False, description="let a thinking model think first")
    verbose: bool = Field(default=False, description="show llama.cpp's own log")
