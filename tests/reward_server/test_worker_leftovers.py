"""What a task leaves behind in its process costs neither the next task its result nor another reward its numbers."""

import asyncio
import os
import textwrap

import pytest
import structlog
from python_rewards import started, verdicts
from waiting import until

from reward_server.domain import Sample
from reward_server.errors import WorkerDied, WorkNotPrepared, WorkTimedOut
from reward_server.workers import calling
from reward_server.workers.pool import WorkerPool
from reward_server.workers.tasks import Preparation, Task

SOON_S = 30.0  # far more than anything here takes: only against a hang

TIMER = "import os, threading; threading.Timer(0.5, os._exit, (7,)).start()"
"""A bomb that goes off under whoever comes next."""


def code(text):
    return Task(exec, (textwrap.dedent(text), {}))


def value(expression):
    return Task(eval, (expression, {}))


@pytest.fixture
async def pool():
    async with WorkerPool(1) as pool:
        yield pool


async def test_a_task_whose_worker_dies_of_the_task_before_is_run_in_a_fresh_one(pool):
    await pool.run(code(TIMER), SOON_S)
    assert (await pool.run(value("[__import__('time').sleep(1.5), 42][1]"), SOON_S)).value == 42


async def test_so_is_one_whose_worker_dies_while_it_loads(pool):
    await pool.run(code(TIMER), SOON_S)
    loading = Preparation(eval, ("__import__('time').sleep(1.5)",), SOON_S)
    assert (await pool.run(Task(eval, ("42",), loading), SOON_S)).value == 42


async def test_a_task_that_kills_every_worker_is_tried_twice_and_only_once_in_a_fresh_one(pool, tmp_path):
    log = tmp_path / "log"
    die = f"import os; print(os.getpid(), file=open({str(log)!r}, 'a'), flush=True); os._exit(3)"
    for tries in (1, 3):
        with pytest.raises(WorkerDied, match="exit status 3"):
            await pool.run(code(die), SOON_S)
        assert len(set(log.read_text().split())) == tries
        await pool.run(value("1"), SOON_S)  # from now on the worker is a used one


async def test_a_load_that_raises_is_not_tried_again(pool, tmp_path):
    log = tmp_path / "log"
    await pool.run(value("1"), SOON_S)
    loading = Preparation(exec, (f"print('x', file=open({str(log)!r}, 'a')); 1 / 0",), SOON_S)
    with pytest.raises(WorkNotPrepared, match="ZeroDivisionError"):
        await pool.run(Task(eval, ("42",), loading), SOON_S)
    assert log.read_text() == "x\n"


async def test_the_second_try_keeps_within_the_time_that_is_left(pool):
    await pool.run(value("1"), SOON_S)
    limits_s = iter((SOON_S, 0.0))
    with pytest.raises(WorkTimedOut, match="no time was left"):
        await pool.run(code("import os; os._exit(3)"), lambda: next(limits_s))


async def test_the_second_try_gets_a_fresh_worker_though_used_ones_are_idle_and_others_wait():
    async with WorkerPool(2) as pool:
        await asyncio.gather(*(pool.run(code("import time; time.sleep(0.3)"), SOON_S) for _ in range(2)))
        await pool.run(code(TIMER), SOON_S)
        pid = value("[__import__('os').getpid(), __import__('time').sleep(1.0)][0]")
        done = await asyncio.gather(*(pool.run(pid, SOON_S) for _ in range(6)))
        assert len(done) == 6
        await until(lambda: len(pool._idle) == 2)


async def test_an_alarm_does_not_outlive_its_task(pool):
    await pool.run(code("import signal; signal.alarm(1)"), SOON_S)
    assert (await pool.run(value("__import__('signal').getitimer(0)"), SOON_S)).value == (0.0, 0.0)


async def test_the_next_task_finds_the_working_directory_of_the_server(pool, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    await pool.run(code(f"import os; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})"), SOON_S)
    assert (await pool.run(value("__import__('os').getcwd()"), SOON_S)).value == os.getcwd()  # noqa: PTH109  # as there


@pytest.mark.parametrize("name", ["float", "isinstance", "list", "len"])
async def test_a_built_in_that_one_function_replaces_is_the_old_one_for_the_next(pool, name):
    await pool.run(code(f"import builtins; builtins.{name} = lambda *args: 42"), SOON_S)
    task = Task(calling.items_from, ((0.5, None, 2), 3))
    assert (await pool.run(task, SOON_S)).value == [0.5, None, 2.0]
    assert (await pool.run(value("len([float('1.5')])"), SOON_S)).value == 1


async def test_a_limit_that_is_short_after_a_long_wait_is_told_with_the_wait(pool):
    long = asyncio.create_task(pool.run(code("import time; time.sleep(1)"), SOON_S))
    await asyncio.sleep(0)  # it is first in the queue
    with pytest.raises(WorkTimedOut, match=r"no result within 0.1 s, after .* s of waiting for a free worker"):
        await pool.run(code("while True: pass"), 0.1)
    await long


async def test_no_log_line_quotes_what_a_function_raised(pool, tmp_path):
    text = "def reward(completions):\n    raise ValueError(completions[0])"
    scorer = await started(pool, tmp_path, text)
    with structlog.testing.capture_logs() as logs:
        await verdicts(scorer, [Sample("my secret"), Sample("another secret")])
    assert [(entry["reward"], entry["error"]) for entry in logs] == [("mine", "WorkRaised")]
    assert "secret" not in str(logs)
