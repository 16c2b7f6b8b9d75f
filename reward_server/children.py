"""Starts programs of the server's own so that a start that is called off leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any


async def start_child(*command: str, **how: Any) -> asyncio.subprocess.Process:
    """Starts a program, as `asyncio.create_subprocess_exec` does. Raises `OSError` where it cannot be started.

    Where that is cancelled in mid start, asyncio forgets a process that runs already. So the start always goes to its
    end here, and the process is killed then, however often it is cancelled meanwhile.
    """
    starting = asyncio.ensure_future(asyncio.create_subprocess_exec(*command, **how))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await to_its_end(_end(starting))
        raise


async def to_its_end(work: Coroutine[Any, Any, object]) -> None:
    """Waits for work that must not be cut short, such as for a killed process; whoever is cancelled raises that after.

    It must be quick, and must not wait for whoever cancels.
    """
    ending = asyncio.ensure_future(work)
    while not ending.done():
        with suppress(asyncio.CancelledError):
            await asyncio.shield(ending)
    ending.result()


async def _end(starting: asyncio.Future[asyncio.subprocess.Process]) -> None:
    with suppress(OSError):  # it could not be started, or is gone already
        process = await starting
        process.kill()
        await process.communicate()
