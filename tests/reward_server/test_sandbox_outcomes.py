"""How a run ends, by its own doing or by a limit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from sandbox_attacks import LIMITS
from sandbox_host import run_one, started

from reward_server.sandbox.base import Outcome
from reward_server.sandbox.bubblewrap import Bubblewrap


@pytest.fixture
async def sandbox() -> AsyncIterator[Bubblewrap]:
    made = await started()
    if isinstance(made, str):
        pytest.skip(made)
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("source", "outcome", "exit_code"),
    {
        "it ends": ("print(1)", Outcome.OK, 0),
        "it exits with 0": ("raise SystemExit", Outcome.OK, 0),
        "it exits with 3": ("import sys; sys.exit(3)", Outcome.FAILED, 3),
        "it exits with words": ("import sys; sys.exit('words')", Outcome.FAILED, 1),
        "it raises": ("1/0", Outcome.FAILED, 1),
        "it is no Python": ("1 +", Outcome.FAILED, 1),
        "it has a NUL": ("print(1)\0", Outcome.FAILED, 1),
        "it is nested too deep": ("(" * 5000 + ")" * 5000, Outcome.FAILED, 1),
        "it has a lone surrogate": ("print('\ud800')", Outcome.OK, 0),
        "it ends at once": ("import os; os._exit(7)", Outcome.FAILED, 7),
        "it aborts": ("import os; os.abort()", Outcome.FAILED, -6),
        "it kills itself": ("import os; os.kill(os.getpid(), 9)", Outcome.FAILED, -9),
        "it kills its group": ("import os; os.killpg(0, 15)", Outcome.FAILED, -15),
        "it crashes": ("import ctypes; ctypes.string_at(0)", Outcome.FAILED, -11),
        "it makes a forbidden system call": ("import ctypes; ctypes.CDLL(None).syscall(272, 0)", Outcome.OK, 0),
        "it loops": ("while True: pass", Outcome.TIMED_OUT, None),
        "it loops in many processes": (
            "import os\nfor _ in range(3): os.fork()\nwhile True: pass",
            Outcome.TIMED_OUT,
            None,
        ),
        "it ignores all signals": (
            "import signal\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n  except Exception: pass\nwhile True: pass",
            Outcome.TIMED_OUT,
            None,
        ),
        "it sleeps": ("import time; time.sleep(60)", Outcome.TIMED_OUT, None),
        "it stops itself": ("import os; os.kill(os.getpid(), 19)", Outcome.TIMED_OUT, None),
        "it looks as if it waited for a disk": (
            "import ctypes\nif ctypes.CDLL(None).vfork() == 0: ctypes.CDLL(None).sleep(60)",
            Outcome.TIMED_OUT,
            None,
        ),
        "it hides its output in a socket": (
            "import socket\na, b = socket.socketpair()\nsocket.send_fds(a, [b'x'], [1, a.fileno(), b.fileno()])",
            Outcome.OK,
            0,
        ),
        "it asks for too much memory": ("bytearray(10**11)", Outcome.OUT_OF_MEMORY, 1),
        "it hoards memory": ("held = []\nwhile True: held.append(bytearray(1 << 20))", Outcome.OUT_OF_MEMORY, None),
        "it floods stdout": ("while True: print('x' * 999)", Outcome.OUTPUT_LIMIT, None),
        "it floods stderr": ("import os\nwhile True: os.write(2, b'x' * 999)", Outcome.OUTPUT_LIMIT, None),
        "it prints one huge line": ("print('x' * 10_000_000)", Outcome.OUTPUT_LIMIT, None),
        "it closes its outputs": ("import os; os.close(1); os.close(2)", Outcome.OK, 0),
        "it deletes its folder": ("import os, shutil; shutil.rmtree(os.getcwd(), ignore_errors=True)", Outcome.OK, 0),
        "it leaves threads behind": (
            "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
            Outcome.OK,
            0,
        ),
        "it signals the first process": (
            "import os\nfor s in (9, 15, 19, 2, 1, 11):\n  try: os.kill(1, s)\n  except OSError: pass",
            Outcome.OK,
            0,
        ),
    }.values(),
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
async def test_the_end_of_a_run_is_told_as_it_was(
    source: str, outcome: Outcome, exit_code: int | None, sandbox: Bubblewrap
) -> None:
    limits = replace(LIMITS, cpu_s=0.7, wall_s=1.0) if outcome is Outcome.TIMED_OUT else LIMITS
    result = await run_one(sandbox, source, limits=limits)
    assert (result.outcome, result.exit_code) == (outcome, exit_code) or (
        outcome is Outcome.OUTPUT_LIMIT and result.outcome is outcome
    ), result


async def test_a_program_has_as_many_processes_as_it_may(sandbox: Bubblewrap) -> None:
    source = "import os, time\nn = 1\ntry:\n  while os.fork(): n += 1\n  time.sleep(60)\nexcept OSError: print(n)"
    result = await run_one(sandbox, source, limits=replace(LIMITS, processes=5))
    assert result.stdout == "5\n"


@pytest.mark.parametrize("wrong", [{"cpu_s": 0}, {"wall_s": -1}, {"memory_mb": float("inf")}, {"processes": 0}])
def test_limits_that_limit_nothing_or_all_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(LIMITS, **wrong)


async def test_a_busy_machine_makes_no_program_late(sandbox: Bubblewrap) -> None:
    busy = "import time\nend = time.time() + 20\nwhile time.time() < end: pass"
    source = "import time\nwhile time.process_time() < 0.2: pass"
    others = [subprocess.Popen([sys.executable, "-c", busy]) for _ in range(4 * (os.cpu_count() or 1))]  # noqa: ASYNC220
    try:
        result = await run_one(sandbox, source, limits=replace(LIMITS, wall_s=0.6))
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert result.outcome is Outcome.OK, result


async def test_time_of_child_processes_counts(sandbox: Bubblewrap) -> None:
    source = "import os\nif os.fork() == 0:\n  while True: pass\nos.wait()"
    result = await run_one(sandbox, source, limits=replace(LIMITS, cpu_s=0.5, wall_s=60))
    assert result.outcome is Outcome.TIMED_OUT
    assert result.cpu_s >= 0.5
