"""Time limits that may move while they run."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager


@asynccontextmanager
async def expiring(deadline: Callable[[], float]) -> AsyncIterator[None]:
    """Ends its block with `TimeoutError` once the deadline has passed; asks again, when it has, whether it still holds.

    Args:
        deadline: on the event loop's clock, which is `time.monotonic()`; infinite for none.
    """
    loop = asyncio.get_running_loop()
    handle: asyncio.TimerHandle | None = None

    def arm() -> None:
        nonlocal handle
        until = deadline()
        if until <= loop.time():
            limit.reschedule(until)
        else:
            handle = loop.call_at(until, arm) if until < math.inf else None

    async with asyncio.timeout(None) as limit:
        arm()
        try:
            yield
        finally:
            if handle is not None:
                handle.cancel()
