"""Looks at a host: one at a time, not too often, and each shared by all who wait for one that begins after now."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

PACE_S: Final = 0.1
"""Looks begin at least this far apart, however many answers wait to be confirmed."""

T = TypeVar("T")


class Looks(Generic[T]):
    """Makes looks on demand.

    Args:
        look: looks once and says what it found; raises nothing.
    """

    def __init__(self, look: Callable[[], Awaitable[T]]) -> None:
        self._look = look
        self._next: asyncio.Task[T] | None = None  # has not begun yet
        self._under_way: asyncio.Task[T] | None = None
        self._began_s: float | None = None

    async def fresh(self) -> T:
        """Returns what a look found that began after this was called."""
        if self._next is None:
            self._next = asyncio.create_task(self._in_turn(self._under_way))
        return await asyncio.shield(self._next)

    async def close(self) -> None:
        """Ends the look under way; who waits for one sees it cancelled."""
        tasks = [task for task in (self._next, self._under_way) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._next = self._under_way = None

    async def _in_turn(self, before: asyncio.Task[T] | None) -> T:
        if before is not None:
            await asyncio.wait((before,))
        loop = asyncio.get_running_loop()
        if self._began_s is not None:
            await asyncio.sleep(max(0.0, self._began_s + PACE_S - loop.time()))
        self._under_way, self._next = self._next, None
        self._began_s = loop.time()
        return await self._look()
