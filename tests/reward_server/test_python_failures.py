"""Where a person's function raises, hangs or dies, the sample to blame is named and its neighbours are scored."""

import asyncio
import functools
import time

import psutil
import pytest
from python_rewards import started, verdicts
from waiting import until

from reward_server.domain import Blame, Call, Sample, Status
from reward_server.workers.pool import WorkerPool

SOON_S = 30.0  # far more than anything here takes: only against a hang

TEXT_LENGTH = """
import ctypes, os
def reward(completions, **kwargs):
    scores = []
    for completion in completions:
        if completion == "raise": raise ValueError("cannot parse it")
        if completion == "hang":
            while True: pass
        if completion == "crash": ctypes.string_at(0)
        if completion == "exit": os._exit(3)
        scores.append(len(completion))
    return scores
"""

FROM_THE_MEAN = """
def reward(completions, **kwargs):
    if "raise" in completions: raise ValueError("no")
    mean = sum(map(len, completions)) / len(completions)
    return [len(completion) - mean for completion in completions]
"""


@pytest.fixture
async def pool():
    async with WorkerPool(2) as pool:
        yield pool


@pytest.fixture
async def start(pool, tmp_path):
    """Returns a function that starts the scorer of the function `reward` in a file of that text."""
    return functools.partial(started, pool, tmp_path)


def texts(*completions, group_size=4):
    return [Sample(text, group=place // group_size) for place, text in enumerate(completions)]


@pytest.mark.parametrize(
    ("culprit", "told"),
    [
        ("raise", "reward raised ValueError: cannot parse it (rewards.py, line 6, in reward)"),
        ("hang", "reward did not return in time and was stopped: no result within"),
        ("crash", "the process that ran reward ended under it: killed by SIGSEGV"),
        ("exit", "the process that ran reward ended under it: exit status 3"),
    ],
)
async def test_one_bad_sample_is_named_and_its_63_neighbours_are_scored(start, culprit, told):
    samples = texts(*("x" * n for n in range(40)), culprit, *("y" * n for n in range(23)), group_size=8)
    got = await verdicts(await start(TEXT_LENGTH, timeout_s=0.5), samples)
    assert got[40].status is Status.FAILED
    assert got[40].status_reason.startswith(told)
    del got[40]
    assert [verdict.score for verdict in got] == [float(n) for n in [*range(40), *range(23)]]


async def test_a_function_that_raises_on_everything_is_called_four_times_on_a_batch_of_one_and_blames_nobody(
    start, tmp_path
):
    log = tmp_path / "log"
    scorer = await start(
        f"def reward(completions):\n    open({str(log)!r}, 'a').write('x')\n    raise ValueError('no')"
    )
    (verdict,) = await verdicts(scorer, texts("a"))
    assert verdict.status_reason.startswith("reward raised ValueError: no (rewards.py, line 3, in reward); and again")
    assert verdict.blame is Blame.UNKNOWN
    assert log.read_text() == "xxxx"  # again, and before and after that on a bland completion


async def test_of_two_samples_the_good_one_is_scored(start):
    got = await verdicts(await start(TEXT_LENGTH), texts("raise", "four"))
    assert [verdict.score for verdict in got] == [None, 4.0]


async def test_several_hanging_samples_keep_no_other_from_its_score(start):
    samples = texts("a", "hang", "bb", "hang", "hang", "ccc", "hang", "dddd")
    begin = time.monotonic()
    got = await verdicts(await start(TEXT_LENGTH, timeout_s=0.4), samples)
    assert [verdict.score for verdict in got] == [1.0, None, 2.0, None, None, 3.0, None, 4.0]
    assert time.monotonic() - begin < SOON_S


async def test_the_quick_samples_are_there_before_the_hanging_ones_are_given_up(start):
    scorer = await start(TEXT_LENGTH, timeout_s=1.0)
    order = [index async for index, _ in scorer.score(texts("hang", "hang", "hang", *"abcdefgh"), Call())]
    assert set(order[:8]) == set(range(3, 11))


async def test_all_that_hang_are_told_before_the_deadline(start):
    scorer = await start(TEXT_LENGTH, timeout_s=100.0)
    begin = time.monotonic()
    got = await verdicts(scorer, texts(*["hang"] * 5, "a", "bb"), within_s=10.0)
    assert time.monotonic() - begin < 10.0
    assert [verdict.score for verdict in got] == [None] * 5 + [1.0, 2.0]
    assert all("did not return in time" in verdict.status_reason for verdict in got[:5])


async def test_a_slow_sample_gets_the_time_that_the_function_is_allowed(start):
    text = """
import time
def reward(completions):
    if "raise" in completions: raise ValueError
    time.sleep(0.6 * completions.count("slow"))
    return [1.0] * len(completions)
"""
    got = await verdicts(await start(text, timeout_s=3.0), texts("raise", *"abcdef", *"ghijkl", *"mnopqr", "slow"))
    assert [verdict.score for verdict in got] == [None] + [1.0] * 19


async def test_closing_the_call_in_mid_air_stops_the_function_and_the_next_call_is_scored(pool, start):
    scorer = await start(TEXT_LENGTH, timeout_s=100.0)
    hanging = asyncio.create_task(verdicts(scorer, texts("hang", "hang")))
    await asyncio.sleep(0.3)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert [verdict.score for verdict in await verdicts(scorer, texts("a", "bb"))] == [1.0, 2.0]
    await until(lambda: len(pool._idle) == 2, SOON_S)


async def test_no_worker_is_left_over_after_a_hang(tmp_path):
    before = set(psutil.Process().children(recursive=True))
    async with WorkerPool(2) as pool:
        scorer = await started(pool, tmp_path, TEXT_LENGTH, timeout_s=0.2)
        await verdicts(scorer, texts("hang", "hang", "a"))
        assert len(set(psutil.Process().children(recursive=True)) - before) <= 3 + 2  # and two that may be dying
    assert set(psutil.Process().children(recursive=True)) <= before


async def test_a_function_that_compares_samples_is_not_scored_one_by_one(start):
    got = await verdicts(await start(FROM_THE_MEAN), texts("a", "bb", "raise", "dddd"))
    assert [verdict.score for verdict in got] == [None] * 4
    for place in (0, 1, 3):
        assert "called on all 4 samples, reward raised ValueError" in got[place].status_reason
        assert "their scores depend on one another or on chance. 'calls: group'" in got[place].status_reason


async def test_a_function_that_compares_within_groups_is_found_out_though_groups_are_mixed(start):
    text = """
from collections import defaultdict
def reward(completions, prompts):
    if "raise" in completions: raise ValueError("no")
    groups = defaultdict(list)
    for prompt, completion in zip(prompts, completions): groups[prompt].append(len(completion))
    return [len(c) - sum(groups[p]) / len(groups[p]) for p, c in zip(prompts, completions)]
"""
    samples = [Sample("x" * n, f"p{n % 3}", group=n % 3) for n in range(1, 10)] + [Sample("raise", "p0", group=0)]
    got = await verdicts(await start(text), samples)
    assert [verdict.score for verdict in got] == [None] * 10


async def test_a_function_that_counts_duplicates_is_found_out_by_a_single_good_sample(start):
    text = """
def reward(completions):
    if "raise" in completions: raise ValueError("no")
    return [1 / completions.count(completion) for completion in completions]
"""
    got = await verdicts(await start(text), texts("raise", "a"))
    assert [verdict.score for verdict in got] == [None, None]


async def test_a_function_that_can_only_be_called_on_single_samples_is_told_so(start):
    text = "def reward(completions):\n    (only,) = completions\n    return [len(only)]"
    got = await verdicts(await start(text), texts("a", "bb", "ccc"))
    assert [verdict.score for verdict in got] == [None] * 3
    assert "'calls: sample' calls it on one at a time" in got[0].status_reason


async def test_rounding_that_differs_with_the_number_of_samples_is_no_objection(start):
    text = """
def reward(completions):
    if "raise" in completions: raise ValueError("no")
    return [len(completion) * (1 + 1e-12 * len(completions)) for completion in completions]
"""
    got = await verdicts(await start(text), texts("a", "bb", "raise"))
    assert [round(verdict.score or 0) for verdict in got] == [1, 2, 0]


async def test_one_by_one_none_still_abstains(start):
    text = """
def reward(completions):
    if "raise" in completions: raise ValueError("no")
    return [None if completion == "?" else 1.0 for completion in completions]
"""
    got = await verdicts(await start(text), texts("?", "a", "b", "raise"))
    assert [verdict.status for verdict in got] == [Status.ABSTAINED, Status.SCORED, Status.SCORED, Status.FAILED]


async def test_a_failing_group_fails_whole_and_the_other_groups_are_scored(start):
    samples = [Sample("raise" if place == 5 else "x" * place, group=place // 3) for place in range(9)]
    got = await verdicts(await start(FROM_THE_MEAN, calls="group"), samples)
    assert [verdict.score for verdict in got] == [-1.0, 0.0, 1.0, None, None, None, -1.0, 0.0, 1.0]


async def test_by_sample_a_hanging_one_fails_alone(start):
    got = await verdicts(await start(TEXT_LENGTH, calls="sample", timeout_s=0.4), texts("a", "hang", "bb", "raise"))
    assert [verdict.score for verdict in got] == [1.0, None, 2.0, None]


async def test_two_calls_share_the_workers_while_one_of_them_hangs(start):
    scorer = await start(TEXT_LENGTH, timeout_s=0.5)
    hanging = asyncio.create_task(verdicts(scorer, texts(*["hang"] * 6)))
    await asyncio.sleep(0.05)
    quick = await asyncio.wait_for(verdicts(scorer, texts("a", "bb")), SOON_S)
    assert [verdict.score for verdict in quick] == [1.0, 2.0]
    assert not hanging.done()
    await hanging


async def test_a_function_for_conversations_that_is_given_texts_says_which_view_it_needs(start):
    scorer = await start("def reward(completions): return [len(c[0]['content']) for c in completions]")
    (verdict,) = await verdicts(scorer, texts("a text"))
    assert "It was given texts" in verdict.status_reason
    assert "'view: messages'; where it has that, the data has texts" in verdict.status_reason
    assert "'view: messages'" in verdict.status_reason


@pytest.mark.parametrize("body", ["len(c.split())", "len(re.findall('a', c))", "len({c})", "c.startswith(' ')"])
async def test_a_function_for_texts_that_is_given_conversations_says_which_view_it_needs(start, body):
    scorer = await start(f"import re\ndef reward(completions): return [{body} for c in completions]")
    (verdict,) = await verdicts(scorer, [Sample([{"role": "assistant", "content": "a"}])])
    assert "It was given conversations" in verdict.status_reason
    assert "'view: full' or 'view: answer'" in verdict.status_reason


async def test_memory_that_cannot_be_had_is_an_exception_like_others(start):
    scorer = await start("def reward(completions): return [bytearray(2**62)]")
    (verdict,) = await verdicts(scorer, texts("a"))
    assert "MemoryError" in verdict.status_reason or "OverflowError" in verdict.status_reason
