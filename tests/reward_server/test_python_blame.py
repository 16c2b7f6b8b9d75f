"""A completion on which a person's function breaks is blamed if a neighbour with the same inputs proves it."""

import functools

import pytest
from python_rewards import started, verdicts

from reward_server.domain import Blame, Sample, Status
from reward_server.workers.pool import WorkerPool

PARSER = """
import ctypes, os
def reward(completions, answer, **kwargs):
    scores = []
    with open(os.path.join(os.path.dirname(__file__), "log"), "a") as log:
        print(*completions, sep="|", file=log)
    for completion, gold in zip(completions, answer):
        text = completion + gold
        if "hang" in text:
            while True: pass
        if "crash" in text: ctypes.string_at(0)
        if "memory" in text:
            held = []
            while True: held.append(bytearray(b"x") * (1 << 20))
        scores.append(-abs(float(completion) - float(gold)))
    return scores
"""

FROM_THE_MEAN = """
def reward(completions):
    values = [float(completion) for completion in completions]
    mean = sum(values) / len(values)
    return [value - mean for value in values]
"""

BREAKS = ("hang", "crash", "memory", "no number", "nan")


@pytest.fixture
async def pool():
    async with WorkerPool(2) as pool:
        yield pool


@pytest.fixture
async def start(pool, tmp_path):
    """Returns a function that starts the scorer of the function `reward` in a file of that text."""
    return functools.partial(started, pool, tmp_path)


def numbers(*completions, answer="4"):
    return [
        Sample(text, "2 + 2?", {"answer": answer, "completion_ids": [place]}) for place, text in enumerate(completions)
    ]


@pytest.mark.parametrize("calls", ["batch", "sample"])
@pytest.mark.parametrize("culprit", BREAKS)
async def test_what_breaks_it_again_alone_is_blamed_and_its_neighbours_are_scored(start, calls, culprit):
    scorer = await start(PARSER, calls=calls, timeout_s=0.6, memory_mb=64)
    got = await verdicts(scorer, numbers("4", "5", culprit, "2"))
    assert [verdict.score for verdict in got] == [0.0, -1.0, None, -2.0]
    assert (got[2].status, got[2].blame) == (Status.FAILED, Blame.COMPLETION)
    assert "while a neighbour with the same inputs was scored" in got[2].status_reason


@pytest.mark.parametrize("calls", ["batch", "sample"])
@pytest.mark.parametrize("culprit", ["hang", "crash", "no number"])
async def test_a_reference_that_breaks_it_is_held_against_nobody(start, calls, culprit):
    scorer = await start(PARSER, calls=calls, timeout_s=0.6)
    got = await verdicts(scorer, numbers("4", "5", answer=culprit) + numbers("4", "3"))
    assert [verdict.score for verdict in got] == [None, None, 0.0, -1.0]
    assert {verdict.blame for verdict in got} == {Blame.UNKNOWN}


async def test_in_quarantine_it_breaks_no_batch_any_more(start, tmp_path):
    scorer = await start(PARSER)
    for _ in range(2):
        await verdicts(scorer, numbers("4", "no number", "2"))
    (tmp_path / "log").unlink()
    got = await verdicts(scorer, numbers("4", "no number", "2"))
    assert (tmp_path / "log").read_text() == "4|2\n"
    assert [verdict.score for verdict in got] == [0.0, None, -2.0]
    assert got[1].flags == ("quarantined",)
    assert got[1].blame is Blame.COMPLETION


@pytest.mark.parametrize("text", ["1", "no number", "nan"])
async def test_of_a_function_that_compares_nobody_is_blamed(start, text):
    got = await verdicts(await start(FROM_THE_MEAN), [Sample("1"), Sample("3"), Sample(text), Sample("no number")])
    assert {(verdict.score, verdict.blame) for verdict in got} == {(None, Blame.UNKNOWN)}


async def test_by_group_nobody_is_blamed(start):
    got = await verdicts(await start(PARSER, calls="group"), numbers("4", "no number"))
    assert {(verdict.score, verdict.blame) for verdict in got} == {(None, Blame.UNKNOWN)}


async def test_a_score_that_only_comes_alone_does_not_count_where_the_function_may_compare(start):
    text = "def reward(completions):\n    return [1.0 if len(completions) == 1 or c == 'a' else 'none' for c in completions]"
    got = await verdicts(await start(text), [Sample("a"), Sample("b")])
    assert [verdict.score for verdict in got] == [1.0, None]
    assert got[1].blame is Blame.UNKNOWN


async def test_a_crash_that_does_not_come_again_is_no_miss(start, tmp_path):
    text = (
        "import os\nfrom pathlib import Path\ndef reward(completions):\n"
        f"    if not Path({str(tmp_path / 'gone-off')!r}).exists():\n"
        f"        Path({str(tmp_path / 'gone-off')!r}).touch()\n        os._exit(3)\n    return [1.0] * len(completions)"
    )
    (verdict,) = await verdicts(await start(text), [Sample("a")])
    assert verdict.score == 1.0
