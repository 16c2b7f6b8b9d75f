"""Whatever a function does to its process, its neighbours are served and nothing of it is left over."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time

import psutil
import pytest
import structlog
from waiting import until

from reward_server.errors import WorkerDied, WorkTimedOut
from reward_server.workers.pool import WorkerPool
from reward_server.workers.tasks import Task

SOON_S = 30.0  # far more than anything here takes: only against a hang


def code(text):
    return Task(exec, (textwrap.dedent(text), {}))


@pytest.fixture
async def pool():
    async with WorkerPool(1) as pool:
        yield pool


async def still_serves(pool):
    return (await pool.run(Task(eval, ("40 + 2",)), SOON_S)).value == 42


async def gone(pids):
    """Waits until none of the processes is there."""
    await until(lambda: not any(psutil.pid_exists(pid) for pid in pids))


async def written_pids(file, count):
    """Waits until that many process ids are in the file."""
    await until(lambda: file.exists() and len(file.read_text().split()) >= count)
    return [int(word) for word in file.read_text().split()]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("import ctypes; ctypes.string_at(0)", "killed by SIGSEGV"),
        ("import os; os._exit(3)", "exit status 3"),
        ("import os; os.abort()", "killed by SIGABRT"),
        ("import os; os.kill(os.getpid(), 9)", "killed by SIGKILL, often the kernel out of memory"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGRTMIN + 1)", "killed by "),
    ],
)
async def test_a_process_that_dies_is_told_how_and_replaced(pool, text, told):
    with pytest.raises(WorkerDied, match=f"^{told}"):
        await pool.run(code(text), SOON_S)
    assert await still_serves(pool)


@pytest.mark.skipif(
    sys.platform != "linux", reason="a regular expression holds the interpreter's lock everywhere, but slowly"
)
async def test_a_loop_in_c_that_never_gives_up_the_lock_is_killed(pool):
    with pytest.raises(WorkTimedOut):
        await pool.run(code("import re; re.match('(a+)+$', 'a' * 64 + 'b')"), 0.3)
    assert await still_serves(pool)


async def test_a_function_that_ignores_all_signals_is_killed(pool):
    text = """
        import signal
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN)
        while True: pass
    """
    with pytest.raises(WorkTimedOut):
        await pool.run(code(text), 0.3)
    assert await still_serves(pool)


async def test_children_of_a_killed_function_are_killed_with_it(pool, tmp_path):
    pids = tmp_path / "pids"
    text = f"""
        import os, subprocess, time
        for _ in range(2):
            child = subprocess.Popen(["sleep", "1000"])
            print(child.pid, file=open({str(pids)!r}, "a"))
        if os.fork() == 0:
            print(os.getpid(), file=open({str(pids)!r}, "a"))
        while True: time.sleep(1)
    """
    with pytest.raises(WorkTimedOut):
        await pool.run(code(text), 1.0)
    await gone(await written_pids(pids, 3))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells who has lost its parent")
async def test_a_daemon_in_a_session_of_its_own_ends_with_its_worker(pool, tmp_path):
    pids = tmp_path / "pids"
    text = f"""
        import subprocess
        child = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        print(child.pid, file=open({str(pids)!r}, "a"))
        while True: pass
    """
    with pytest.raises(WorkTimedOut):
        await pool.run(code(text), 0.7)
    await gone(await written_pids(pids, 1))


async def test_a_fork_that_comes_back_from_the_function_answers_nothing(pool):
    for number in range(10):
        text = f"[__import__('os').fork() and {number}, {number}][1]"
        assert (await pool.run(Task(eval, (text,)), SOON_S)).value == number


async def test_a_function_may_use_multiprocessing(pool):
    text = """
        import multiprocessing, time
        process = multiprocessing.get_context("fork").Process(target=time.sleep, args=(1000,))
        process.start()
        process.terminate()
        process.join(20)
        assert process.exitcode == -15, process.exitcode
    """
    await pool.run(code(text), SOON_S)


async def test_a_function_that_closes_every_file_is_killed_and_replaced(pool, monkeypatch):
    monkeypatch.setattr("reward_server.workers.worker.END_WAIT_S", 0.2)
    with pytest.raises(WorkerDied, match="no longer answers"):
        await pool.run(code("import os, time; os.closerange(3, 1000); time.sleep(1000)"), SOON_S)
    assert await still_serves(pool)


async def test_prints_reach_the_log_with_the_tasks_name(pool):
    with structlog.testing.capture_logs() as logs:
        task = Task(exec, ("import sys; print('hällo'); print('to stderr', file=sys.stderr)",), name="brevity")
        await pool.run(task, SOON_S)
    assert [(entry["event"], entry["task"], entry["text"]) for entry in logs] == [
        ("worker printed", "brevity", "hällo"),
        ("worker printed", "brevity", "to stderr"),
    ]


async def test_prints_without_end_are_cut_and_neither_block_nor_fill_memory(pool):
    with structlog.testing.capture_logs() as logs:
        await pool.run(code("for _ in range(300_000): print('flood')"), SOON_S)
        with pytest.raises(WorkTimedOut):
            await pool.run(code("while True: print('x' * 1000)"), 0.3)
    assert 2 < len(logs) <= 64
    assert sum(len(entry["text"]) for entry in logs) < 20_000
    assert "the rest of what this call prints is dropped" in logs[-1]["text"]


async def test_what_other_programs_print_does_not_reach_the_servers_streams(pool, capfd):
    await pool.run(
        code("import os; os.system('echo loud; echo louder >&2'); os.write(1, b'bare'); os.write(2, b'bare')"), SOON_S
    )
    assert capfd.readouterr() == ("", "")


async def test_output_may_be_handed_to_another_program(pool):
    await pool.run(code("import subprocess, sys; subprocess.run(['echo', 'x'], stdout=sys.stdout, check=True)"), SOON_S)


@pytest.mark.parametrize(
    "text",
    [
        "sys.stdout.close()",
        "sys.stdout.detach()",
        "import io; sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')",
        "sys.stdout = None",
        "sys.stdout = open('/dev/full', 'w')",
    ],
)
async def test_a_function_may_spoil_its_standard_output_for_itself_only(pool, text):
    await pool.run(code(f"import sys; {text}"), SOON_S)
    with structlog.testing.capture_logs() as logs:
        await pool.run(code("print('heard')"), SOON_S)
    assert [entry["text"] for entry in logs] == ["heard"]


async def test_reading_the_standard_input_finds_its_end(pool):
    assert (await pool.run(Task(eval, ("__import__('sys').stdin.read()",)), SOON_S)).value == ""


async def test_workers_take_no_notice_of_a_terminals_interrupt_nor_of_systemds_sigterm(pool, tmp_path):
    pids = tmp_path / "pids"
    text = f"""
        import os, time
        print(os.getpid(), os.getppid(), file=open({str(pids)!r}, "a"), flush=True)
        time.sleep(0.5)
    """
    sleeping = asyncio.create_task(pool.run(code(text), SOON_S))
    for pid in await written_pids(pids, 2):
        os.kill(pid, signal.SIGINT)
        os.kill(pid, signal.SIGTERM)
    await sleeping


async def test_the_death_of_the_fork_server_costs_the_running_task_only(pool):
    with pytest.raises(WorkerDied, match="its parent process ended"):
        await pool.run(code("import os, time; os.kill(os.getppid(), 9); time.sleep(1000)"), SOON_S)
    assert await still_serves(pool)


async def test_an_idle_worker_that_dies_is_replaced(pool):
    worker = (await pool.run(Task(eval, ("__import__('os').getpid()",)), SOON_S)).value
    os.kill(worker, signal.SIGKILL)
    await gone([worker])
    assert await still_serves(pool)


async def test_no_process_is_left_after_close(tmp_path):
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    pids = tmp_path / "pids"
    async with WorkerPool(3) as pool:
        daemon = f"""
            import os, subprocess
            print(subprocess.Popen(["sleep", "1000"], start_new_session=True).pid, file=open({str(pids)!r}, "a"))
        """
        await pool.run(code(daemon), SOON_S)
        hanging = asyncio.create_task(pool.run(code("while True: pass"), SOON_S))
        await until(lambda: len(psutil.Process().children(recursive=True)) >= len(before) + 4)  # fork server, workers
        started = {process.pid for process in psutil.Process().children(recursive=True)} - before
    await asyncio.gather(hanging, return_exceptions=True)
    assert not [pid for pid in started | set(await written_pids(pids, 1)) if psutil.pid_exists(pid)]


SERVER = """
import asyncio, sys
from reward_server.workers.pool import WorkerPool
from reward_server.workers.tasks import Task

async def main():
    async with WorkerPool(3) as pool:
        pid = f"import os; print(os.getpid(), os.getppid(), file=open({sys.argv[1]!r}, 'a'), flush=True);"
        hang = "while True: pass"
        hold_lock = "import re; re.match('(a+)+$', 'a' * 64 + 'b')"
        tasks = [Task(exec, (pid + "\\n" + text,)) for text in (hang, hold_lock, "import time; time.sleep(1000)")]
        await asyncio.gather(*(pool.run(task, 1000) for task in tasks))

asyncio.run(main())
"""


def a_server(pids):
    return subprocess.Popen([sys.executable, "-c", SERVER, str(pids)])


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_that_is_killed_leaves_no_process(tmp_path, how):
    pids = tmp_path / "pids"
    with a_server(pids) as server:
        try:
            workers = await written_pids(pids, 6)
        finally:
            server.send_signal(how)
    await gone(workers)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a busy worker outlives the death of both its ancestors")
async def test_workers_end_even_if_server_and_fork_server_are_killed_at_once(tmp_path):
    pids = tmp_path / "pids"
    with a_server(pids) as server:
        workers = await written_pids(pids, 6)
        os.kill(workers[1], signal.SIGSTOP)  # so that it is certainly not the one that ends them
        server.kill()
        os.kill(workers[1], signal.SIGKILL)
    await gone(workers)


async def test_the_pool_is_quick_to_replace_many_hanging_workers():
    async with WorkerPool(2) as pool:
        begin = time.monotonic()
        tasks = [pool.run(code("while True: pass"), 0.05) for _ in range(20)]
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(end, WorkTimedOut) for end in ends)
        assert time.monotonic() - begin < SOON_S
        assert await still_serves(pool)
