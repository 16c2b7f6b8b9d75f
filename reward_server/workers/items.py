"""Runs many small calls of one function in the pool's workers, in chunks.

    async for index, outcome in run_items(pool, job, items, remaining_s=call.remaining_s):
        match outcome:
            case ItemDone(value): ...
            case WorkTimedOut(own_time=True): ...

However an item ends, in a crash, without end or out of memory, it is named, and its neighbours are done. An item has
its limit of *own time* (see `reward_server.workers.watching`): a busy machine makes none late.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any

from reward_server.workers.jobs import ItemDone, ItemJob, ItemOutcome
from reward_server.workers.pool import WorkerPool
from reward_server.workers.running import Run

__all__ = ["ItemDone", "ItemJob", "ItemOutcome", "run_alone", "run_items"]

CHUNK_ITEMS = 16


async def run_items(
    pool: WorkerPool,
    job: ItemJob,
    items: Sequence[Any],
    *,
    remaining_s: Callable[[], float],
    chunk: int = CHUNK_ITEMS,
) -> AsyncGenerator[tuple[int, ItemOutcome], None]:
    """Yields each item's index and outcome once, as they are ready. Closing the generator stops the work.

    `remaining_s` tells the seconds until the deadline. What is not done then ends with `WorkTimedOut`, all of it at
    once; so it should say a little less than there is, for the outcomes to be told in.
    At most `chunk` items are given to a worker at a time; fewer of slow ones.

    Raises `ConfigError` where a module to preload cannot be imported.
    """
    run = Run(pool, job, items, remaining_s, chunk)
    try:
        await run.start()
        left = len(items)
        while left:
            while run.outcomes.ready:
                left -= 1
                yield run.outcomes.ready.popleft()
            if left:
                await run.outcomes.news()
    finally:
        run.close()


async def run_alone(pool: WorkerPool, job: ItemJob, item: Any, *, remaining_s: Callable[[], float]) -> ItemOutcome:
    """Returns the outcome of one item in a worker that has run nothing before, with nothing else in it."""
    run = Run(pool, job, [item], remaining_s, 1, fresh=True)
    try:
        await run.start()
        while not run.outcomes.ready:
            await run.outcomes.news()
        return run.outcomes.ready.popleft()[1]
    finally:
        run.close()
