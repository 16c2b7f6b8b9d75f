"""The life of sandboxes: started, one job each, killed; as root, as a user, and where none can be had."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from sandbox_attacks import LIMITS
from sandbox_host import started
from waiting import until

import reward_server
from reward_server.errors import SandboxUnavailable
from reward_server.sandbox import bubblewrap, command, seccomp
from reward_server.sandbox.base import Job, Outcome, Run, Sandbox
from reward_server.sandbox.box import Box, _start
from reward_server.sandbox.bubblewrap import Bubblewrap

SLEEP = "import time; time.sleep(60)"


@pytest.fixture
async def sandbox() -> AsyncIterator[Bubblewrap]:
    made = await started()
    if isinstance(made, str):
        pytest.skip(made)
    yield made
    await made.close()


async def test_the_sandbox_is_a_sandbox(sandbox: Bubblewrap) -> None:
    assert isinstance(sandbox, Sandbox)
    assert sandbox.health().serving


async def test_the_version_names_what_runs_the_programs(sandbox: Bubblewrap) -> None:
    shown = json.loads(json.dumps(sandbox.identity()))
    assert shown["bwrap"].startswith("bubblewrap ")
    assert shown["python"] == ".".join(map(str, sys.version_info[:3]))
    assert shown["system_calls"] == seccomp.digest(seccomp.program())
    assert shown["packages"]


async def test_its_version_is_found_once_and_then_at_hand(sandbox: Bubblewrap, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_process(*args: object, **options: object) -> None:
        raise AssertionError("a process")

    monkeypatch.setattr(subprocess, "Popen", no_process)
    monkeypatch.setattr(seccomp, "program", no_process)
    assert sandbox.identity() is sandbox.identity()


def test_another_installed_package_is_another_version(tmp_path: Path) -> None:
    made = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(made)], check=True)
    python = str(made / "bin" / "python")
    before = command.Interpreter.at(python)
    (site,) = made.glob("lib/python*/site-packages")
    (site / "thing-1.0.dist-info").mkdir()
    (site / "thing-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n")
    command.Interpreter.at.cache_clear()
    after = command.Interpreter.at(python)
    command.Interpreter.at.cache_clear()
    assert before.version == after.version
    assert before.packages != after.packages


async def test_results_come_in_the_order_of_the_runs(sandbox: Bubblewrap) -> None:
    results = await sandbox.run(Job("print(input())", [Run(str(number)) for number in range(5)], limits=LIMITS))
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(5)]


async def test_a_job_without_runs_has_no_results(sandbox: Bubblewrap) -> None:
    assert await sandbox.run(Job("1/0", [])) == []


async def test_another_language_is_refused(sandbox: Bubblewrap) -> None:
    with pytest.raises(ValueError, match="runs python, not cobol"):
        await sandbox.run(Job("DISPLAY 'x'.", [Run()], language="cobol"))


async def test_what_has_not_ended_at_the_deadline_is_killed_and_nobodys_fault(sandbox: Bubblewrap) -> None:
    source = f"if input() == 'sleep': exec({SLEEP!r})"
    runs = [Run("go"), Run("sleep"), Run("go")]
    results = await sandbox.run(Job(source, runs, limits=LIMITS), time.monotonic() + 1.5)
    assert [result.outcome for result in results] == [Outcome.OK, Outcome.KILLED, Outcome.KILLED]


async def test_a_cancelled_job_leaves_no_process(sandbox: Bubblewrap) -> None:
    boxes = _watched(sandbox)
    task = asyncio.create_task(sandbox.run(Job(SLEEP, [Run()], limits=LIMITS)))
    await until(lambda: boxes)
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: not any(_exists(box._process.pid) for box in boxes), 10)


async def test_no_more_jobs_run_at_a_time_than_allowed() -> None:
    sandbox = Bubblewrap(max_jobs=2, spare_count=1)
    await sandbox.start()
    if not sandbox.health().serving:
        pytest.skip(sandbox.health().reason)
    source = "import time; a = time.time(); time.sleep(0.2); print(a, time.time())"
    results = await asyncio.gather(*(sandbox.run(Job(source, [Run()])) for _ in range(5)))
    times = [tuple(map(float, result[0].stdout.split())) for result in results]
    at_a_time = [sum(begin <= moment < end for begin, end in times) for moment, _ in times]
    assert max(at_a_time) <= 2
    await sandbox.close()


async def test_each_job_has_a_sandbox_of_its_own(sandbox: Bubblewrap) -> None:
    boxes = _watched(sandbox)
    for _ in range(3):
        await sandbox.run(Job("pass", [Run(), Run()]))
    assert len({box._process.pid for box in boxes}) == 3
    assert not any(_exists(box._process.pid) for box in boxes)


async def test_a_sandbox_killed_while_it_boots_leaves_no_process(sandbox: Bubblewrap) -> None:
    assert sandbox._boot is not None
    line = [*sandbox._boot.command, "--", "left-behind"]
    for number in range(40):
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            half_booted = Box(_start(line, theirs.fileno(), None), ours)
            await asyncio.sleep(number / 10_000)
            half_booted._kill()
            await half_booted.close()
    await until(
        lambda: not any("left-behind" in " ".join(process.info["cmdline"] or []) for process in _processes()), 10
    )


async def test_spare_sandboxes_are_killed_with_the_others() -> None:
    sandbox = Bubblewrap(max_jobs=1, spare_count=2)
    await sandbox.start()
    if not sandbox.health().serving:
        pytest.skip(sandbox.health().reason)
    pids = [(await spare)._process.pid for spare in sandbox._spares]
    await sandbox.close()
    assert len(pids) == 2
    assert not any(map(_exists, pids))
    with pytest.raises(SandboxUnavailable, match="shutting down"):
        await sandbox.run(Job("pass", [Run()]))


async def test_closing_kills_what_runs(sandbox: Bubblewrap) -> None:
    boxes = _watched(sandbox)
    tasks = [asyncio.create_task(sandbox.run(Job(SLEEP, [Run()], limits=LIMITS))) for _ in range(20)]
    await until(lambda: boxes)
    await asyncio.sleep(0.1)
    await sandbox.close()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    ended = [result[0].outcome for result in results if not isinstance(result, BaseException)]
    assert set(ended) == {Outcome.KILLED}, results
    assert all(isinstance(result, SandboxUnavailable) for result in results if isinstance(result, BaseException))
    assert not any(_exists(box._process.pid) for box in boxes)


async def test_a_dead_spare_is_not_given_to_a_job() -> None:
    sandbox = Bubblewrap(max_jobs=1, spare_count=1)
    await sandbox.start()
    if not sandbox.health().serving:
        pytest.skip(sandbox.health().reason)
    box = await sandbox._spares[0]
    box._process.kill()
    box._process.wait()
    assert (await sandbox.run(Job("print(1)", [Run()])))[0].stdout == "1\n"
    await sandbox.close()


async def test_a_sandbox_that_dies_under_a_run_is_not_the_programs_fault(sandbox: Bubblewrap) -> None:
    boxes = _watched(sandbox)
    task = asyncio.create_task(sandbox.run(Job(SLEEP, [Run(), Run()], limits=LIMITS)))
    await until(lambda: boxes)
    await asyncio.sleep(0.1)
    boxes[0]._process.kill()
    assert [result.outcome for result in await task] == [Outcome.KILLED, Outcome.KILLED]
    assert sandbox.health().serving


async def test_health_tells_of_a_sandbox_that_does_not_boot_until_one_does(
    sandbox: Bubblewrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = sandbox._boot
    assert good is not None
    monkeypatch.setattr(
        sandbox, "_boot", bubblewrap.Boot(("/bin/false",), good.rules, good.modules, good.as_administrator)
    )
    with pytest.raises(SandboxUnavailable):
        await sandbox.run(Job("pass", [Run()]))
    assert not sandbox.health().serving
    assert not sandbox.health().refuses
    monkeypatch.setattr(sandbox, "_boot", good)
    await sandbox.run(Job("pass", [Run()]))
    assert sandbox.health().serving


async def test_a_sandbox_that_was_not_started_runs_nothing() -> None:
    with pytest.raises(SandboxUnavailable, match="not been started"):
        await Bubblewrap().run(Job("pass", [Run()]))


SERVER = f"""
import asyncio, sys
from reward_server.sandbox.base import Job, Run
from reward_server.sandbox.box import Box, _start
from reward_server.sandbox.bubblewrap import Bubblewrap
async def main():
    sandbox = Bubblewrap(max_jobs=2)
    await sandbox.start()
    if not sandbox.health().serving: sys.exit(sandbox.health().reason)
    fork = "import os\\nfor _ in range(3): os.fork()\\n" + {SLEEP!r}
    jobs = [asyncio.create_task(sandbox.run(Job(fork, [Run()]))) for _ in range(2)]
    await asyncio.sleep(1)
    print("running", flush=True)
    await asyncio.gather(*jobs)
asyncio.run(main())
"""


async def test_nothing_survives_a_killed_server() -> None:
    server = subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", SERVER], stdout=subprocess.PIPE, cwd=_root(), text=True
    )
    assert server.stdout is not None
    if "running" not in await asyncio.to_thread(server.stdout.readline):
        pytest.skip("no sandbox here")
    processes = psutil.Process(server.pid).children(recursive=True)
    assert len(processes) >= 2 * 10
    server.send_signal(signal.SIGKILL)
    server.wait()
    server.stdout.close()
    await until(lambda: not any(map(psutil.Process.is_running, processes)), 10)


def _root() -> Path:
    return Path(reward_server.__file__).parents[1]


def _processes() -> Iterator[psutil.Process]:
    return psutil.process_iter(["cmdline"])


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def _watched(sandbox: Bubblewrap) -> list[bubblewrap.Box]:
    """Returns a list in which the sandboxes that are made from now on are kept."""
    boxes: list[bubblewrap.Box] = []
    make = sandbox._new_box

    async def made() -> bubblewrap.Box:
        boxes.append(await make())
        return boxes[-1]

    sandbox._new_box = made
    return boxes
