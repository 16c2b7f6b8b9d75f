"""A gate: whom it asks about what, when, and what becomes of the rest."""

import asyncio
from pathlib import Path

import pytest
from pydantic import ValidationError
from recipes import leaf, leaves, made_of, saying, scores_of, verdicts_of
from scripted_engine import ScriptedEngine
from small_judges import judge_with
from small_rewards import rule, scripted

from reward_server.domain import Blame, Call, Cost, Sample, Status, scored
from reward_server.errors import ConfigError
from reward_server.scorers.base import Rule, ScorerContext
from reward_server.scorers.judge import JudgeScorer
from reward_server.scorers.jury import Jury
from reward_server.scorers.pooled import GroupRule, PooledRule
from reward_server.scorers.recipes.gate import GateOptions
from reward_server.scoring import Selector

GATE = {"gate": {"when": "shape", "at_least": 1, "then": "dear", "otherwise": -1.0}}
GROUPED = [Sample(text, group=group) for group, texts in enumerate((("aa", "b", "ccc"), ("dd", "e"))) for text in texts]


def shape():
    """Returns a cheap rule: 1 for more than one character, else 0."""
    return rule(lambda sample: scored(float(len(sample.completion) > 1)), score_range=(0.0, 1.0))


def dear(**attributes):
    """Returns a scorer that scores the length, and notes in `asked` about which completions it is asked together."""

    async def score(samples, call):
        kind.asked.append([sample.completion for sample in samples])
        await asyncio.sleep(0)
        for index, sample in enumerate(samples):
            yield index, scored(float(len(sample.completion)), cost=Cost(judge_call_count=1))

    kind = scripted(score, score_range=(0.0, 9.0), asked=[], **attributes)
    return kind


async def test_only_what_passes_is_asked_about_and_by_group():
    kind = dear()
    async with made_of({"shape": shape(), "dear": kind}, {"it": GATE}) as rewards:
        verdicts = (await verdicts_of(rewards, GROUPED, "it"))["it"]
    assert [verdict.score for verdict in verdicts] == [2, -1, 3, 2, -1]
    assert sorted(kind.asked) == [["aa", "ccc"], ["dd"]]
    assert [verdict.cost.judge_call_count for verdict in verdicts] == [1, 0, 1, 1, 0]
    assert [dict(verdict.parts) for verdict in verdicts[:2]] == [{"shape": 1, "dear": 2}, {"shape": 0}]


async def test_where_nothing_passes_nobody_is_asked():
    kind = dear()
    async with made_of({"shape": shape(), "dear": kind}, {"it": GATE}) as rewards:
        assert (await verdicts_of(rewards, [Sample("a"), Sample("b")], "it"))["it"][1].score == -1
        assert (await verdicts_of(rewards, [], "it"))["it"] == []
    assert kind.asked == []


async def test_what_does_not_pass_gets_a_number_another_reward_or_the_lowest_score():
    scorers = leaves(shape=(0.0, 1.0), dear=(-3.0, 5.0), other=(0.0, 9.0))
    said = [{"shape": shape, "dear": 4.0, "other": 7.0} for shape in (1.0, 0.5)]
    for otherwise, expected in ((0.5, 0.5), (2, 2), ("other", 7.0), (None, -3.0)):
        recipe = {"gate": {**GATE["gate"], "otherwise": otherwise}}
        assert await scores_of(scorers, recipe, *said) == [4.0, expected]


async def test_its_range_holds_both_ways():
    scorers = leaves(shape=(0.0, 1.0), dear=(-3.0, 5.0), other=(0.0, 9.0))
    for otherwise, expected in ((-7, (-7, 5)), ("other", (-3, 9)), (None, (-3, 5))):
        recipe = {"gate": {**GATE["gate"], "otherwise": otherwise}}
        async with made_of(scorers, {"it": recipe}) as rewards:
            assert rewards.describe()[-1].score_range == expected


async def test_without_a_lowest_score_it_must_be_said_what_the_rest_gets():
    scorers = {"shape": shape(), "dear": leaf("dear", None)}
    recipe = {"gate": {"when": "shape", "at_least": 1, "then": "dear"}}
    with pytest.raises(ConfigError, match=r"rewards.it.gate.otherwise: the score range of 'dear' is unknown"):
        await made_of(scorers, {"it": recipe}).__aenter__()


@pytest.mark.parametrize(
    ("of", "at_least", "words"),
    [
        ((0.0, 0.5), 1, "1 decides nothing, nothing ever reaches it: 'shape' reaches 0.5 at most"),
        ((0.0, 1.0), 0, "0 decides nothing, everything reaches it: 'shape' scores 0 at least"),
        ((0.0, 0.9999999999999999), 1, "'shape' reaches 0.9999999999999999 at most"),
    ],
)
async def test_a_bound_that_all_scores_reach_or_none_is_refused(of, at_least, words):
    recipe = {"gate": {**GATE["gate"], "at_least": at_least}}
    with pytest.raises(ConfigError) as caught:
        await made_of(leaves(shape=of, dear=(0.0, 1.0)), {"it": recipe}).__aenter__()
    assert words in str(caught.value)
    assert str(caught.value).startswith("rewards.it.gate.at_least: ")


async def test_a_bound_at_either_end_decides_where_only_one_side_reaches_it_and_of_an_unknown_range_any_does():
    for of, at_least in (((0.0, 1.0), 1), (None, 7)):
        recipe = {"gate": {**GATE["gate"], "at_least": at_least}}
        async with made_of(leaves(shape=of, dear=(0.0, 1.0)), {"it": recipe}) as rewards:
            assert rewards.names[-1] == "it"


@pytest.mark.parametrize("order", [("it", "dear"), ("dear", "it"), ("it", "sum"), ("sum", "it"), ("far", "it")])
async def test_a_reward_that_the_call_computes_anyway_is_not_asked_twice(order):
    kind = dear(compares=False)
    recipes = {
        "it": GATE,
        "sum": {"sum": {"dear": 1}},
        "further": {"min": {"parts": ["sum", "shape"]}},
        "furthest": {"gate": {"when": "further", "at_least": 0.5, "then": "shape", "otherwise": 0}},
        "far": {"product": {"parts": ["furthest", "shape"]}},  # asks for it long after the gate does
    }
    async with made_of({"shape": shape(), "dear": kind}, recipes) as rewards:
        found = await verdicts_of(rewards, GROUPED, *order)
    assert kind.asked == [[sample.completion for sample in GROUPED]]
    assert [verdict.score for verdict in found["it"]] == [2, -1, 3, 2, -1]


async def test_verdicts_that_the_call_computes_anyway_are_taken_as_they_come():
    go_on = asyncio.Event()

    async def slow(samples, call):
        for index in (4, 2):
            yield index, scored(9.0)
        await go_on.wait()
        for index in (3, 0, 1):
            yield index, scored(5.0)

    kinds = {"shape": shape(), "dear": scripted(slow, score_range=(0.0, 9.0), compares=False)}
    async with made_of(kinds, {"it": GATE}) as rewards:
        scoring = rewards.begin([Selector("it"), Selector("dear")], GROUPED, Call())
        await asyncio.sleep(0.02)
        early = {result.name: [verdict.score for verdict in result.verdicts] for result in scoring.results_now()}
        go_on.set()
        whole = {result.name: [verdict.score for verdict in result.verdicts] for result in await scoring.results()}
        scoring.close()
    assert early == {"it": [None, -1, 9, None, -1], "dear": [None, None, 9, None, 9]}
    assert whole == {"it": [5, -1, 9, 5, -1], "dear": [5, 5, 9, 5, 9]}


async def test_what_compares_is_asked_about_those_that_pass_whatever_else_a_call_asks_for():
    async def rank(samples, call):
        for index, sample in enumerate(samples):
            yield index, scored(float(sum(len(other.completion) < len(sample.completion) for other in samples)))

    for names in (["it"], ["it", "dear"], ["dear", "it"]):
        kinds = {"shape": shape(), "dear": scripted(rank, score_range=(0.0, 9.0))}
        async with made_of(kinds, {"it": GATE}) as rewards:
            found = await verdicts_of(rewards, GROUPED, *names)
        assert [verdict.score for verdict in found["it"]] == [0, -1, 1, 0, -1]
        assert "dear" not in names or [verdict.score for verdict in found["dear"]] == [2, 0, 4, 2, 0]


@pytest.mark.parametrize(("method", "compares"), [("rating", False), ("pairwise", True), ("listwise", True)])
def test_judges_and_juries_compare_if_their_method_does(method, compares):
    judge = judge_with(ScriptedEngine(lambda _: {}), method=method)
    context = ScorerContext("r", Path("/"), None, {"one": judge, "other": judge}, None)
    assert JudgeScorer(JudgeScorer.Options(judge="one"), context).compares is compares
    assert Jury(Jury.Options(judges=("one", "other")), context).compares is compares


async def test_rules_of_one_sample_do_not_compare_rules_of_groups_and_strangers_may():
    assert (Rule.compares, PooledRule.compares, GroupRule.compares) == (False, False, True)
    recipes = {"of_rule": {"sum": {"shape": 1}}, "of_stranger": {"sum": {"shape": 1, "dear": 1}}}
    async with made_of({"shape": shape(), "dear": dear()}, recipes) as rewards:
        compare = {name: reward.compares for name, reward in rewards._rewards.items()}  # nobody else asks
    assert compare == {"shape": False, "dear": True, "of_rule": False, "of_stranger": True}


async def test_it_may_ask_and_decide_by_the_same_reward():
    kind = dear(compares=False)
    recipe = {"gate": {"when": "dear", "at_least": 2, "then": "dear", "otherwise": 0}}
    async with made_of({"dear": kind}, {"it": recipe}) as rewards:
        verdicts = (await verdicts_of(rewards, GROUPED, "it"))["it"]
    assert [verdict.score for verdict in verdicts] == [2, 0, 3, 2, 0]
    assert len(kind.asked) == 1
    assert verdicts[0].cost.judge_call_count == 1


async def test_a_group_is_asked_about_once_the_gate_is_through_with_it_and_others_need_not_be():
    go_on = asyncio.Event()

    async def slow(samples, call):
        for index in (0, 3, 4, 1):  # the second group is decided first
            yield index, scored(1.0)
        await go_on.wait()
        yield 2, scored(0.0)

    kind = dear()
    async with made_of({"shape": scripted(slow, score_range=(0.0, 1.0)), "dear": kind}, {"it": GATE}) as rewards:
        scoring = rewards.begin([Selector("it")], GROUPED, Call())
        arriving = scoring.arriving()
        early = [index for _ in range(1) for result in await anext(arriving) for index in result.indexes]
        assert kind.asked == [["dd", "e"]]
        assert set(early) <= {3, 4}
        go_on.set()
        rest = [index async for results in arriving for result in results for index in result.indexes]
        scoring.close()
    assert kind.asked == [["dd", "e"], ["aa", "b"]]
    assert sorted(early + rest) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("said", "status", "blame"),
    [
        ("no reference", Status.ABSTAINED, Blame.REFERENCE),
        ("crashed", Status.FAILED, Blame.UNKNOWN),
        ("away", Status.ABSTAINED, Blame.OUTAGE),
    ],
)
async def test_where_the_gate_is_missing_the_whole_is_and_nobody_is_asked(said, status, blame):
    kind = dear()
    async with made_of({"shape": leaf("shape"), "dear": kind}, {"it": GATE}) as rewards:
        (verdict,) = (await verdicts_of(rewards, [saying({"shape": said})], "it"))["it"]
    assert (verdict.score, verdict.status, verdict.blame) == (None, status, blame)
    assert verdict.status_reason.startswith("part 'shape' is missing: ")
    assert kind.asked == []


async def test_where_what_is_asked_is_missing_the_whole_is():
    scorers = leaves(shape=(0.0, 1.0), dear=(0.0, 1.0))
    async with made_of(scorers, {"it": GATE}) as rewards:
        said = [saying({"shape": shape, "dear": "away"}) for shape in (1.0, 0.0)]
        asked, spared = (await verdicts_of(rewards, said, "it"))["it"]
    assert (asked.score, asked.blame) == (None, Blame.OUTAGE)
    assert spared.score == -1


@pytest.mark.parametrize(("otherwise", "worst"), [(0.5, 0.25), (0.0, 0.0), (-1, -1)])
async def test_where_the_completion_breaks_the_gate_the_worse_way_counts(otherwise, worst):
    scorers = leaves(shape=(0.0, 1.0), dear=(0.0, 1.0))
    recipe = {"gate": {**GATE["gate"], "otherwise": otherwise}}
    assert await scores_of(scorers, recipe, {"shape": "broken", "dear": 0.25}) == [worst]


async def test_at_the_deadline_what_was_not_asked_has_its_score_and_the_rest_says_who_was_late():
    async def hangs(samples, call):
        await asyncio.sleep(3600)
        yield 0, scored(1.0)

    recipes = {"it": GATE, "inner": {"sum": {"slow": 1}}, "deep": {"gate": {**GATE["gate"], "then": "inner"}}}
    scorers = {"shape": shape(), "dear": scripted(hangs), "slow": scripted(hangs)}
    async with made_of(scorers, recipes) as rewards:
        found = await verdicts_of(rewards, GROUPED[:2], "it", "deep", deadline_s=0.2)
    assert [verdicts[1].score for verdicts in found.values()] == [-1, -1]
    assert found["it"][0].status_reason.startswith("part 'dear' is missing: not ready before the call's deadline")
    assert found["deep"][0].status_reason.startswith(
        "part 'inner' is missing: part 'slow' is missing: not ready before"
    )


@pytest.mark.parametrize("stage", ["shape", "dear"])
async def test_closing_the_call_stops_whoever_is_asked(stage):
    stopped = asyncio.Event()

    async def hangs(samples, call):
        try:
            await asyncio.sleep(3600)
            yield 0, scored(1.0)
        finally:
            stopped.set()

    kinds = {"shape": shape(), "dear": dear(), stage: scripted(hangs, score_range=(0.0, 1.0))}
    async with made_of(kinds, {"it": GATE}) as rewards:
        scoring = rewards.begin([Selector("it")], GROUPED, Call())
        await asyncio.sleep(0.02)
        scoring.close()
        await asyncio.wait_for(stopped.wait(), 2)


def test_what_it_is_made_of_is_told_once_each():
    options = {"when": "a", "at_least": 1, "then": "b"}
    assert list(GateOptions.model_validate(options).rewards_used()) == ["a", "b"]
    assert list(GateOptions.model_validate({**options, "otherwise": "c"}).rewards_used()) == ["a", "b", "c"]
    assert list(GateOptions.model_validate({**options, "then": "a", "otherwise": 1}).rewards_used()) == ["a"]


@pytest.mark.parametrize("wrong", [{"otherwise": True}, {"otherwise": float("inf")}, {"at_least": "1"}, {"then": None}])
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        GateOptions.model_validate({"when": "a", "at_least": 1, "then": "b", **wrong})
