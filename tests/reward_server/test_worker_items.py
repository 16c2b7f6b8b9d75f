"""Many items of one function: each has one outcome, whatever its neighbours do, and none takes up more than it needs."""

import asyncio
import time
from contextlib import aclosing

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import until
from worker_functions import value

from reward_server.errors import ConfigError, PoolClosed, WorkerDied, WorkNotPrepared, WorkRaised, WorkTimedOut
from reward_server.workers.items import ItemDone, ItemJob, run_alone, run_items
from reward_server.workers.pool import WorkerPool
from reward_server.workers.tasks import Preparation, Task

SOON_S = 30.0  # far more than anything here takes: only against a hang
PID = "__import__('os').getpid()"


def soon():
    return SOON_S


def job(function=value, *args, timeout_s=SOON_S, prepare=None, **options):
    return ItemJob(function, args, prepare, "mine", timeout_s, **options)


async def outcomes(pool, items, the_job=None, remaining_s=soon, chunk=16):
    """Returns the outcomes in the order of the items, each of which must have got exactly one."""
    got = {}
    async for index, outcome in run_items(pool, the_job or job(), items, remaining_s=remaining_s, chunk=chunk):
        assert index not in got
        got[index] = outcome
    assert sorted(got) == list(range(len(items)))
    return [got[index] for index in range(len(items))]


async def values(pool, items, *args, **options):
    return [outcome.value for outcome in await outcomes(pool, items, *args, **options)]


@pytest.fixture
async def pool():
    async with WorkerPool(2) as pool:
        yield pool


@pytest.mark.parametrize("count", [0, 1, 2, 15, 16, 17, 100, 1000])
async def test_every_item_has_its_value(pool, count):
    assert await values(pool, [str(number) for number in range(count)]) == list(range(count))


@pytest.mark.parametrize("chunk", [1, 3, 1000])
async def test_the_size_of_chunks_changes_nothing(pool, chunk):
    assert await values(pool, [str(number) for number in range(50)], chunk=chunk) == list(range(50))


async def test_first_arguments_come_before_the_item(pool):
    assert await values(pool, [3, 4], job(pow, 2)) == [8, 16]


async def test_all_plain_values_come_back_as_they_are(pool):
    items = ["0.1 + 0.2", "-0.0", "None", "True", "10**30", "'x' * 20_000", "'\\ud800'", "(1, 'a', None)", "((1,),)"]
    items += ["[1, {'a': (2.5,)}]", "b'x'", "{3}"]
    assert list(map(repr, await values(pool, items))) == [repr(eval(item)) for item in items]  # noqa: S307


async def test_what_the_function_raises_is_that_items_outcome_only(pool):
    results = await outcomes(pool, ["1", "1 / 0", "2", "__import__('sys').exit(4)", "3"])
    assert [result.value for result in results[::2]] == [1, 2, 3]
    told = ["ZeroDivisionError: division by zero", "SystemExit: 4"]
    assert [str(result).partition(" (<")[0] for result in results[1::2]] == told
    assert all(type(result) is WorkRaised for result in results[1::2])


async def test_an_item_that_cannot_be_sent_is_named_and_its_neighbours_are_done(pool):
    results = await outcomes(pool, [1, 2, lambda: 3, 4, 5], job(float))
    assert [isinstance(result, ItemDone) for result in results] == [True, True, False, True, True]
    assert isinstance(results[2], WorkRaised)
    assert "on the way to the worker process" in str(results[2])


@pytest.mark.parametrize("text", ["__import__('decimal').Decimal(1)", "lambda: 1", "b'x' * 70_000_000"])
async def test_a_result_that_cannot_be_had_is_its_items_outcome_only(pool, text):
    results = await outcomes(pool, ["1", text, "2"])
    assert [type(result) for result in results] == [ItemDone, WorkRaised, ItemDone]


async def test_large_items_and_results_arrive_whole(pool):
    items = [str(number) * 300_000 for number in range(8)]
    assert await values(pool, items, job(str.upper)) == items


async def test_a_function_that_is_not_there_fails_every_item(pool, tmp_path, monkeypatch):
    (tmp_path / "gone_soon.py").write_text("def function(item): return item")
    await values(pool, ["1"])  # so the workers do not see the folder
    monkeypatch.syspath_prepend(tmp_path)
    from gone_soon import function

    results = await outcomes(pool, [1, 2, 3], job(function))
    assert all(isinstance(result, WorkRaised) and "gone_soon" in str(result) for result in results)


async def test_both_workers_share_a_few_slow_items(pool):
    slow = f"__import__('time').sleep(0.2) or {PID}"
    assert len(set(await values(pool, [slow] * 4))) == 2


async def test_items_behind_a_slow_one_are_done_by_others_meanwhile(pool):
    items = ["1", "__import__('time').sleep(1.5)", *["2"] * 200]
    order = [index async for index, _ in run_items(pool, job(), items, remaining_s=soon)]
    assert order[-1] == 1


async def test_what_is_done_before_a_slow_item_does_not_wait_for_it(pool):
    items = [*["1"] * 10, "__import__('time').sleep(1.5)"]
    order = [index async for index, _ in run_items(pool, job(), items, remaining_s=soon, chunk=100)]
    assert order[-1] == 10


async def test_closing_stops_the_work_and_leaves_no_busy_worker(pool, tmp_path):
    log = tmp_path / "log"
    log.touch()
    item = f"__import__('time').sleep(0.02) or open({str(log)!r}, 'a').write('x')"
    async with aclosing(run_items(pool, job(), [item] * 400, remaining_s=soon)) as run:
        await anext(run)
    await until(lambda: len(pool._idle) == 2)
    written = log.stat().st_size
    await asyncio.sleep(0.3)
    assert log.stat().st_size == written < 400
    assert await values(pool, ["1", "2"]) == [1, 2]


async def test_a_worker_that_stops_by_itself_when_a_run_is_closed_is_kept(pool):
    before = set(await values(pool, [f"__import__('time').sleep(0.1) or {PID}"] * 8))
    async with aclosing(run_items(pool, job(), ["__import__('time').sleep(0.005)"] * 400, remaining_s=soon)) as run:
        await anext(run)
    await until(lambda: len(pool._idle) == 2)
    assert set(await values(pool, [f"__import__('time').sleep(0.1) or {PID}"] * 8)) == before


async def test_closing_kills_an_item_that_goes_on(pool, tmp_path):
    pids = tmp_path / "pids"
    text = f"open({str(pids)!r}, 'a').write({PID}.__str__() + ' ') and [0 for _ in iter(int, 1)]"
    async with aclosing(run_items(pool, job(), ["1", text], remaining_s=soon, chunk=1)) as run:
        await anext(run)
        await until(pids.exists)
    await until(lambda: len(pool._idle) == 2)
    (hung,) = pids.read_text().split()
    assert int(hung) not in await values(pool, [f"__import__('time').sleep(0.1) or {PID}"] * 8)


async def test_cancelling_who_waits_for_a_run_stops_it(pool):
    waiting = asyncio.create_task(outcomes(pool, ["[0 for _ in iter(int, 1)]"] * 4))
    await until(lambda: pool._forks is not None and not pool._idle and len(pool._workers) == 2)
    await asyncio.sleep(0.1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await values(pool, ["1", "2"]) == [1, 2]


async def test_at_the_deadline_all_that_is_not_done_ends_and_nobody_is_to_blame(pool):
    await values(pool, ["1"])
    end = time.monotonic() + 0.5
    items = ["1", "[0 for _ in iter(int, 1)]", "[0 for _ in iter(int, 1)]", *["__import__('time').sleep(0.3)"] * 20]
    results = await outcomes(pool, items, remaining_s=lambda: end - time.monotonic())
    assert isinstance(results[0], ItemDone)
    late = [result for result in results if not isinstance(result, ItemDone)]
    assert len(late) >= 3
    assert all(type(result) is WorkTimedOut and not result.own_time for result in late)
    assert await values(pool, ["1", "2"]) == [1, 2]


async def test_without_time_left_nothing_is_begun(pool, tmp_path):
    ran = tmp_path / "ran"
    (result,) = await outcomes(pool, [f"open({str(ran)!r}, 'w')"], remaining_s=lambda: 0.0)
    assert isinstance(result, WorkTimedOut)
    assert not ran.exists()


async def test_an_item_stopped_at_its_first_limit_is_tried_again_with_more_time(pool, tmp_path):
    log = tmp_path / "log"
    slow = f"open({str(log)!r}, 'a').write('x') and __import__('time').sleep(0.5)"
    results = await outcomes(pool, [slow, "1", "2"], job(first_timeout_s=0.15))
    assert all(isinstance(result, ItemDone) for result in results)
    assert 2 <= len(log.read_text()) <= 4


async def test_an_item_that_never_returns_is_stopped_at_the_last_at_its_whole_limit(pool):
    first, last = await outcomes(pool, ["1", "[0 for _ in iter(int, 1)]"], job(timeout_s=0.4, first_timeout_s=0.1))
    assert first.value == 1
    assert isinstance(last, WorkTimedOut)
    assert last.own_time
    assert "0.4 s" in str(last)


async def test_a_second_attempt_that_the_deadline_makes_too_short_is_not_made(pool, tmp_path):
    await values(pool, ["1"])
    log, end = tmp_path / "log", time.monotonic() + 1.2
    hang = f"open({str(log)!r}, 'a').write('x') and [0 for _ in iter(int, 1)]"
    (result,) = await outcomes(pool, [hang], job(first_timeout_s=0.8), remaining_s=lambda: end - time.monotonic())
    assert isinstance(result, WorkTimedOut)
    assert not result.own_time
    assert log.read_text() == "x"


async def test_workers_are_prepared_once_and_that_takes_nothing_of_an_items_time(pool):
    slow = Preparation(exec, ("import builtins, time; time.sleep(0.3); builtins.n = getattr(builtins, 'n', 0) + 1",), 9)
    assert set(await values(pool, ["__import__('builtins').n"] * 60, job(timeout_s=0.25, prepare=slow))) == {1}


@pytest.mark.parametrize("text", ["raise OSError('no data')", "while True: pass", "import os; os._exit(7)"])
async def test_a_preparation_that_fails_is_every_items_outcome(pool, text):
    results = await outcomes(pool, ["1"] * 30, job(prepare=Preparation(exec, (text,), 0.3)))
    assert all(type(result) is WorkNotPrepared for result in results)
    assert await values(pool, ["5"]) == [5]


async def test_two_runs_at_a_time_take_turns(pool):
    items = ["__import__('time').sleep(0.01)"] * 60
    ends = []

    async def one(name, the_items):
        await outcomes(pool, the_items)
        ends.append(name)

    long = asyncio.create_task(one("long", items * 4))
    await asyncio.sleep(0.1)
    await one("short", items[:8])
    await long
    assert ends == ["short", "long"]


async def test_a_task_finds_its_turn_beside_a_run(pool):
    run = asyncio.create_task(outcomes(pool, ["__import__('time').sleep(0.01)"] * 400))
    await asyncio.sleep(0.1)
    assert (await pool.run(Task(eval, ("42",)), SOON_S)).value == 42
    assert not run.done()
    run.cancel()


async def test_the_time_an_item_waited_for_a_worker_is_told():
    async with WorkerPool(1) as pool:
        blocker = asyncio.create_task(pool.run(Task(time.sleep, (0.3,)), SOON_S))
        await asyncio.sleep(0)
        (result,) = await outcomes(pool, ["1"])
        assert result.queue_ms >= 250
        await blocker


async def test_one_alone_runs_in_a_worker_that_has_run_nothing(pool):
    used = set(await values(pool, [f"__import__('time').sleep(0.1) or {PID}"] * 6))
    for _ in range(3):
        result = await run_alone(pool, job(), PID, remaining_s=soon)
        assert result.value not in used
        used.add(result.value)


@pytest.mark.parametrize(
    ("text", "kind"),
    [("1 / 0", WorkRaised), ("__import__('os')._exit(3)", WorkerDied), ("[0 for _ in iter(int, 1)]", WorkTimedOut)],
)
async def test_one_alone_that_breaks_says_how(pool, text, kind):
    assert type(await run_alone(pool, job(timeout_s=0.3), text, remaining_s=soon)) is kind


async def test_closing_the_pool_ends_all_items(pool):
    run = asyncio.create_task(outcomes(pool, ["__import__('time').sleep(1000)"] * 40))
    await until(lambda: pool._forks is not None and not pool._idle)
    await pool.close()
    assert all(type(result) is PoolClosed for result in await run)
    assert all(type(result) is PoolClosed for result in await outcomes(pool, ["1", "2"]))


async def test_a_preload_that_fails_is_raised_as_what_it_is():
    async with WorkerPool(2, preload=["no_such_module_here"]) as pool:
        with pytest.raises(ConfigError, match="no_such_module_here"):
            await outcomes(pool, ["1"])


async def test_items_wait_for_workers_that_cannot_be_had_no_longer_than_known(pool, monkeypatch):
    await values(pool, ["1"])
    pool._problem = WorkerDied("no process to be had")
    results = await outcomes(pool, ["1", "2"])
    assert all(type(result) is WorkerDied and result.from_outside for result in results)


@settings(max_examples=15, deadline=None)
@given(
    kinds=st.lists(st.sampled_from(["ok", "raise", "die", "slow"]), max_size=40),
    chunk=st.integers(1, 20),
    workers=st.integers(1, 3),
)
def test_whatever_items_do_each_has_its_own_outcome(kinds, chunk, workers):
    texts = {
        "ok": "41 + 1",
        "raise": "1 / 0",
        "die": "__import__('os')._exit(3)",
        "slow": "__import__('time').sleep(0.08)",
    }
    expected = {"ok": ItemDone(42, 0), "raise": WorkRaised, "die": WorkerDied, "slow": ItemDone(None, 0)}

    async def run():
        async with WorkerPool(workers) as pool:
            return await outcomes(pool, [texts[kind] for kind in kinds], chunk=chunk)

    for kind, outcome in zip(kinds, asyncio.run(run()), strict=True):
        if isinstance(outcome, ItemDone):
            assert outcome.value == expected[kind].value
        else:
            assert type(outcome) is expected[kind]


def open_files():
    return psutil.Process().num_fds()


async def test_no_file_descriptor_is_left_open_by_workers_that_come_and_go(pool):
    await values(pool, ["1"])
    before = open_files()
    await outcomes(pool, ["__import__('os')._exit(1)"] * 20)
    await until(lambda: len(pool._idle) == 2)
    assert open_files() <= before
