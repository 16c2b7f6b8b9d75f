"""Whatever one item does to its process, it is the one that is named, its neighbours are done and nothing is left over."""

import sys
import textwrap

import psutil
import pytest
from waiting import until
from worker_functions import run

from reward_server.errors import WorkerDied, WorkOutOfMemory, WorkRaised, WorkTimedOut
from reward_server.workers.items import ItemDone, ItemJob, run_items
from reward_server.workers.pool import WorkerPool

SOON_S = 30.0  # far more than anything here takes: only against a hang
COUNT = 20
PLACE = 7  # of the bomb among the items
NEIGHBOUR = "pass"
LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


async def outcomes(pool, items, timeout_s=SOON_S, memory_mb=256, chunk=16):
    job = ItemJob(run, (), None, "mine", timeout_s, memory_mb)
    got = {}
    async for index, outcome in run_items(pool, job, items, remaining_s=lambda: SOON_S, chunk=chunk):
        assert index not in got
        got[index] = outcome
    return [got[index] for index in range(len(items))]


def with_bomb(text):
    return [textwrap.dedent(text) if place == PLACE else NEIGHBOUR for place in range(COUNT)]


async def of_bomb(pool, text, **options):
    """Returns the outcome of the bomb, once its neighbours are known to be done and the pool to be well."""
    results = await outcomes(pool, with_bomb(text), **options)
    assert all(isinstance(result, ItemDone) for place, result in enumerate(results) if place != PLACE), results
    again = await outcomes(pool, [NEIGHBOUR] * COUNT)
    assert all(isinstance(result, ItemDone) for result in again)
    return results[PLACE]


@pytest.fixture
async def pool():
    """Returns a pool whose processes, and theirs, are all gone after it."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    async with WorkerPool(2) as pool:
        yield pool
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ("import os; os.abort()", "killed by SIGABRT"),
        ("import os; os._exit(3)", "exit status 3"),
        ("import os; os._exit(0)", "exit status 0"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 16])
async def test_a_crash_is_told_of_the_item_that_crashed(pool, text, told, chunk):
    outcome = await of_bomb(pool, text, chunk=chunk, memory_mb=None)
    assert type(outcome) is WorkerDied
    assert str(outcome).startswith(told)
    assert not outcome.from_outside


async def test_a_kill_by_somebody_else_is_no_items_fault(pool):
    outcome = await of_bomb(pool, "import os; os.kill(os.getpid(), 9)")
    assert type(outcome) is WorkerDied
    assert outcome.from_outside
    assert "often the kernel out of memory" in str(outcome)


@pytest.mark.parametrize(
    "text",
    [
        "while True: pass",
        "import time; time.sleep(1000)",
        "while True: print('x' * 1000)",
        "import re; re.match('(a+)+$', 'a' * 64 + 'b')",
        "import os\nif os.fork() == 0:\n    while True: pass\nwhile True: pass",
        """
        import signal
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        while True: pass
        """,
        """
        while True:
            try:
                while True: pass
            except BaseException: pass
        """,
    ],
)
async def test_an_item_without_end_is_stopped_at_its_limit(pool, text):
    outcome = await of_bomb(pool, text, timeout_s=0.4)
    assert type(outcome) is WorkTimedOut
    assert outcome.own_time == (sys.platform == "linux")
    assert "no result within 0.4 s" in str(outcome)


@pytest.mark.parametrize(
    ("text", "told"), [("raise KeyError('x')", "KeyError"), ("import sys; sys.exit(3)", "SystemExit")]
)
async def test_an_exception_costs_no_worker(pool, text, told):
    outcome = await of_bomb(pool, text)
    assert type(outcome) is WorkRaised
    assert told in str(outcome)


@LINUX_ONLY
@pytest.mark.parametrize("text", ["x = bytearray(10**10)", "x = []\nwhile True: x.append(bytearray(10**6))"])
async def test_memory_above_the_limit_is_refused(pool, text):
    outcome = await of_bomb(pool, text)
    assert type(outcome) is WorkOutOfMemory
    assert "MemoryError" in str(outcome)


@LINUX_ONLY
async def test_memory_that_escapes_the_systems_limit_is_noticed(pool):
    text = """
        import mmap, time
        shared = mmap.mmap(-1, 600 << 20)
        for place in range(0, len(shared), 4096): shared[place] = 1
        time.sleep(1000)
    """
    outcome = await of_bomb(pool, text)
    assert type(outcome) is WorkOutOfMemory
    assert "it took" in str(outcome)


@LINUX_ONLY
async def test_memory_of_children_counts(pool):
    text = """
        import os, time
        for _ in range(4):
            if os.fork() == 0:
                kept = bytearray(150 << 20)
                for place in range(0, len(kept), 4096): kept[place] = 1
                time.sleep(1000)
        time.sleep(1000)
    """
    assert type(await of_bomb(pool, text)) is WorkOutOfMemory


@LINUX_ONLY
async def test_a_limit_of_memory_ends_with_the_run_that_sets_it(pool):
    await outcomes(pool, [NEIGHBOUR] * 20, memory_mb=16)
    results = await outcomes(pool, ["x = bytearray(200 << 20)"] * 4, memory_mb=None)
    assert all(isinstance(result, ItemDone) for result in results)


@LINUX_ONLY
async def test_what_items_keep_does_not_lessen_the_memory_of_those_after_them(pool):
    keep = (
        "import builtins, time; builtins.kept = [*getattr(builtins, 'kept', []), bytearray(50 << 20)]; time.sleep(0.01)"
    )
    results = await outcomes(pool, [keep] * 12, memory_mb=80)
    assert all(isinstance(result, ItemDone) for result in results), results


async def test_a_fork_that_comes_back_from_the_function_gives_no_second_outcome(pool):
    assert isinstance(await of_bomb(pool, "import os; os.fork(); os.fork()"), ItemDone)


@pytest.mark.parametrize("chunk", [1, 16])
async def test_an_item_that_closes_every_file_is_the_one_that_is_named(pool, chunk):
    outcome = await of_bomb(pool, "import os; os.closerange(3, 1000)", chunk=chunk)
    assert type(outcome) is WorkerDied


async def test_an_item_that_closes_every_file_and_stays_is_named(pool, monkeypatch):
    monkeypatch.setattr("reward_server.workers.worker.END_WAIT_S", 0.2)
    outcome = await of_bomb(pool, "import os, time; os.closerange(3, 1000); time.sleep(1000)")
    assert type(outcome) is WorkerDied
    assert "no longer answers" in str(outcome)


@LINUX_ONLY
async def test_a_daemon_ends_with_its_worker_at_the_latest(pool, tmp_path):
    pids = tmp_path / "pids"
    text = f"""
        import subprocess
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        open({str(pids)!r}, "a").write(str(child.pid))
        while True: pass
    """
    assert type(await of_bomb(pool, text, timeout_s=0.7)) is WorkTimedOut
    await until(lambda: not psutil.pid_exists(int(pids.read_text())))


async def test_an_item_that_kills_all_workers_by_their_parent_costs_its_neighbours_nothing(pool):
    outcome = await of_bomb(pool, "import os, time; os.kill(os.getppid(), 9); time.sleep(1000)")
    assert isinstance(outcome, WorkerDied)
    assert outcome.from_outside


@pytest.mark.parametrize(
    "text",
    [
        "import os, sys; os.write({fd}, b'garbage' * 100)",
        "import os, struct; os.write({fd}, struct.pack('!BQ', 2, 1 << 60))",
        "import os, pickle, struct; b = pickle.dumps([(99, 0, 1)]); os.write({fd}, struct.pack('!BQ', 2, len(b)) + b)",
        "import os, pickle, struct; b = pickle.dumps(7); os.write({fd}, struct.pack('!BQ', 3, len(b)) + b)",
        "import os, pickle, struct; b = pickle.dumps(print); os.write({fd}, struct.pack('!BQ', 2, len(b)) + b)",
    ],
)
async def test_what_an_item_forges_on_the_line_costs_its_own_outcome_only(pool, text):
    find = """
import os, stat, time
fd = next(fd for fd in range(3, 100) if os.path.exists(f"/dev/fd/{fd}") and stat.S_ISSOCK(os.fstat(fd).st_mode))
"""
    outcome = await of_bomb(pool, find + text.replace("{fd}", "fd") + "\ntime.sleep(1000)", timeout_s=5.0)
    assert type(outcome) is WorkerDied
    assert "something else than results" in str(outcome)


async def test_built_in_names_that_an_item_replaces_cost_no_other_item_its_outcome(pool):
    results = await outcomes(
        pool, with_bomb("import builtins; builtins.len = builtins.type = lambda *args: 42"), chunk=8
    )
    assert all(isinstance(result, ItemDone | WorkRaised) for result in results)
    again = await outcomes(pool, ["assert len([1]) == 1 and type(1) is int"] * 40)
    assert all(isinstance(result, ItemDone) for result in again)


async def test_many_bombs_among_few_items_are_all_named(pool):
    bombs = ["import os; os._exit(5)", "while True: pass", "1 / 0", NEIGHBOUR] * 6
    results = await outcomes(pool, bombs, timeout_s=0.1)
    kinds = [WorkerDied, WorkTimedOut, WorkRaised, ItemDone] * 6
    assert [type(result) for result in results] == kinds
