"""A completion that breaks its rule's worker is blamed if a neighbour proves it, and nobody is blamed for anything else."""

import asyncio
import io
import multiprocessing
import pickle
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from bombs import BOMBS, BombOptions, Bombs, Longest
from hypothesis import given, strategies
from small_rewards import config_of

from reward_server.domain import (
    NO_COST,
    Blame,
    Call,
    Needs,
    Sample,
    Status,
    abstained,
    failed,
    scored,
)
from reward_server.errors import ConfigError, WorkerDied, WorkNotPrepared, WorkOutOfMemory, WorkRaised, WorkTimedOut
from reward_server.reward import Reward
from reward_server.rewards import Rewards
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.payloads import plain, verdict_of
from reward_server.scorers.quarantine import REMEMBERED, Record
from reward_server.scorers.suspects import is_suspicious
from reward_server.scoring import Selector
from reward_server.workers.messages import PlainUnpickler
from reward_server.workers.pool import WorkerPool

GOOD = "it is 42"


@pytest.fixture
async def pool():
    async with WorkerPool(2, ["bombs"]) as pool:
        yield pool


def rule_of(pool, kind=Bombs, **options):
    return kind(BombOptions(**options), ScorerContext("mine", Path("/"), pool, {}, KeyError, rule_pool=pool))


def group(*completions, answer="42", number=0):
    return [Sample(text, "How much?", {"answer": answer}, number) for text in completions]


async def arrivals(rule, samples, within_s=float("inf")):
    """Returns indexes and verdicts in the order in which they came, one for each sample."""
    got = [ready async for ready in rule.score(samples, Call(deadline=time.monotonic() + within_s))]
    assert sorted(index for index, _ in got) == list(range(len(samples)))
    return got


async def verdicts(rule, samples, within_s=float("inf")):
    return [verdict for _, verdict in sorted(await arrivals(rule, samples, within_s), key=lambda ready: ready[0])]


@asynccontextmanager
async def served(floor="lowest"):
    """Yields a function that scores samples by the rule as a reward of a server, until the floor is applied."""
    config = config_of({"bombs": Bombs})
    config.rewards["bombs"] = config.rewards["bombs"].model_copy(update={"floor": floor})
    async with Rewards(config, scorers={"bombs": Bombs}) as rewards:

        async def score(samples):
            scoring = rewards.begin([Selector("bombs")], samples, Call())
            try:
                (result,) = await scoring.results()
            finally:
                scoring.close()
            return result.verdicts

        yield score


@pytest.mark.parametrize("bomb", BOMBS)
async def test_a_bomb_gets_the_floor_its_neighbours_their_scores_and_at_last_it_is_not_run_again(bomb):
    async with served() as score:
        samples = group(*[GOOD] * 3, f"42 {bomb}", *["it is 41"] * 4)
        for call in range(3):
            got = await score(samples)
            assert [verdict.score for verdict in got] == [1.0] * 3 + [0.0] * 5
            assert got[3].flags == (("quarantined", "floor") if call == 2 else ("floor",))
            assert "again alone in a fresh worker" in got[3].explanation
            assert "while a neighbour with the same inputs was scored" in got[3].explanation
            assert not any(verdict.flags for index, verdict in enumerate(got) if index != 3)
        assert "broke its scorer 2 times and is not run again" in got[3].explanation


async def test_the_floor_is_the_one_declared_and_may_be_none_at_all():
    samples = group(GOOD, "RAISE")
    async with served(floor=0.25) as score:
        assert [verdict.score for verdict in await score(samples)] == [1.0, 0.25]
    async with served(floor="missing") as score:
        assert [verdict.score for verdict in await score(samples)] == [1.0, None]


@pytest.mark.parametrize("bomb", ["HANG", "SEGV", "RAISE"])
async def test_a_bomb_in_the_reference_is_held_against_nobody(pool, bomb):
    rule = rule_of(pool)
    got = await verdicts(rule, group("a", "b", answer=bomb) + group(GOOD, "no", number=1))
    assert [verdict.score for verdict in got] == [None, None, 1.0, 0.0]
    assert [verdict.blame for verdict in got] == [Blame.UNKNOWN] * 4
    assert [verdict.status for verdict in got[:2]] == [Status.FAILED] * 2


@pytest.mark.parametrize("bomb", ["HANG", "MEM", "EXIT"])
async def test_where_all_break_it_a_bland_completion_tells_that_it_is_theirs(pool, bomb):
    got = await verdicts(rule_of(pool), group(*(f"{bomb} {number}" for number in range(3))))
    assert {(verdict.status, verdict.blame) for verdict in got} == {(Status.FAILED, Blame.COMPLETION)}
    assert all("a bland completion in its place was scored" in verdict.status_reason for verdict in got)


async def test_a_rule_that_breaks_on_everything_blames_nobody_and_is_given_up_soon(pool):
    got = await verdicts(rule_of(pool), group(*(f"text {number}" for number in range(40)), answer="RAISE"))
    assert {(verdict.status, verdict.blame) for verdict in got} == {(Status.FAILED, Blame.UNKNOWN)}
    assert "breaks on a bland completion too" in got[-1].status_reason


async def test_a_neighbour_that_abstains_is_no_witness(pool):
    got = await verdicts(rule_of(pool), group("", "SEGV"))
    assert "a bland completion in its place was scored" in got[1].status_reason


async def test_prompts_count_as_inputs_only_where_the_rule_reads_them(pool):
    samples = [Sample("RAISE", "one", {"answer": "42"}), Sample(GOOD, "other", {"answer": "42"})]
    rule = rule_of(pool)
    assert "a neighbour with the same inputs was scored" in (await verdicts(rule, samples))[0].status_reason
    rule.needs = Needs(frozenset({"answer"}), prompts=True)
    assert "a bland completion in its place was scored" in (await verdicts(rule, samples))[0].status_reason


async def test_a_second_try_that_succeeds_is_the_verdict(pool, tmp_path):
    rule = rule_of(pool, marker=str(tmp_path / "gone-off"))
    got = await verdicts(rule, group(GOOD, "ONCE 42"))
    assert [verdict.score for verdict in got] == [1.0, 1.0]


async def test_one_that_raised_and_then_crashes_costs_others_that_raise_nothing_but_a_trial_of_their_own(
    pool, tmp_path
):
    rule = rule_of(pool, marker=str(tmp_path / "gone-off"))
    got = await verdicts(rule, group("RAISE", GOOD, "WORSE", "RAISE too"))
    assert [verdict.blame for verdict in got] == [Blame.COMPLETION, Blame.UNKNOWN, Blame.COMPLETION, Blame.COMPLETION]
    assert got[1].score == 1.0


async def test_neighbours_do_not_wait_for_a_trial(pool):
    got = await arrivals(rule_of(pool), group("HANG", *[GOOD] * 20, "SEGV"))
    assert {index for index, _ in got[-2:]} == {0, 21}


async def test_without_time_for_its_own_limit_nothing_is_blamed_and_all_is_told_before_the_deadline(pool):
    rule = rule_of(pool, timeout_s=100.0)
    await verdicts(rule, group(GOOD))  # the workers are there
    got = await verdicts(rule, group(GOOD, "HANG"), within_s=2.0)
    assert got[0].score == 1.0
    assert (got[1].status, got[1].blame) == (Status.FAILED, Blame.UNKNOWN)


async def test_healthy_completions_are_not_blamed_on_a_busy_machine(pool):
    context = multiprocessing.get_context("spawn")
    burners = [context.Process(target=BOMBS["HANG"], daemon=True) for _ in range(4)]
    for burner in burners:
        burner.start()
    try:
        got = await verdicts(rule_of(pool), group(*(f"BUSY {number}" for number in range(8))))
    finally:
        for burner in burners:
            burner.kill()
            burner.join()
    assert [verdict.score for verdict in got] == [0.0] * 8


async def test_what_is_quarantined_is_not_run_and_others_are(pool, tmp_path):
    log = tmp_path / "log"
    rule = rule_of(pool, log=str(log))
    for _ in range(2):
        await verdicts(rule, group(GOOD, "RAISE me"))
    log.unlink()
    got = await verdicts(rule, group("RAISE me", GOOD, "RAISE 2", number=7))  # a group's number is no part of it
    assert "quarantined" in got[0].flags
    assert got[0].blame is Blame.COMPLETION
    assert got[2].flags == ()
    assert set(log.read_text().splitlines()) == {GOOD, "RAISE 2"}


async def test_what_is_quarantined_with_one_reference_is_run_with_another(pool):
    rule = rule_of(pool)
    for _ in range(2):
        await verdicts(rule, group(GOOD, "RAISE 42"))
    (verdict,) = await verdicts(rule, group("RAISE 42", answer="7"))
    assert verdict.flags == ()


@pytest.mark.parametrize("bomb", ["HANG", "SEGV", "RAISE"])
async def test_of_compared_completions_none_is_blamed_and_other_groups_are_scored(pool, bomb):
    samples = group("a", "bb", number=3) + group("a", bomb, "c", number=5) + group("ccc", number=3)
    got = await verdicts(rule_of(pool, Longest), samples)
    assert [verdict.score for verdict in got] == [0.0, 0.0, None, None, None, 1.0]
    assert {verdict.blame for verdict in got} == {Blame.UNKNOWN}


async def test_workers_say_what_the_rule_itself_says(pool):
    samples = group("", "42", "41", "42 FLAG", "\ud800 42", "x" * 100_000)
    for kind in (Bombs, Longest):
        direct = [verdict async for _, verdict in rule_of(None, kind).score(samples, Call())]
        pooled = await verdicts(rule_of(pool, kind), samples)
        assert [(v.score, v.status, v.status_reason, v.flags) for v in pooled] == [
            (v.score, v.status, v.status_reason, v.flags) for v in direct
        ]


async def test_closing_the_call_stops_its_work(pool):
    rule = rule_of(pool, timeout_s=100.0)
    hanging = asyncio.create_task(verdicts(rule, group("HANG", "HANG")))
    await asyncio.sleep(0.5)
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    assert [verdict.score for verdict in await verdicts(rule, group(GOOD, GOOD))] == [1.0, 1.0]


texts_ = strategies.text(max_size=5)
verdicts_ = strategies.one_of(
    strategies.builds(
        scored,
        strategies.floats(allow_nan=False, allow_infinity=False),
        texts_,
        parts=strategies.dictionaries(texts_, strategies.none() | strategies.floats(0, 1), max_size=2),
        flags=strategies.lists(texts_, max_size=2).map(tuple),
    ),
    *(strategies.builds(make, texts_, texts_, blame=strategies.sampled_from(Blame)) for make in (abstained, failed)),
)


@given(verdicts_)
def test_a_verdict_comes_out_of_a_worker_as_it_was(verdict):
    back = verdict_of(PlainUnpickler(io.BytesIO(pickle.dumps(plain(verdict)))).load(), NO_COST)
    assert back == replace(verdict, parts=back.parts)
    assert dict(back.parts) == dict(verdict.parts)


async def test_without_workers_it_says_that_it_cannot_serve():
    async with WorkerPool(1, ["not_there_at_all"]) as pool:
        rule = rule_of(pool)
        assert rule.health().serving
        with pytest.raises(ConfigError):
            await verdicts(rule, group(GOOD))
        assert "not_there_at_all" in rule.health().reason
        assert not rule.health().serving


def test_a_pooled_rule_is_never_asked_on_the_event_loop():
    config = config_of({"bombs": Bombs}).rewards["bombs"]
    assert Reward(config, rule_of(None), frozenset()).rule is None


@pytest.mark.parametrize(
    ("error", "suspicious"),
    [
        (WorkRaised("no"), True),
        (WorkOutOfMemory("no"), True),
        (WorkTimedOut("no", own_time=True), True),
        (WorkTimedOut("no"), False),
        (WorkerDied("no"), True),
        (WorkerDied("no", from_outside=True), False),
        (WorkNotPrepared("no"), False),
    ],
)
def test_only_what_may_be_a_completions_own_doing_is_suspicious(error, suspicious):
    assert is_suspicious(error) is suspicious


def test_the_longest_unseen_of_many_blamed_completions_is_forgotten():
    record = Record()
    for number in range(REMEMBERED + 1):
        for _ in range(2):
            record.blame(Sample("abc"), ("abc", number), "it hangs")
    sentences = record.sentences([Sample("abc")] * 2, [("abc", 0), ("abc", REMEMBERED)].__getitem__)
    assert {index: sentence.blame for index, sentence in sentences.items()} == {1: Blame.COMPLETION}


def test_a_payload_nested_too_deeply_is_not_remembered():
    deep = []
    for _ in range(100_000):
        deep = [deep]
    record = Record()
    for _ in range(2):
        record.blame(Sample("abc"), ("abc", deep), "it hangs")
    assert record.sentences([Sample("abc")], [("abc", deep)].__getitem__) == {}
