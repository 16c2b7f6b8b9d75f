"""When no worker can be started the pool says so, tries again with growing pauses, and is well again when it works."""

import os
import signal
import time

import psutil
import pytest
from waiting import until

from reward_server.errors import WorkerDied
from reward_server.workers import backoff, staff
from reward_server.workers.pool import WorkerPool
from reward_server.workers.processes import ForkServer
from reward_server.workers.tasks import Task

SOON_S = 30.0  # far more than anything here takes: only against a hang
PARENT = Task(eval, ("__import__('os').getppid()",))


async def test_pauses_double_up_to_the_longest_and_begin_again_after_success():
    pauses = backoff.Backoff()
    assert [pauses.next_s() for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    pauses.reset()
    assert pauses.next_s() == 0.5


@pytest.mark.parametrize("problem", [WorkerDied("no luck"), OSError(11, "no process to be had")])
async def test_failed_launches_are_repeated_until_one_succeeds(monkeypatch, problem):
    monkeypatch.setattr(backoff, "FIRST_S", 0.2)
    monkeypatch.setattr(staff, "EARLY_DEATH_S", 0.05)
    launch, failures = ForkServer.launch, [problem] * 2

    async def failing_at_first(*args):
        if failures:
            raise failures.pop()
        return await launch(*args)

    monkeypatch.setattr(ForkServer, "launch", failing_at_first)
    async with WorkerPool(1) as workers:
        for _ in range(2):  # the task that finds out, and one while it is known
            with pytest.raises(WorkerDied, match=r"no luck|no worker processes can be started: .*no process"):
                await workers.run(PARENT, SOON_S)
            assert workers.problem
        await until(lambda: not workers.problem)
        assert (await workers.run(PARENT, SOON_S)).value != os.getpid()


async def test_workers_that_stop_ending_at_their_start_are_used_again(tmp_path, monkeypatch):
    bad = tmp_path / "bad"
    bad.touch()
    text = f"import os\nos.register_at_fork(after_in_child=lambda: os.path.exists({str(bad)!r}) and os._exit(9))\n"
    (tmp_path / "ends_forks_at_times.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(staff, "REPLACE_PAUSE_S", 0.001)
    monkeypatch.setattr(backoff, "FIRST_S", 0.01)
    async with WorkerPool(1, preload=["ends_forks_at_times"]) as workers:
        with pytest.raises(WorkerDied, match="exit status 9"):
            await workers.run(PARENT, SOON_S)
        await until(lambda: workers.problem)
        bad.unlink()
        await until(lambda: not workers.problem)
        await workers.run(PARENT, SOON_S)


async def test_a_lost_fork_server_is_replaced_after_a_pause_and_tasks_wait_for_it():
    async with WorkerPool(1) as workers:
        fork_server = (await workers.run(PARENT, SOON_S)).value
        os.kill(fork_server, signal.SIGKILL)
        begin = time.monotonic()
        await until(lambda: workers._forks is None)
        assert (await workers.run(PARENT, SOON_S)).value != fork_server
        assert time.monotonic() - begin >= backoff.FIRST_S


async def test_a_pool_closed_while_it_starts_leaves_no_process():
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    async with WorkerPool(2) as workers:
        workers._start_again()
        await until(lambda: {process.pid for process in psutil.Process().children(recursive=True)} - before)
    assert {process.pid for process in psutil.Process().children(recursive=True)} <= before
