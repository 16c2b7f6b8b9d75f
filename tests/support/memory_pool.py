"""A pool of hosts in memory, and the throughput that it reaches in virtual time."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

from memory_host import MemoryHost

from reward_server.engines.base import ChatMessage, Place, Question
from reward_server.engines.pool.pool import EnginePool


class MemoryPool(EnginePool):
    kind: ClassVar[str] = "memory"

    def identity(self) -> Mapping[str, Any]:
        return {"engine": self.kind, "digest": self.digest}


@asynccontextmanager
async def started(*hosts: MemoryHost, **options: Any) -> AsyncIterator[MemoryPool]:
    """Yields a pool that has been started; what its hosts counted so far is forgotten."""
    pool = MemoryPool("box", hosts, **{"context_tokens": 4096} | options)
    await pool.start()
    for host in hosts:
        host.reset()
    try:
        yield pool
    finally:
        await pool.close()


def question(beginning: str = "group", timeout_s: float = math.inf) -> Question:
    return Question((ChatMessage("system", beginning), ChatMessage("user", "?")), 1, answer_timeout_s=timeout_s)


def asking(beginning: str = "group", count: int = 1, timeout_s: float = math.inf) -> Callable[[Place], Any]:
    """Returns work that asks so many questions, one after another, and returns the name of its host."""

    async def work(place: Place) -> str:
        for _ in range(count):
            await place.ask(question(beginning, timeout_s))
        return place.host

    return work


async def run(pool: EnginePool, work: Callable[[Place], Any], affinity: str = "group", **changes: Any) -> Any:
    """Runs work with an hour's time, no patience and two attempts, unless told otherwise."""
    until = asyncio.get_running_loop().time() + changes.pop("within_s", 3600.0)
    options = {"deadline": lambda: until, "patience_s": 0.0, "attempts": 2} | changes
    return await pool.run(work, affinity=affinity, **options)


@dataclass
class Batch:
    """What became of a batch of works."""

    began_s: float
    done_s: list[float] = field(default_factory=list)  # when each was done, in that order
    results: list[Any] = field(default_factory=list)

    def rate(self, hosts: Sequence[MemoryHost], after: int = 64) -> float:
        """Returns works a second, from the one numbered `after` to the last dispatch."""
        begin_s, end_s = self.done_s[after - 1], max(max(host.sent_s, default=0.0) for host in hosts)
        return sum(begin_s < done_s <= end_s for done_s in self.done_s) / (end_s - begin_s)


async def run_batch(pool: EnginePool, count: int = 512, group: int = 8, questions: int = 1, **options: Any) -> Batch:
    """Runs a batch of works at the same time: groups that share the beginnings of their prompts."""
    loop = asyncio.get_running_loop()
    batch = Batch(loop.time())

    async def one(index: int) -> Any:
        name = f"group {index // group}"
        result = await run(pool, asking(name, questions), name, **options)
        batch.done_s.append(loop.time())
        return result

    batch.results = await asyncio.gather(*(one(index) for index in range(count)), return_exceptions=True)
    return batch
