"""A program whose start is called off is gone, however early that comes."""

import asyncio
import sys

import psutil
import pytest
from waiting import until

from reward_server.children import start_child

SLEEP = (sys.executable, "-c", "import time; time.sleep(600)")


def children():
    return [child for child in psutil.Process().children() if SLEEP[-1] in child.cmdline()]


@pytest.mark.parametrize("again", [0, 3])
@pytest.mark.parametrize("turns", range(6))
async def test_nothing_is_left_of_a_start_that_was_called_off(turns, again):
    starting = asyncio.create_task(start_child(*SLEEP, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE))
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    for _ in range(again):
        await asyncio.sleep(0)
        starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await until(lambda: not children())


async def test_one_that_is_let_be_runs():
    process = await start_child(*SLEEP)
    await until(lambda: [child.pid for child in children()] == [process.pid])
    process.kill()
    await process.wait()


async def test_a_program_that_is_not_there_is_an_error():
    with pytest.raises(OSError, match="no-such-program"):
        await start_child("no-such-program")
