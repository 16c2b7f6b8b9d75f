"""The pool runs tasks in order, ends what is over its limit or cancelled, and is ready again at once."""

import asyncio
import math
import os
import time

import pytest
from waiting import until

from reward_server.errors import ConfigError, PoolClosed, WorkerDied, WorkNotPrepared, WorkRaised, WorkTimedOut
from reward_server.workers.pool import WorkerPool
from reward_server.workers.tasks import Preparation, Task

SOON_S = 30.0  # far more than anything here takes: only against a hang


def code(text):
    """Returns a task that runs a piece of Python."""
    return Task(exec, (text, {}))


def value(expression):
    """Returns a task that evaluates a Python expression."""
    return Task(eval, (expression, {}))


@pytest.fixture
async def pool():
    async with WorkerPool(2) as pool:
        yield pool


async def result_of(pool, expression):
    return (await pool.run(value(expression), SOON_S)).value


async def test_a_task_returns_its_value(pool):
    assert await result_of(pool, "[1, 2.5, None, 'ä', {'a': (1, 2)}]") == [1, 2.5, None, "ä", {"a": (1, 2)}]


async def test_a_float_comes_back_bit_by_bit(pool):
    for number in (0.1 + 0.2, 1e-320, -0.0, math.pi, 1.7976931348623157e308):
        done = await pool.run(Task(float, (number,)), SOON_S)
        assert done.value.hex() == number.hex()


async def test_tasks_run_in_other_processes(pool):
    assert await result_of(pool, "__import__('os').getpid()") != os.getpid()


async def test_no_process_is_started_before_the_first_task():
    async with WorkerPool(2) as pool:
        assert pool._forks is None


async def test_twenty_tasks_on_two_workers_begin_in_the_order_given_and_are_all_answered(pool, tmp_path):
    log = tmp_path / "log"
    write = "import time; open({log!r}, 'a').write('{number:02}\\n'); time.sleep(0.01)"
    tasks = [pool.run(code(write.format(log=str(log), number=number)), SOON_S) for number in range(20)]
    await asyncio.gather(*tasks)
    begun = [int(line) for line in log.read_text().split()]
    assert sorted(begun) == list(range(20))
    assert all(abs(place - number) <= 1 for place, number in enumerate(begun))  # two begin at a time


async def test_two_workers_work_at_a_time(pool):
    both = "__import__('time').sleep(0.3) or __import__('os').getpid()"
    first, second = await asyncio.gather(result_of(pool, both), result_of(pool, both))
    assert first != second


async def test_the_time_in_the_queue_is_told():
    async with WorkerPool(1) as pool:
        await result_of(pool, "1")
        sleep = Task(time.sleep, (0.2,))
        first, second = await asyncio.gather(pool.run(sleep, SOON_S), pool.run(sleep, SOON_S))
        assert first.queue_ms < 100
        assert second.queue_ms >= 150


async def test_an_exception_is_told_with_its_class_message_and_place_and_the_worker_stays(pool, tmp_path):
    (tmp_path / "own.py").write_text("def f():\n    raise KeyError('gold')\n")
    before = await result_of(pool, "__import__('os').getpid()")
    with pytest.raises(WorkRaised, match=r"^KeyError: 'gold' \(own\.py, line 2, in f\)$"):
        await pool.run(code(f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import own; own.f()"), SOON_S)
    assert await result_of(pool, "__import__('os').getpid()") == before


async def test_an_exception_that_cannot_be_printed_is_told_all_the_same(pool):
    bad = "class Bad(Exception):\n    def __str__(self): raise OSError\nraise Bad"
    with pytest.raises(WorkRaised, match=r"Bad: \(its message cannot be had: OSError\)"):
        await pool.run(code(bad), SOON_S)


async def test_a_long_message_is_cut(pool):
    with pytest.raises(WorkRaised) as caught:
        await pool.run(code("raise ValueError('x' * 10**7)"), SOON_S)
    assert len(str(caught.value)) < 1_200


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise MemoryError", "MemoryError"),
        ("import sys; sys.exit(4)", "SystemExit: 4"),
        ("raise KeyboardInterrupt", "Key"),
    ],
)
async def test_even_what_ends_a_program_is_only_an_exception(pool, text, told):
    with pytest.raises(WorkRaised, match=told):
        await pool.run(code(text), SOON_S)


async def test_a_result_that_is_not_plain_data_is_refused_before_anything_of_it_is_imported(pool):
    with pytest.raises(WorkRaised, match=r"not plain data: it holds a decimal\.Decimal"):
        await result_of(pool, "__import__('decimal').Decimal(1)")


async def test_a_result_that_cannot_be_sent_is_refused(pool):
    with pytest.raises(WorkRaised, match="pickle"):
        await result_of(pool, "lambda: 1")


async def test_arguments_that_cannot_be_sent_are_refused_and_the_worker_stays(pool):
    deep = []
    for _ in range(200_000):
        deep = [deep]
    before = await result_of(pool, "__import__('os').getpid()")
    with pytest.raises(WorkRaised, match=r"RecursionError: .*\(on the way to the worker process\)"):
        await pool.run(Task(len, (deep,)), SOON_S)
    assert await result_of(pool, "__import__('os').getpid()") == before


async def test_a_huge_result_is_refused(pool):
    with pytest.raises(WorkRaised, match="95 MiB large; at most 64"):
        await result_of(pool, "'x' * 100_000_000")


async def test_a_hanging_task_is_killed_at_its_limit_and_the_next_one_runs():
    async with WorkerPool(1) as pool:
        begin = time.monotonic()
        with pytest.raises(WorkTimedOut, match=r"no result within 0\.2 s"):
            await pool.run(code("while True: pass"), 0.2)
        assert await result_of(pool, "2 + 2") == 4
        assert time.monotonic() - begin < SOON_S


async def test_the_limit_may_be_computed_when_a_worker_is_ready():
    async with WorkerPool(1) as pool:
        asked = []
        blocker = asyncio.create_task(pool.run(Task(time.sleep, (0.3,)), SOON_S))
        await asyncio.sleep(0.1)
        begin = time.monotonic()
        await pool.run(value("1"), lambda: asked.append(time.monotonic()) or SOON_S)
        await blocker
        assert asked[0] - begin > 0.1


async def test_a_task_without_time_left_is_not_begun_and_costs_no_worker(tmp_path):
    async with WorkerPool(1) as pool:
        before = await result_of(pool, "__import__('os').getpid()")
        with pytest.raises(WorkTimedOut, match="no time was left"):
            await pool.run(code(f"open({str(tmp_path / 'ran')!r}, 'w')"), 0.0)
        assert await result_of(pool, "__import__('os').getpid()") == before
        assert not (tmp_path / "ran").exists()


async def test_cancelling_a_running_task_ends_it_and_frees_its_worker(tmp_path):
    async with WorkerPool(1) as pool:
        started = tmp_path / "started"
        task = asyncio.create_task(pool.run(code(f"open({str(started)!r}, 'w')\nwhile True: pass"), SOON_S))
        await until(started.exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await result_of(pool, "3") == 3


async def test_cancelling_a_waiting_task_takes_it_out_of_the_queue(tmp_path):
    async with WorkerPool(1) as pool:
        ran = tmp_path / "ran"
        blocker = asyncio.create_task(pool.run(Task(time.sleep, (0.3,)), SOON_S))
        await asyncio.sleep(0.1)
        waiting = asyncio.create_task(pool.run(code(f"open({str(ran)!r}, 'w')"), SOON_S))
        behind = asyncio.create_task(pool.run(value("4"), SOON_S))
        await asyncio.sleep(0)
        waiting.cancel()
        await blocker
        assert (await behind).value == 4
        assert not ran.exists()


async def test_cancelling_many_at_once_loses_no_worker(pool):
    tasks = [asyncio.create_task(pool.run(Task(time.sleep, (0.02,)), SOON_S)) for _ in range(40)]
    for number, task in enumerate(tasks):
        if number % 2:
            await asyncio.sleep(0.005)
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert await asyncio.gather(*(result_of(pool, str(number)) for number in range(10))) == list(range(10))
    assert len(pool._idle) == 2


async def test_a_worker_is_prepared_once_and_the_time_for_it_is_not_the_tasks():
    async with WorkerPool(1) as pool:
        slow = Preparation(
            exec, ("import builtins, time; time.sleep(0.3); builtins.n = getattr(builtins, 'n', 0) + 1",), 5.0
        )
        for _ in range(3):
            done = await pool.run(Task(eval, ("__import__('builtins').n",), slow), 0.25)
            assert done.value == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("raise OSError('no data')", "OSError: no data"),
        ("while True: pass", "no result"),
        ("import os; os._exit(7)", "7"),
    ],
)
async def test_a_preparation_that_fails_is_told_apart_from_the_task(pool, text, told):
    with pytest.raises(WorkNotPrepared, match=told):
        await pool.run(Task(eval, ("1",), Preparation(exec, (text,), 0.3)), SOON_S)
    assert await result_of(pool, "5") == 5


async def test_closing_ends_what_runs_and_what_waits():
    async with WorkerPool(1) as pool:
        running = asyncio.create_task(pool.run(code("while True: pass"), SOON_S))
        waiting = asyncio.create_task(pool.run(value("1"), SOON_S))
        await until(lambda: pool._waiting)
    for task in (running, waiting):
        with pytest.raises(PoolClosed, match="shutting down"):
            await task
    with pytest.raises(PoolClosed):
        await pool.run(value("1"), SOON_S)


async def test_a_preload_that_fails_is_an_error_with_its_message_and_for_every_task():
    async with WorkerPool(2, preload=["json", "no_such_module_here"]) as pool:
        for _ in range(2):
            with pytest.raises(
                ConfigError, match=r"workers\.preload: cannot import 'no_such_module_here': ModuleNotFound"
            ):
                await pool.run(value("1"), SOON_S)
        assert "no_such_module_here" in pool.problem


async def test_a_preloaded_module_is_there_already():
    async with WorkerPool(1, preload=["wave"]) as pool:
        assert await result_of(pool, "'wave' in __import__('sys').modules")


async def test_workers_that_end_as_soon_as_they_start_are_an_error_not_an_endless_loop(tmp_path, monkeypatch):
    text = "import os, threading\nos.register_at_fork(after_in_child=lambda: os._exit(9))\n"
    (tmp_path / "ends_every_fork.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("reward_server.workers.staff.REPLACE_PAUSE_S", 0.001)
    async with WorkerPool(1, preload=["ends_every_fork"]) as pool:
        with pytest.raises(WorkerDied, match="exit status 9"):
            await pool.run(value("1"), SOON_S)
        await until(lambda: pool.problem)
        assert pool.problem == "worker processes end as soon as they start: exit status 9"


async def test_a_large_task_leaves_the_loop_its_turns(pool):
    await result_of(pool, "1")
    longest_s = 0.0

    async def beat():
        nonlocal longest_s
        last = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            now = time.monotonic()
            longest_s, last = max(longest_s, now - last), now

    beating = asyncio.create_task(beat())
    texts = ["y" * 1_000 + str(number) for number in range(64_000)]
    whole_s = -time.monotonic()
    assert (await pool.run(Task(len, (texts,)), SOON_S)).value == 64_000
    whole_s += time.monotonic()
    beating.cancel()
    assert longest_s < 0.5 * whole_s  # in one piece it would be most of it


async def test_a_hidden_environment_variable_is_not_there_for_functions(monkeypatch):
    monkeypatch.setenv("REWARD_TOKEN", "secret")
    monkeypatch.setenv("OTHER", "seen")
    async with WorkerPool(1, hidden_env=["REWARD_TOKEN"]) as pool:
        seen = await result_of(pool, "[__import__('os').environ.get(name) for name in ('REWARD_TOKEN', 'OTHER')]")
    assert seen == [None, "seen"]
