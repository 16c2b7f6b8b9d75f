"""An item is late by its own time only: not because the machine is busy, its process stopped, or the disk slow."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import pytest
from waiting import until
from worker_functions import run, value

from reward_server import own_time
from reward_server.errors import WorkerDied, WorkTimedOut
from reward_server.own_time import OwnTime, Reading
from reward_server.workers import guarding, watching
from reward_server.workers.items import ItemDone, ItemJob, run_items
from reward_server.workers.pool import WorkerPool

SOON_S = 60.0  # far more than anything here takes: only against a hang
MS = 1_000_000

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of own time")

COMPUTE = "t = __import__('time'); begin = t.thread_time()\nwhile t.thread_time() < begin + {seconds}: pass"


async def outcomes(pool, items, function=run, **options):
    job = ItemJob(function, (), None, "mine", **options)
    got = {index: outcome async for index, outcome in run_items(pool, job, items, remaining_s=lambda: SOON_S)}
    return [got[index] for index in range(len(items))]


@pytest.fixture
async def pool():
    async with WorkerPool(2) as pool:
        yield pool


async def test_two_that_hang_among_sixty_four_cost_the_others_nothing(pool):
    items = ["while True: pass" if number in (5, 40) else "pass" for number in range(64)]
    results = await outcomes(pool, items, timeout_s=0.5)
    late = [index for index, result in enumerate(results) if isinstance(result, WorkTimedOut)]
    assert late == [5, 40]
    assert all(results[index].own_time for index in late)
    assert sum(isinstance(result, ItemDone) for result in results) == 62


async def test_an_item_that_hangs_while_what_was_before_it_is_still_to_be_sent_has_the_same_limit():
    job = ItemJob(run, (), None, "mine", timeout_s=0.1)
    stopped = []
    async with WorkerPool(1) as pool:
        for place in (18, 35, 40, 47, 66, 90, 113):  # many, as it is chance what has been sent by then
            items = ["while True: pass" if number == place else "pass" for number in range(120)]
            outcomes = run_items(pool, job, items, remaining_s=lambda: SOON_S, chunk=2)
            stopped += [str(outcome) async for _, outcome in outcomes if isinstance(outcome, WorkTimedOut)]
    assert [words.partition(" s")[0] for words in stopped] == ["no result within 0.1"] * 7


@pytest.fixture
def busy_machine():
    """Has three processes a core compute without end."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3 * (os.cpu_count() or 1))]
    yield
    for burner in burners:
        burner.kill()
        burner.wait()


@pytest.mark.usefixtures("busy_machine")
async def test_on_a_busy_machine_no_item_is_late_that_would_not_be_on_a_free_one(pool):
    results = await outcomes(pool, [COMPUTE.format(seconds=0.3)] * 6 + ["while True: pass"], timeout_s=0.5)
    assert all(isinstance(result, ItemDone) for result in results[:6]), results
    assert isinstance(results[6], WorkTimedOut)
    assert results[6].own_time


async def test_an_item_that_is_stopped_from_outside_is_not_late(pool, tmp_path):
    pids = tmp_path / "pids"
    text = f"import os; open({str(pids)!r}, 'w').write(str(os.getpid()))\n" + COMPUTE.format(seconds=0.2)
    running = asyncio.create_task(outcomes(pool, [text], timeout_s=0.6))
    await until(lambda: pids.exists() and pids.read_text())
    pid = int(pids.read_text())
    os.kill(pid, signal.SIGSTOP)
    await asyncio.sleep(1.2)
    os.kill(pid, signal.SIGCONT)
    (result,) = await running
    assert isinstance(result, ItemDone)


async def test_an_item_that_sleeps_is_late_by_the_clock(pool):
    (result,) = await outcomes(pool, ["import time; time.sleep(1000)"], timeout_s=0.3)
    assert isinstance(result, WorkTimedOut)
    assert result.own_time


async def test_where_the_system_does_not_tell_the_clock_counts_and_nobody_is_to_blame(pool, monkeypatch):
    monkeypatch.setattr(guarding, "OwnTime", lambda *_: NothingTold())
    results = await outcomes(pool, ["1", "[0 for _ in iter(int, 1)]"], value, timeout_s=0.3)
    assert isinstance(results[0], ItemDone)
    assert isinstance(results[1], WorkTimedOut)
    assert not results[1].own_time


class NothingTold:
    def look(self, *_):
        return None


async def test_an_item_that_takes_far_longer_by_the_clock_ends_all_the_same(pool, monkeypatch):
    monkeypatch.setattr(guarding, "CLOCK_MARGIN_S", 0.2)
    monkeypatch.setattr(guarding, "CLOCK_FACTOR", 2)
    (result,) = await outcomes(pool, ["import os; os.kill(os.getpid(), 19)"], timeout_s=0.3)
    assert isinstance(result, WorkTimedOut)
    assert not result.own_time


async def test_a_worker_that_hangs_between_two_items_is_replaced(pool, monkeypatch):
    monkeypatch.setattr(guarding, "BETWEEN_S", 0.2)
    bomb = """
import sys
sys.modules["time"].monotonic_ns = lambda: [0 for _ in iter(int, 1)]
"""
    results = await outcomes(pool, ["pass", bomb, *["pass"] * 6], timeout_s=0.2)
    broken = [result for result in results if not isinstance(result, ItemDone)]
    assert 1 <= len(broken) <= 2
    assert all(isinstance(result, WorkerDied) for result in broken)
    assert all(isinstance(result, ItemDone) for result in await outcomes(pool, ["pass"] * 8, timeout_s=5.0))


class Kernel:
    """Tells of a thread what a test says."""

    def __init__(self, monkeypatch):
        self.cpu_ms = self.delay_ms = self.now_ms = self.switches = 0
        self.state = "R"
        self.relatives_ms = 0
        self.own = OwnTime(1, 0, Reading(0, 0))
        monkeypatch.setattr(own_time, "read_thread", lambda _: self.reading())
        monkeypatch.setattr(OwnTime, "_relatives_delay_ns", lambda _: self.relatives_ms * MS)

    def reading(self):
        return Reading(self.cpu_ms * MS, self.delay_ms * MS, self.state, self.switches)

    def look(self, ms, state="R", *, cpu=0, delay=0, switches=0, late_ms=0):
        """Returns the own time in ms after so many ms more in which this happened."""
        self.now_ms += ms
        self.cpu_ms, self.delay_ms, self.switches, self.state = (
            *(self.cpu_ms + cpu, self.delay_ms + delay, self.switches + switches),
            state,
        )
        return round(self.own.look(self.now_ms * MS, (self.now_ms - late_ms) * MS) * 1e3)


@pytest.fixture
def kernel(monkeypatch):
    return Kernel(monkeypatch)


def test_time_on_a_processor_is_own(kernel):
    assert [kernel.look(50, cpu=50), kernel.look(50, cpu=50)] == [50, 100]


def test_sleep_is_own(kernel):
    assert [kernel.look(50, "S", switches=1), kernel.look(50, "S")] == [50, 100]


def test_a_wait_for_a_processor_is_not(kernel):
    assert kernel.look(50, cpu=10, delay=40) == 10
    assert kernel.look(50, "S", cpu=10, delay=20, switches=1) == 40


def test_a_wait_that_is_not_told_yet_is_not(kernel):
    kernel.look(50, cpu=50)
    assert kernel.look(500) == 50  # it waits
    assert kernel.look(10, cpu=10, delay=500) == 60  # now it is told


def test_what_a_limit_on_processors_takes_is_not(kernel):
    kernel.look(20, cpu=20)
    for _ in range(5):
        kernel.look(100, cpu=20)  # held back, and nothing tells how long
    assert kernel.look(0) == 120
    assert kernel.look(50, "S", switches=1) == 170


@pytest.mark.parametrize("state", ["D", "T", "t"])
def test_a_wait_for_a_disk_or_a_stop_is_not(kernel, state):
    kernel.look(20, cpu=20)
    assert kernel.look(500, state, switches=1) == 20
    assert kernel.look(30, "S", switches=1) == 50


def test_what_children_wait_for_a_processor_is_not(kernel):
    kernel.relatives_ms = 30
    assert kernel.look(50, "S", switches=1) == 20


def test_a_time_in_which_the_server_stood_still_is_not(kernel):
    kernel.look(20, "S", switches=1)
    assert kernel.look(3000, "S", switches=1, late_ms=2950) == 20


def test_a_process_that_is_not_there_tells_nothing():
    assert OwnTime(2**22 + 1, 0, Reading(0, 0)).look(time.monotonic_ns(), 0) is None
    assert watching.taken_bytes(2**22 + 1, 0) == 0
