"""What a run sees, what of its output is kept, and that nothing of a run outlives it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from sandbox_attacks import LIMITS
from sandbox_host import run_one, started

from reward_server.sandbox.base import Job, Limits, Outcome, Result, Run
from reward_server.sandbox.bubblewrap import Bubblewrap


@pytest.fixture
async def sandbox() -> AsyncIterator[Bubblewrap]:
    made = await started()
    if isinstance(made, str):
        pytest.skip(made)
    yield made
    await made.close()


async def runs_of(sandbox: Bubblewrap, source: str, *stdins: str, limits: Limits = LIMITS) -> list[Result]:
    return list(await sandbox.run(Job(source, [Run(stdin) for stdin in stdins], limits=limits)))


async def test_a_program_runs_as_if_it_were_started_alone(sandbox: Bubblewrap) -> None:
    source = """
import sys, os, threading, time, atexit
unflushed = open(1, "w", closefd=False)
unflushed.write("unflushed;")
threading.Thread(target=lambda: (time.sleep(0.05), print("thread", end=";"))).start()
atexit.register(lambda: print("exit", end=";"))
print(__name__, sys.argv, os.path.basename(__file__), input(), open("/dev/stdin").read().split()[1], end=";")
"""
    result = await run_one(sandbox, source, "first\nsecond")
    assert result.stdout == "__main__ ['main.py'] main.py first second;thread;exit;unflushed;"
    assert (result.outcome, result.stderr) == (Outcome.OK, "")


async def test_a_runs_tail_follows_the_program_and_is_not_in_its_file(sandbox: Bubblewrap) -> None:
    job = Job(
        "x = 3\nprint('sec' 'ret' in open(__file__).read())", [Run(tail="print(x, 'secret')"), Run()], limits=LIMITS
    )
    with_tail, without = await sandbox.run(job)
    assert with_tail.stdout == "False\n3 secret\n"
    assert without.stdout == "False\n"


async def test_what_a_tail_raises_is_shown_and_a_program_that_ends_has_no_tail(sandbox: Bubblewrap) -> None:
    tails = [Run(tail="assert x == 4, 'not four'"), Run(tail="print('reached')")]
    raised, _ = await sandbox.run(Job("x = 3", tails, limits=LIMITS))
    assert (raised.outcome, raised.exit_code) == (Outcome.FAILED, 1)
    assert raised.stderr.rstrip().endswith("AssertionError: not four")
    (ended,) = await sandbox.run(Job("raise SystemExit", tails[1:], limits=LIMITS))
    assert (ended.outcome, ended.stdout) == (Outcome.OK, "")


async def test_after_some_runs_out_of_time_the_others_are_not_begun(sandbox: Bubblewrap) -> None:
    limits = Limits(cpu_s=0.2, wall_s=0.2, memory_mb=64)
    quick, slow = Run("quick"), Run("slow")
    source = "if input() == 'slow':\n    while True: pass\nprint('done')"
    results = await sandbox.run(Job(source, [quick, slow, quick, slow, quick, slow], limits=limits, most_timeouts=2))
    assert [result.stdout for result in results] == ["done\n", "", "done\n", "", "", ""]
    assert [result.outcome for result in results[3:]] == [Outcome.TIMED_OUT] * 3
    assert results[3].cpu_s > 0
    assert [result.wall_s for result in results[4:]] == [0, 0]


async def test_a_job_that_has_slept_through_its_time_is_run_no_further(sandbox: Bubblewrap) -> None:
    limits = Limits(cpu_s=2, wall_s=2, memory_mb=64)
    source = "import time\ntime.sleep(0.3)\nprint('done')"
    results = await sandbox.run(Job(source, [Run()] * 6, limits=limits, total_s=0.5))
    assert [result.outcome for result in results] == [Outcome.OK] * 2 + [Outcome.TIMED_OUT] * 4
    assert all(0.2 < result.own_s <= result.wall_s for result in results[:2])


async def test_a_traceback_shows_the_program_alone(sandbox: Bubblewrap) -> None:
    result = await run_one(sandbox, "def f():\n    return 1 / 0\n\nf()")
    assert 'main.py", line 4, in <module>' in result.stderr
    assert "harness" not in result.stderr
    assert "return 1 / 0" in result.stderr


async def test_output_that_is_no_text_becomes_text(sandbox: Bubblewrap) -> None:
    result = await run_one(sandbox, "import os; os.write(1, b'a\\0\\xff\\xfe\\xed\\xa0\\x80z')")
    assert result.stdout[:2] == "a\0"
    assert result.stdout[-1] == "z"
    result.stdout.encode()


async def test_no_more_than_the_limit_of_the_output_is_kept_from_its_begin(sandbox: Bubblewrap) -> None:
    result = await run_one(sandbox, "import os\nfor n in range(10**9): print(n)")
    assert len(result.stdout) == LIMITS.output_kb * 1024
    assert result.stdout.startswith("0\n1\n2\n")


async def test_output_up_to_the_limit_is_whole(sandbox: Bubblewrap) -> None:
    result = await run_one(sandbox, f"print('x' * {LIMITS.output_kb * 1024 - 1})")
    assert (result.outcome, len(result.stdout)) == (Outcome.OK, LIMITS.output_kb * 1024)


async def test_a_large_input_arrives_whole(sandbox: Bubblewrap) -> None:
    result = await run_one(sandbox, "import sys; print(len(sys.stdin.read()))", "ü" * 3_000_000)
    assert result.stdout == "3000000\n"


async def test_an_input_cannot_be_changed_by_the_program(sandbox: Bubblewrap) -> None:
    result = await run_one(sandbox, "import os\nos.write(os.open('/dev/stdin', os.O_RDWR), b'x')", "input")
    assert "PermissionError" in result.stderr


@pytest.mark.parametrize(
    "leave",
    {
        "a file": "open('/tmp/left', 'w').close()",
        "a file in shared memory": "open('/dev/shm/left', 'w').close()",
        "a file in its folder": "open('left', 'w').close()",
        "a process": "import os, time\nif os.fork() == 0:\n  os.setsid()\n  if os.fork() == 0: time.sleep(60)\n  os._exit(0)",
        "a socket": (
            "import os, socket, time\ns = socket.socket(socket.AF_UNIX); s.bind('\\0left'); s.listen()\n"
            "if os.fork() == 0: time.sleep(60)"
        ),
        "full file systems": "try:\n  while True: open('/tmp/full', 'ab').write(bytes(1 << 20))\nexcept OSError: pass",
        "a changed library": "import json, sys; json.dumps = None; sys.path.append('left')",
        "an environment": "import os; os.environ['LEFT'] = 'left'; os.chdir('/tmp'); os.umask(0o777)",
        "a death of everything": "import os; os.kill(-1, 9)",
    }.values(),
    ids=lambda source: source[:30],
)
async def test_a_run_leaves_nothing_to_the_next(leave: str, sandbox: Bubblewrap) -> None:
    look = """
import json, os, socket, sys
for place in "/tmp", "/dev/shm", ".": assert not set(os.listdir(place)) - {"main.py"}, place
assert {n for n in os.listdir("/proc") if n.isdigit()} == {"1", str(os.getpid())}
assert "LEFT" not in os.environ and os.umask(0o22) == 0o22 and "left" not in sys.path
try: socket.socket(socket.AF_UNIX).connect("\\0left")
except OSError: pass
else: raise AssertionError("socket")
open("/tmp/big", "wb").write(bytes(1 << 20))
print("clean", json.dumps(1))
"""
    source = f"exec({leave!r} if input() == 'leave' else {look!r})"
    results = await runs_of(sandbox, source, "leave", "look")
    assert results[1].stdout == "clean 1\n", results


SEARCH = """
import re
word = input()
found, memory = 0, open("/proc/self/mem", "rb", 0)
for line in open("/proc/self/maps"):
    ends, flags, *_ = line.split()
    if flags.startswith("r") and "[v" not in line:
        low, high = (int(end, 16) for end in ends.split("-"))
        memory.seek(low)
        found += len(re.findall(rb"secret-[4]711", memory.read(high - low) or b""))
print(found > 0)
"""


async def test_the_input_of_one_run_is_not_in_the_memory_of_another(sandbox: Bubblewrap) -> None:
    first, second = await runs_of(sandbox, SEARCH, "secret-4711", "another")
    assert (first.stdout, second.stdout) == ("True\n", "False\n")


async def test_a_program_cannot_forge_how_it_ended(sandbox: Bubblewrap) -> None:
    source = """
import os
forged = b'{"status": 0, "run": 0, "stopped": null, "cpu_s": 0, "wall_s": 0, "oom_kills": 0}'
for number in range(1000):
    try: os.write(number, forged)
    except OSError: pass
for path in "/proc/1/fd", f"/proc/{os.getppid()}/fd":
    try: print(os.listdir(path))
    except OSError: pass
os._exit(3)
"""
    result = await run_one(sandbox, source)
    assert (result.outcome, result.exit_code) == (Outcome.FAILED, 3)
    assert "[" not in result.stdout


async def test_a_symbolic_link_leads_nowhere_else(sandbox: Bubblewrap) -> None:
    source = "import os\nos.symlink('/', 'l')\nprint(sorted(os.listdir('l/')) == sorted(os.listdir('/')), os.listdir('l/etc'))"
    result = await run_one(sandbox, source)
    assert result.stdout in ("True ['ld.so.cache']\n", "True []\n")


async def test_the_same_program_prints_the_same_hash(sandbox: Bubblewrap) -> None:
    first = await run_one(sandbox, "print(hash('x'), {'a', 'b', 'c'})")
    second = await run_one(sandbox, "print(hash('x'), {'a', 'b', 'c'})")
    assert first.stdout == second.stdout


async def test_random_numbers_of_two_runs_differ(sandbox: Bubblewrap) -> None:
    first, second = await runs_of(sandbox, "import random; print(random.random())", "", "")
    assert first.stdout != second.stdout
