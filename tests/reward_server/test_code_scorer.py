"""The scorer `code`: programs in completions, tests in columns, scores. What runs the programs here keeps nothing in."""

import math
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from local_sandbox import LocalSandbox

from reward_server.domain import Blame, Call, Health, Sample, Status
from reward_server.errors import SandboxUnavailable
from reward_server.sandbox.base import Outcome
from reward_server.scorers.code.scorer import Code, CodeOptions

ADD = "Here it is:\n```python\ndef add(a, b):\n    return a + b\n```\nDone."
ADD_TESTS = ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(2, 2) == 5", "assert add('a', 'b') == 'ab'"]


async def verdict_on(completion, tests, *, sandbox=None, columns=None, deadline=math.inf, **options):
    sandbox = sandbox or LocalSandbox()
    context = SimpleNamespace(reward_name="solves", folder=Path(), sandboxes=sandbox, asks_hosts=True)
    scorer = Code(CodeOptions(**options), context)
    await scorer.start()
    sample = Sample(completion, columns={"tests": tests, **(columns or {})})
    ((index, verdict),) = [ready async for ready in scorer.score([sample], Call(deadline=deadline))]
    assert index == 0
    return verdict


async def test_the_score_is_the_fraction_of_tests_passed():
    verdict = await verdict_on(ADD, ADD_TESTS)
    assert verdict.score == 0.75
    assert verdict.parts == {"tests_passed": 0.75}
    assert verdict.explanation.startswith("3 of 4 tests passed; test 3: it returned 4")


async def test_or_one_for_all_of_them_and_else_nothing():
    assert (await verdict_on(ADD, ADD_TESTS, score="all")).score == 0.0
    assert (await verdict_on(ADD, ADD_TESTS[:2], score="all")).score == 1.0


@pytest.mark.parametrize(
    ("program", "score"),
    [
        ("print(int(input()) * 2)", 1.0),
        ("print(4)", 0.5),
        ("print(int(input()) * 2, end='  ')", 1.0),
        ("raise SystemExit(1)", 0.0),
        ("print(4\n", 0.0),
        ("while True: pass", 0.0),
    ],
)
async def test_a_program_that_reads_and_writes_is_compared_with_its_outputs(program, score):
    tests = {"inputs": ["1", "2"], "outputs": ["2\n", "4\n"]}
    assert (await verdict_on(program, tests, timeout_s=1.0)).score == score


@pytest.mark.parametrize(
    ("program", "score"),
    [
        ("def f(x, y):\n    return {x, y}", 1.0),
        ("class Solution:\n    def f(self, x, y):\n        return (x, y)", 1.0),
        ("def f(x, y):\n    print('debugging')\n    return [x, y]", 1.0),
        ("def f(x, y):\n    return [y, x]", 0.0),
        ("def g(x, y):\n    return [x, y]", 0.0),
        ("def f(x, y):\n    raise ValueError('no')", 0.0),
        ("def f(x, y):\n    return f", 0.0),
    ],
)
async def test_a_function_that_is_called_is_compared_by_what_it_returns(program, score):
    tests = {"inputs": [[1, 2]], "outputs": [[1, 2]], "fn_name": "f"}
    assert (await verdict_on(program, tests)).score == score


async def test_humanevals_form_is_checked_with_the_functions_name():
    verdict = await verdict_on(
        ADD,
        "def check(candidate):\n    assert candidate(1, 2) == 3",
        columns={"entry_point": "add"},
        entry_point_column="entry_point",
    )
    assert verdict.score == 1.0


async def test_a_setup_runs_before_the_assertions():
    verdict = await verdict_on(
        "def root(x):\n    return x ** 0.5",
        ["assert isclose(root(2), sqrt(2))"],
        columns={"imports": ["from math import sqrt", "from math import isclose"]},
        setup_column="imports",
    )
    assert verdict.score == 1.0


@pytest.mark.parametrize(
    "program",
    [
        "import sys; sys.exit(0)",
        "import os; os._exit(0)",
        "print('-- 0000 --'); raise SystemExit",
        "import sys\nprint(open(sys.argv[0]).read() if len(sys.argv) else '')\nraise SystemExit",
        "import atexit, os; atexit.register(os._exit, 0)\nraise KeyboardInterrupt",
    ],
)
async def test_to_leave_before_the_tests_is_not_to_pass_them(program):
    assert (await verdict_on(program, ["assert add(1, 2) == 3"])).score == 0.0
    assert (await verdict_on(program, {"inputs": [[1]], "outputs": [1], "fn_name": "f"})).score == 0.0


@pytest.mark.parametrize("completion", ["", "  \n", "```text\nprint(1)\n```", "```python\n```"])
async def test_a_completion_without_a_program_passes_no_test(completion):
    verdict = await verdict_on(completion, ADD_TESTS)
    assert verdict.score == 0.0
    assert verdict.explanation == "there is no program in it"


@pytest.mark.parametrize("completion", ["", ADD])
@pytest.mark.parametrize("tests", [None, "", [], {"inputs": []}, 3])
async def test_unreadable_tests_are_nobodys_failure(completion, tests):
    verdict = await verdict_on(completion, tests)
    assert (verdict.score, verdict.status, verdict.blame) == (None, Status.ABSTAINED, Blame.REFERENCE)
    assert "column 'tests'" in verdict.status_reason


async def test_a_sandbox_that_is_away_is_an_outage():
    sandbox = LocalSandbox()
    sandbox.faults = [SandboxUnavailable("it is gone")]
    verdict = await verdict_on(ADD, ADD_TESTS, sandbox=sandbox)
    assert (verdict.score, verdict.status, verdict.blame) == (None, Status.FAILED, Blame.OUTAGE)


async def test_no_time_left_is_missing_and_blamed_on_nobody():
    sandbox = LocalSandbox()
    sandbox.faults = [TimeoutError()]
    verdict = await verdict_on(ADD, ADD_TESTS, sandbox=sandbox)
    assert (verdict.score, verdict.blame) == (None, Blame.UNKNOWN)


async def test_a_job_that_was_killed_by_chance_is_run_again():
    sandbox = LocalSandbox()
    sandbox.faults = [Outcome.KILLED]
    assert (await verdict_on(ADD, ADD_TESTS, sandbox=sandbox)).score == 0.75
    assert len(sandbox.jobs) == 2


async def test_a_job_that_was_killed_twice_is_run_once_more_alone():
    sandbox = LocalSandbox()
    sandbox.faults = [Outcome.KILLED] * 2
    assert (await verdict_on(ADD, ADD_TESTS, sandbox=sandbox)).score == 0.75
    assert len(sandbox.jobs) == 3


async def test_a_program_that_gets_its_sandbox_killed_where_others_live_is_held_to_account():
    sandbox = LocalSandbox()
    sandbox.faults = [Outcome.KILLED] * 3
    verdict = await verdict_on(ADD, ADD_TESTS, sandbox=sandbox)
    assert (verdict.score, verdict.status, verdict.blame) == (None, Status.FAILED, Blame.COMPLETION)
    assert sandbox.jobs[3].source == "pass"
    assert len(sandbox.jobs) == 4


async def test_where_a_program_that_does_nothing_is_killed_too_nobody_is_blamed():
    sandbox = LocalSandbox()
    sandbox.faults = [Outcome.KILLED] * 4
    verdict = await verdict_on(ADD, ADD_TESTS, sandbox=sandbox)
    assert (verdict.score, verdict.blame) == (None, Blame.UNKNOWN)


async def test_what_the_deadline_kills_is_nobodys_fault_and_not_run_again():
    sandbox = LocalSandbox()
    sandbox.faults = [Outcome.KILLED] * 3
    verdict = await verdict_on(ADD, ADD_TESTS, sandbox=sandbox, deadline=time.monotonic())
    assert (verdict.score, verdict.blame) == (None, Blame.UNKNOWN)
    assert "no time left" in verdict.status_reason
    assert len(sandbox.jobs) == 1


@pytest.mark.parametrize("outcome", [Outcome.TIMED_OUT, Outcome.OUT_OF_MEMORY, Outcome.OUTPUT_LIMIT, Outcome.FAILED])
async def test_what_a_program_does_to_itself_fails_its_tests(outcome):
    sandbox = LocalSandbox()
    sandbox.faults = [outcome]
    verdict = await verdict_on(ADD, ADD_TESTS, sandbox=sandbox)
    assert verdict.score == 0.0
    assert "0 of 4 tests passed; test 1: " in verdict.explanation


async def test_only_the_first_tests_are_run_where_there_are_too_many():
    sandbox = LocalSandbox()
    await verdict_on(ADD, ["assert add(1, 2) == 3"] * 100, sandbox=sandbox, max_tests=3)
    assert len(sandbox.jobs[0].runs) == 3


async def test_what_is_expected_never_enters_the_sandbox_where_output_is_compared():
    sandbox = LocalSandbox()
    await verdict_on("print(1)", {"inputs": ["17"], "outputs": ["31415926"]}, sandbox=sandbox)
    await verdict_on(ADD, {"inputs": [[1]], "outputs": [31415926], "fn_name": "f"}, sandbox=sandbox)
    await verdict_on(ADD, ["assert add(1, 2) == 31415926"], sandbox=sandbox)
    check = "def check(candidate):\n    assert candidate(1, 2) == 31415926"
    await verdict_on(ADD, check, sandbox=sandbox, columns={"name": "add"}, entry_point_column="name")
    assert "31415926" not in repr(sandbox.jobs)


FINDS_THE_MARK = """
import re, sys, os
def look(text):
    if found := re.search("-- [0-9a-f]{32} --", text):
        print()
        print(found[0] + WRITES)
        sys.stdout.flush()
        os._exit(0)
def trace(frame, event, argument):
    look(repr(frame.f_code.co_consts))
sys.settrace(trace)
try:
    look("".join(sys.orig_argv))
    frame = sys._getframe()
    while frame:
        look(repr(frame.f_locals))
        frame = frame.f_back
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize("writes", ["", "[]", "[true]", "[null]", "[0]", "0", '[{"int": "0x0"}]', "[[[]]]"])
@pytest.mark.parametrize(
    "test", ["assert f(1) == 2", "assert f(1) == 'two', 'x'", "assert not f(1)", "assert abs(f(1) - 2) < 1e-6"]
)
async def test_a_program_that_looks_for_the_mark_passes_no_test_whose_answer_it_does_not_know(writes, test):
    assert (await verdict_on(FINDS_THE_MARK.replace("WRITES", repr(writes)), [test])).score == 0.0


async def test_it_does_not_compare_samples():
    scorer = Code(
        CodeOptions(), SimpleNamespace(reward_name="solves", folder=Path(), sandboxes=LocalSandbox(), asks_hosts=True)
    )
    assert not scorer.compares


async def test_its_health_is_the_sandboxs():
    sandbox = LocalSandbox()
    sandbox.said_health = Health(serving=False, reason="it does not hold", refuses=True)
    scorer = Code(
        CodeOptions(), SimpleNamespace(reward_name="solves", folder=Path(), sandboxes=sandbox, asks_hosts=True)
    )
    assert scorer.health().refuses


async def test_verdicts_come_as_they_are_ready_and_closing_stops_the_rest():
    scorer = Code(
        CodeOptions(), SimpleNamespace(reward_name="solves", folder=Path(), sandboxes=LocalSandbox(), asks_hosts=True)
    )
    slow, quick = "import time; time.sleep(60)", "print(1)"
    samples = [Sample(text, columns={"tests": [{"input": "", "output": "1"}]}) for text in (slow, quick)]
    verdicts = scorer.score(samples, Call(deadline=math.inf))
    assert (await anext(verdicts))[0] == 1
    await verdicts.aclose()
