"""Waiting for what another thread, process or task is about to do."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


async def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Returns as soon as it holds; raises `TimeoutError` if it does not in time."""
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  # what is waited for has no event to set
            await asyncio.sleep(0.02)
