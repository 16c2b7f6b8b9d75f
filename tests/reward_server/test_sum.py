import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from small_rewards import Chars, rewards_of, rule, scripted

from reward_server.domain import Call, Cost, CostClass, Health, Needs, Sample, Status, abstained, failed, scored
from reward_server.scorers.recipes.sum import SumOptions
from reward_server.scoring import Selector
from reward_server.views import View

TWO = [Sample("a"), Sample("bbb")]


async def verdicts_of(rewards, samples, *names, deadline_s=5.0):
    call = Call(deadline=time.monotonic() + deadline_s)
    scoring = rewards.begin([Selector(name) for name in names], samples, call)
    try:
        return {result.name: list(result.verdicts) for result in await scoring.results(call.deadline)}
    finally:
        scoring.close()


def constant(verdict, **attributes):
    return rule(lambda sample: verdict, **attributes)


async def test_a_sum_adds_weighted_scores_and_carries_its_parts():
    async with rewards_of({"chars": Chars, "one": constant(scored(1.0))}, sums={"all": {"chars": 0.5, "one": -2}}) as r:
        found = await verdicts_of(r, TWO, "all")
    assert [verdict.score for verdict in found["all"]] == [0.5 - 2, 1.5 - 2]
    assert [dict(verdict.parts) for verdict in found["all"]] == [{"chars": 1, "one": 1}, {"chars": 3, "one": 1}]


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=5))
def test_a_sum_is_what_adding_up_in_order_gives_to_the_last_bit(terms):
    async def total():
        kinds = {f"p{n}": constant(scored(score)) for n, (_, score) in enumerate(terms)}
        async with rewards_of(kinds, sums={"all": {f"p{n}": w for n, (w, _) in enumerate(terms)}}) as rewards:
            return (await verdicts_of(rewards, [Sample("x")], "all"))["all"][0].score

    expected = 0.0
    for weight, score in terms:
        expected += weight * score
    assert asyncio.run(total()) == expected


@pytest.mark.parametrize(
    ("second", "status"), [(abstained("no reference"), Status.ABSTAINED), (failed("dead host"), Status.FAILED)]
)
async def test_a_sum_with_a_missing_part_is_missing_and_says_which(second, status):
    async with rewards_of(
        {"chars": Chars, "first": constant(abstained("unsure")), "second": constant(second)},
        sums={"all": {"chars": 1, "first": 1, "second": 1}},
    ) as rewards:
        verdict = (await verdicts_of(rewards, TWO, "all"))["all"][0]
    assert (verdict.status, verdict.score) == (status, None)
    assert verdict.status_reason == (
        f"part 'first' is missing: unsure; part 'second' is missing: {second.status_reason}"
    )
    assert dict(verdict.parts) == {"chars": 1, "first": None, "second": None}


async def test_explanations_and_costs_of_parts_are_kept():
    kinds = {
        "a": constant(scored(1.0, "clear", cost=Cost(judge_call_count=1, judge_ms=5))),
        "b": constant(scored(1.0)),
        "c": constant(scored(1.0, "short", cost=Cost(judge_call_count=2, judge_ms=6))),
    }
    async with rewards_of(kinds, sums={"all": {"a": 1, "b": 1, "c": 1}}) as rewards:
        verdict = (await verdicts_of(rewards, TWO, "all"))["all"][0]
    assert verdict.explanation == "a: clear\nc: short"
    assert verdict.cost == Cost(judge_call_count=3, judge_ms=11)


def counting():
    """Returns a scorer that takes a moment, and its class, which notes how often it was asked."""

    async def score(samples, call):
        await asyncio.sleep(0.01)
        for index, sample in enumerate(samples):
            yield index, scored(float(len(sample.completion)))

    return scripted(score)


async def test_a_part_that_is_asked_for_itself_and_by_two_sums_is_computed_once():
    kind = counting()
    async with rewards_of({"part": kind}, sums={"a": {"part": 2}, "b": {"part": 3}, "c": {"a": 1, "b": 1}}) as rewards:
        found = await verdicts_of(rewards, TWO, "part", "a", "b", "c")
        assert {name: [v.score for v in verdicts] for name, verdicts in found.items()} == {
            "part": [1, 3],
            "a": [2, 6],
            "b": [3, 9],
            "c": [5, 15],
        }
        assert kind.events.count("score part") == 1
        await verdicts_of(rewards, TWO, "c")
    assert kind.events.count("score part") == 2  # another call is another computation


async def test_each_part_sees_the_completion_through_its_own_view():
    completion = [{"role": "assistant", "content": "<think>four</think>yes"}]
    kinds = {
        "full": Chars,
        "answer": Chars,
        "messages": rule(lambda sample: scored(float(isinstance(sample.completion, list)))),
    }
    async with rewards_of(
        kinds, views={view.value: view for view in View}, sums={"all": {"full": 1, "answer": 100, "messages": 10_000}}
    ) as rewards:
        verdict = (await verdicts_of(rewards, [Sample(completion)], "all"))["all"][0]
    assert dict(verdict.parts) == {"full": len("<think>four</think>yes"), "answer": 3, "messages": 1}


async def test_a_sum_needs_what_its_parts_need():
    class LateNeeds(Chars):
        async def start(self):
            self.needs = Needs(required_columns=frozenset({"answer"}), prompts=True)

    kinds = {"a": LateNeeds, "b": type("B", (Chars,), {"needs": Needs(optional_columns=frozenset({"answer", "hint"}))})}
    async with rewards_of(kinds, sums={"all": {"a": 1, "b": 1}}) as rewards:
        info = rewards.describe()[-1]
    assert info.needs == Needs(frozenset({"answer"}), frozenset({"hint"}), prompts=True)


async def test_the_range_follows_from_the_parts_and_negative_weights_turn_it_round():
    ranged = type("Ranged", (Chars,), {"score_range": (0.0, 2.0)})
    async with rewards_of({"a": ranged, "b": Chars}, sums={"s": {"a": -3}, "u": {"a": 1, "b": 1}}) as rewards:
        ranges = {info.name: info.score_range for info in rewards.describe()}
    assert ranges["s"] == (-6, 0)
    assert ranges["u"] is None


async def test_a_sum_is_as_dear_and_as_sick_as_its_parts():
    sick = counting()
    sick.said_health = Health(serving=False, reason="no connection")
    async with rewards_of({"chars": Chars, "sick": sick}, sums={"all": {"chars": 1, "sick": 1}}) as rewards:
        info = rewards.describe()[-1]
    assert info.cost_class is CostClass.COMPUTE
    assert info.health == Health(serving=False, reason="sick: no connection")


async def test_a_sum_has_another_version_when_a_part_has():
    versions = set()
    for identity in ({"source": "1"}, {"source": "2"}):
        kind = counting()
        kind.said_identity = identity
        async with rewards_of({"part": kind}, sums={"all": {"part": 1}}) as rewards:
            versions.add(rewards.describe()[-1].version)
    assert len(versions) == 2


async def test_at_the_deadline_the_reason_names_the_late_part():
    async def hangs(samples, call):
        yield 0, scored(1.0)
        await asyncio.sleep(3600)

    async with rewards_of(
        {"chars": Chars, "late": scripted(hangs)}, sums={"all": {"chars": 1, "late": 1}, "more": {"all": 1}}
    ) as rewards:
        found = await verdicts_of(rewards, TWO, "more", deadline_s=0.2)
    assert found["more"][0].score == 2.0
    assert found["more"][1].status_reason.startswith(
        "part 'all' is missing: part 'late' is missing: not ready before the call's deadline"
    )


async def test_cancelling_a_sum_stops_its_parts():
    stopped = asyncio.Event()

    async def hangs(samples, call):
        try:
            await asyncio.sleep(3600)
            yield 0, scored(1.0)
        finally:
            stopped.set()

    async with rewards_of({"part": scripted(hangs)}, sums={"all": {"part": 1}}) as rewards:
        scoring = rewards.begin([Selector("all")], TWO, Call())
        await asyncio.sleep(0.02)
        scoring.close()
        await asyncio.wait_for(stopped.wait(), 2)


async def test_a_gate_may_ask_a_part_for_some_samples_only():
    kind = counting()

    class Gate(Chars):
        def __init__(self, options, context):
            self.part = context.reward("part")

        async def score(self, samples, call):
            chosen = [sample for sample in samples if len(sample.completion) > 2]
            found = [verdict async for _, verdict in self.part.score(chosen, call)]
            for index, sample in enumerate(samples):
                yield index, found[chosen.index(sample)] if sample in chosen else scored(0.0)

    async with rewards_of({"gate": Gate, "part": kind}) as rewards:
        found = await verdicts_of(rewards, TWO, "gate", "part")
    assert [verdict.score for verdict in found["gate"]] == [0, 3]
    assert kind.events.count("score part") == 2


def test_names_and_weights_stand_right_under_sum():
    assert SumOptions.model_validate({"a": 0.5, "parts": 2}).parts == {"a": 0.5, "parts": 2.0}
    assert set(SumOptions.model_validate({"a": 0.5, "b": 1}).rewards_used()) == {"a", "b"}


@pytest.mark.parametrize("wrong", [{}, {"a": "1"}, {"a": True}, {"a": float("nan")}, {"a": None}, ["a"]])
def test_what_is_no_weight_is_refused(wrong):
    with pytest.raises(ValidationError):
        SumOptions.model_validate(wrong)
