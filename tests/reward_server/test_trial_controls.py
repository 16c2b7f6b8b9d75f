"""What a bland completion tells holds for its own inputs; trials cost little and keep others from nothing."""

import asyncio
import dataclasses
import math
import time
from collections import Counter
from pathlib import Path

import pytest
from bombs import BombOptions, Bombs
from hypothesis import given
from hypothesis import strategies as st
from python_rewards import started

from reward_server.deadlines import before_deadline
from reward_server.domain import Blame, Call, Needs, Sample
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.quarantine import Record
from reward_server.scorers.suspects import shortened
from reward_server.scorers.witnesses import Witnesses
from reward_server.scorers.work import Work
from reward_server.workers.items import ItemDone
from reward_server.workers.pool import WorkerPool

GOOD = "it is 42"
READABLE_CHARS = 520


@pytest.fixture
async def pool():
    async with WorkerPool(2, ["bombs"]) as pool:
        yield pool


def rule_of(pool, **options):
    return Bombs(BombOptions(**options), ScorerContext("mine", Path("/"), pool, {}, KeyError, rule_pool=pool))


def group(*completions, answer="42", number=0):
    return [Sample(text, "How much?", {"answer": answer}, number) for text in completions]


async def verdicts(rule, samples):
    got = [ready async for ready in rule.score(samples, Call(deadline=time.monotonic() + 100))]
    assert sorted(index for index, _ in got) == list(range(len(samples)))
    return [verdict for _, verdict in sorted(got, key=lambda ready: ready[0])]


def bad_references(count, bomb="RAISE"):
    return [sample for number in range(count) for sample in group("a", answer=f"{bomb} {number}", number=number + 10)]


@pytest.mark.parametrize("reference", ["RAISE", "HANG", "SEGV"])
@pytest.mark.parametrize("bomb", ["RAISE", "HANG", "SEGV"])
async def test_a_bad_reference_lifts_no_blame_from_the_completions_of_another_prompt(pool, reference, bomb):
    samples = group("a", "b", answer=reference) + group(f"{bomb} 1", f"{bomb} 2", number=1)
    got = await verdicts(rule_of(pool, timeout_s=0.3), samples)
    assert [verdict.blame for verdict in got] == [Blame.UNKNOWN] * 2 + [Blame.COMPLETION] * 2


async def test_many_bad_references_lift_no_blame_where_anything_in_the_call_is_scored(pool):
    samples = bad_references(20) + group(GOOD, number=1) + group("HANG", answer="7", number=2)
    got = await verdicts(rule_of(pool), samples)
    assert [verdict.blame for verdict in got[:20]] == [Blame.UNKNOWN] * 20
    assert got[21].blame is Blame.COMPLETION


@pytest.mark.parametrize("bomb", ["RAISE", "HANG"])
async def test_a_rule_that_breaks_on_all_inputs_is_given_up_after_a_few(pool, tmp_path, bomb):
    log = tmp_path / "log"
    got = await verdicts(rule_of(pool, log=str(log), timeout_s=0.2), bad_references(20, bomb))
    assert {verdict.blame for verdict in got} == {Blame.UNKNOWN}
    said = Counter(log.read_text().splitlines())
    assert said["I don't know."] <= 2 * 16  # those that raise are tried together, once; of those that hang:
    if bomb == "HANG":
        assert said == {"a": 20, "I don't know.": 3}
        assert "nothing else of the call is scored" in got[-1].status_reason


async def test_a_bland_completion_is_tried_once_for_all_of_the_same_inputs_before_their_second_try(pool, tmp_path):
    log = tmp_path / "log"
    got = await verdicts(rule_of(pool, log=str(log), timeout_s=0.2), group("HANG 1", "HANG 2", "HANG 3"))
    assert {verdict.blame for verdict in got} == {Blame.COMPLETION}
    assert Counter(log.read_text().splitlines())["I don't know."] == 1 + 3  # and once after each


async def test_a_completion_that_spoils_its_worker_frees_no_other(pool):
    got = await verdicts(rule_of(pool), group("RAISE 1", "POISON", "RAISE 2") + group("RAISE 3", answer="7", number=1))
    assert [verdict.blame for verdict in got] == [Blame.COMPLETION] * 4


async def test_completions_that_were_in_a_spoilt_worker_get_their_scores(pool):
    got = await verdicts(rule_of(pool), group("POISON", *(f"{number} 42" for number in range(20))))
    assert got[0].blame is Blame.COMPLETION
    assert [verdict.score for verdict in got[1:]] == [1.0] * 20


async def test_a_second_try_counts_though_a_bland_completion_is_not_scored(pool, tmp_path):
    rule = rule_of(pool, marker=str(tmp_path / "gone-off"))
    (verdict,) = await verdicts(rule, group("FAIL ONCE, surely", answer="UNSURE"))
    assert verdict.score == 0.0


@pytest.mark.parametrize("bomb", ["RAISE", "HANG", "SEGV"])
async def test_a_bland_completion_that_is_not_scored_is_not_said_to_break_anything(pool, bomb):
    (verdict,) = await verdicts(rule_of(pool), group(bomb, answer="UNSURE"))
    assert verdict.blame is Blame.UNKNOWN
    assert "a bland completion in its place is not scored either" in verdict.status_reason
    assert "breaks on a bland" not in verdict.status_reason


async def test_trials_of_all_rewards_together_take_half_of_the_workers(pool):
    await verdicts(rule_of(pool), group(GOOD))
    async with pool.trial_lanes:  # as if another reward tried something, which takes half of two
        tasks = [asyncio.create_task(verdicts(rule_of(pool), group(GOOD, "RAISE"))) for _ in range(2)]
        done, _ = await asyncio.wait(tasks, timeout=1.0)
        assert not done
        assert [verdict.score for verdict in await verdicts(rule_of(pool), group(GOOD, GOOD))] == [1.0, 1.0]
    for got in await asyncio.gather(*tasks):
        assert [verdict.blame for verdict in got] == [Blame.UNKNOWN, Blame.COMPLETION]


class Counted(str):
    """A text that counts how often it is compared."""

    __slots__ = ()
    times = 0

    def __eq__(self, other):
        Counted.times += 1
        return str(self) == str(other)

    __hash__ = str.__hash__


def work_of(samples):
    return Work(
        pool=None,
        job=None,
        items=samples,
        samples=samples,
        needs=Needs(frozenset({"answer"})),
        remaining_s=lambda: math.inf,
        is_scored=lambda done: done.value is not None,
        reason=lambda *_: "",
        item_of=lambda sample: sample,
    )


def test_looking_for_witnesses_takes_a_bounded_number_of_comparisons_for_each_suspect():
    samples = [
        dataclasses.replace(sample, columns={"answer": Counted(place)})
        for place, sample in enumerate(group(*"ab" * 1500))
    ]
    for number_of in (lambda _: 0, lambda place: place // 8):
        spread = [dataclasses.replace(sample, group=number_of(place)) for place, sample in enumerate(samples)]
        witnesses = Witnesses(work_of(spread))
        for place in range(1500):
            witnesses.note(place, ItemDone(1.0, 0.0))
        Counted.times = 0
        found = witnesses.of_each(range(1500, 3000))
        assert all(witness.is_bland for witness in found.values())
        assert Counted.times <= 1500 * 128


def test_a_neighbour_of_another_group_is_found_behind_one_that_was_not_scored():
    samples = [*group(*"abcd", answer="7"), *group("", GOOD, number=1), *group("RAISE", number=2)]
    witnesses = Witnesses(work_of(samples))
    for place in range(6):
        witnesses.note(place, ItemDone(None if place == 4 else 1.0, 0.0))
    assert witnesses.of_each([6])[6].item is samples[5]


@pytest.mark.parametrize("calls", ["batch", "sample"])
async def test_quarantine_is_looked_up_once(pool, tmp_path, monkeypatch, calls):
    scorer = await started(
        pool, tmp_path, "def reward(completions): return [float(c) for c in completions]", calls=calls
    )
    samples = [Sample("1"), Sample("no number"), Sample("2"), Sample("no-number")]
    looked = []
    sentences = Record.sentences
    monkeypatch.setattr(Record, "sentences", lambda *args: looked.append(1) or sentences(*args))
    for times in (1, 2, 3):
        got = await verdicts(scorer, samples)
        assert [verdict.score for verdict in got] == [1.0, None, 2.0, None]
        assert got[1].flags == (("quarantined",) if times == 3 else ())
        assert len(looked) == times


COUNTING = """
import pathlib, time
def reward(completions):
    with open(pathlib.Path(__file__).parent / "log", "a") as log:
        print(len(completions), file=log)
    for completion in completions:
        if "hang" in completion:
            while True: pass
        if "raise" in completion: raise ValueError(completion * 200 + str(time.perf_counter_ns()))
    return [float(len(completion)) for completion in completions]
"""


@pytest.mark.parametrize(("bomb", "ones"), [("raise", 8 + 2), ("hang", 8 + 1 + 2)])  # one that hangs has two limits
async def test_a_bomb_in_a_batch_costs_the_batch_one_by_one_and_a_trial(pool, tmp_path, bomb, ones):
    scorer = await started(pool, tmp_path, COUNTING, timeout_s=0.6)
    got = await verdicts(
        scorer, [Sample(text) for text in ("a", "bb", bomb, "ccc", "d" * 4, "e" * 5, "f" * 6, "g" * 7)]
    )
    assert [verdict.score for verdict in got] == [1.0, 2.0, None, 3.0, 4.0, 5.0, 6.0, 7.0]
    assert got[2].blame is Blame.COMPLETION
    called = Counter((tmp_path / "log").read_text().split())
    assert called == {"8": 1, "1": ones, "2": 1}  # two together, to see whether the function compares
    assert len(got[2].status_reason) <= READABLE_CHARS


async def test_reasons_are_short_whatever_a_function_raises(pool, tmp_path):
    scorer = await started(pool, tmp_path, COUNTING)
    for _ in range(3):
        got = await verdicts(scorer, [Sample("raise" * 9), Sample("a"), Sample("bb")])
        assert len(got[0].status_reason) <= READABLE_CHARS
        assert "in reward)" in got[0].status_reason  # the place is at its end
    compares = "def reward(completions):\n    if 'x' in completions: raise ValueError('y' * 900)\n    return [1 / len(completions) for _ in completions]"
    (tmp_path / "other").mkdir()
    for verdict in await verdicts(await started(pool, tmp_path / "other", compares), [Sample(c) for c in "axb"]):
        assert len(verdict.status_reason) <= READABLE_CHARS


@given(st.text(), st.integers(20, 60))
def test_a_shortened_text_has_no_more_characters_and_keeps_its_ends(text, max_chars):
    short = shortened(text, max_chars)
    assert len(short) <= max_chars
    assert short == text or (text.startswith(short[:5]) and text.endswith(short[-5:]))


@given(st.floats(0, 1e6) | st.just(math.inf))
def test_work_ends_a_tenth_of_the_time_before_the_deadline_or_two_seconds(left_s):
    if math.isinf(left_s):
        assert math.isinf(before_deadline(left_s))
    else:
        assert left_s - before_deadline(left_s) == pytest.approx(min(left_s / 10, 2.0), abs=1e-6)
