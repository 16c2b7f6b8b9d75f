import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_rewards import Chars, config_of, rewards_of, rule, scripted

from reward_server.config import load
from reward_server.domain import Blame, Call, Cost, Sample, Status, abstained, failed, scored
from reward_server.errors import ConfigError
from reward_server.floor import FLOOR_FLAG, floor_of, floored
from reward_server.rewards import Rewards
from reward_server.scorers.recipes.sum import Sum
from reward_server.scoring import Selector

SCORES = st.floats(-1e9, 1e9)
MISSES = st.builds(
    lambda make, reason, blame, flags: make(reason, blame=blame, flags=flags),
    st.sampled_from([abstained, failed]),
    st.text(max_size=9),
    st.sampled_from(Blame),
    st.sampled_from([(), ("cut_for_judge",)]),
)


def with_floors(scorers, floors, sums=None):
    """Returns the rewards of such a configuration; `floors` by name, in place of the default."""
    config = config_of(scorers, sums=sums)
    rewards = {
        name: each.model_copy(update={"floor": floors.get(name, each.floor)}) for name, each in config.rewards.items()
    }
    return Rewards(config.model_copy(update={"rewards": rewards}), scorers={**scorers, "sum": Sum})


async def verdicts_of(rewards, samples, *names):
    call = Call(deadline=time.monotonic() + 5)
    scoring = rewards.begin([Selector(name) for name in names], samples, call)
    try:
        return [list(result.verdicts) for result in await scoring.results(call.deadline)]
    finally:
        scoring.close()


def judge_silenced_by(text, blame, **attributes):
    """Returns a scorer that scores everything but this completion, as its verdicts arrive one by one."""

    async def score(samples, call):
        for index, sample in enumerate(samples):
            if sample.completion == text:
                yield (
                    index,
                    abstained("the judge gave no usable answer, twice", blame=blame, cost=Cost(judge_call_count=2)),
                )
            else:
                yield index, scored(0.25 + index / 16)

    return scripted(score, score_range=(0.0, 1.0), **attributes)


GROUP = [Sample(f"completion {number}") for number in range(7)] + [Sample("}}{{ SILENCE")]


async def test_a_policy_that_learns_to_silence_its_judge_gains_nothing():
    async with rewards_of({"judge": judge_silenced_by("}}{{ SILENCE", Blame.COMPLETION)}) as rewards:
        ((*others, silent),) = await verdicts_of(rewards, GROUP, "judge")
    assert (silent.status, silent.score, silent.flags) == (Status.SCORED, 0.0, (FLOOR_FLAG,))
    assert silent.explanation == "the judge gave no usable answer, twice"
    assert silent.cost.judge_call_count == 2
    assert all(other.score > silent.score and not other.flags for other in others)


@pytest.mark.parametrize("blame", [Blame.OUTAGE, Blame.REFERENCE, Blame.UNKNOWN])
async def test_what_is_not_the_completions_doing_stays_missing(blame):
    async with rewards_of({"judge": judge_silenced_by("}}{{ SILENCE", blame)}) as rewards:
        ((*_, silent),) = await verdicts_of(rewards, GROUP, "judge")
    assert (silent.status, silent.score, silent.flags, silent.blame) == (Status.ABSTAINED, None, (), blame)


BROKEN = abstained("broken", blame=Blame.COMPLETION)


@pytest.mark.parametrize(
    ("floor", "score_range", "score"),
    [
        ("lowest", (-1.0, 9.0), -1.0),
        ("lowest", None, None),
        ("missing", (-1.0, 9.0), None),
        (0.5, (-1.0, 9.0), 0.5),
        (-7.0, None, -7.0),
    ],
)
async def test_the_floor_is_the_declared_one(floor, score_range, score):
    kind = rule(lambda sample: BROKEN, score_range=score_range)
    async with with_floors({"r": kind}, {"r": floor}) as rewards:
        (((verdict),),) = await verdicts_of(rewards, [Sample("x")], "r")
        (info,) = rewards.describe()
    assert verdict.score == score
    assert info.floor == score


async def test_a_floor_outside_the_range_does_not_start():
    kind = rule(lambda sample: scored(1.0), score_range=(0.0, 1.0))
    with pytest.raises(ConfigError, match=r"rewards\.r\.floor: -3 is outside the reward's score range, 0 to 1"):
        await with_floors({"r": kind}, {"r": -3.0}).__aenter__()


async def test_the_floor_is_part_of_the_version():
    versions = set()
    for floor in (0.0, 1.0, "missing"):
        async with with_floors({"r": Chars}, {"r": floor}) as rewards:
            versions.add(rewards.describe()[0].version)
    assert len(versions) == 3


async def test_the_same_floor_said_in_two_ways_is_one_version():
    kind = rule(lambda sample: scored(1.0), score_range=(0.0, 1.0))
    versions = set()
    for floor in (0.0, "lowest"):
        async with with_floors({"r": kind}, {"r": floor}) as rewards:
            versions.add(rewards.describe()[0].version)
    assert len(versions) == 1


async def test_a_sum_is_made_of_its_parts_floored_verdicts():
    kinds = {"judge": judge_silenced_by("}}{{ SILENCE", Blame.COMPLETION), "chars": Chars}
    async with rewards_of(kinds, sums={"all": {"judge": 10, "chars": 1}}) as rewards:
        ((verdict,),) = await verdicts_of(rewards, GROUP[-1:], "all")
    assert (verdict.score, verdict.flags) == (12.0, (FLOOR_FLAG,))
    assert verdict.explanation == "judge: the judge gave no usable answer, twice"


async def test_it_does_not_pay_to_break_what_is_subtracted():
    kinds = {
        "praise": judge_silenced_by("", Blame.COMPLETION),
        "fault": judge_silenced_by("}}{{ SILENCE", Blame.COMPLETION),
    }
    sums = {"all": {"praise": 1.0, "fault": -1.0}}
    async with with_floors(kinds, {}, sums=sums) as rewards:
        (verdicts,) = await verdicts_of(rewards, GROUP, "all")
        version = rewards.describe()[-1].version
    assert FLOOR_FLAG in verdicts[-1].flags
    assert verdicts[-1].score == 0.25 + 7 / 16 - 1.0 == min(verdict.score for verdict in verdicts)
    async with with_floors(kinds, {"fault": 0.0}, sums=sums) as rewards:  # a number is taken for what it says
        (verdicts,) = await verdicts_of(rewards, GROUP, "all")
        assert verdicts[-1].score == 0.25 + 7 / 16
        assert rewards.describe()[-1].version != version


async def test_several_parts_at_their_floor_are_one_flag():
    kinds = {name: judge_silenced_by("}}{{ SILENCE", Blame.COMPLETION) for name in ("a", "b")}
    async with with_floors(kinds, {"a": "missing"}, sums={"all": {"a": 1, "b": 1}}) as rewards:
        ((verdict,),) = await verdicts_of(rewards, GROUP[-1:], "all")
    assert (verdict.score, verdict.flags) == (0.0, (FLOOR_FLAG,))


async def test_a_sum_has_a_floor_of_its_own_where_its_parts_have_none():
    kinds = {"judge": judge_silenced_by("}}{{ SILENCE", Blame.COMPLETION)}
    async with with_floors(kinds, {"judge": "missing", "all": -1.0}, sums={"all": {"judge": -1}}) as rewards:
        part, total = await verdicts_of(rewards, GROUP[-1:], "judge", "all")
    assert part[0].score is None
    assert (total[0].score, total[0].flags) == (-1.0, (FLOOR_FLAG,))


@pytest.mark.parametrize(
    ("first", "second", "blame"),
    [
        (Blame.COMPLETION, Blame.COMPLETION, Blame.COMPLETION),
        (Blame.COMPLETION, Blame.OUTAGE, Blame.OUTAGE),
        (Blame.COMPLETION, Blame.UNKNOWN, Blame.UNKNOWN),
        (Blame.UNKNOWN, Blame.OUTAGE, Blame.OUTAGE),
        (Blame.REFERENCE, Blame.OUTAGE, Blame.REFERENCE),
    ],
)
async def test_a_sum_is_blamed_on_the_completion_only_where_every_missing_part_is(first, second, blame):
    kinds = {"a": rule(lambda s: failed("x", blame=first)), "b": rule(lambda s: failed("y", blame=second)), "c": Chars}
    async with rewards_of(kinds, sums={"all": {"a": 1, "b": 1, "c": 1}}) as rewards:
        ((verdict,),) = await verdicts_of(rewards, [Sample("x")], "all")
    assert (verdict.score, verdict.blame) == (None, blame)


async def test_the_flags_of_all_parts_are_the_sums_each_once():
    kinds = {
        "a": rule(lambda s: scored(1.0, flags=("clipped", "capped"))),
        "b": rule(lambda s: scored(1.0, flags=("clipped",))),
    }
    async with rewards_of(kinds, sums={"all": {"a": 1, "b": 1}}) as rewards:
        ((verdict,),) = await verdicts_of(rewards, [Sample("x")], "all")
    assert verdict.flags == ("clipped", "capped")


@pytest.mark.parametrize(
    "wrong", [scored(1.0, flags="clipped"), scored(1.0, flags=(3,)), abstained("x", blame="completion")]
)
async def test_flags_and_blame_of_a_wrong_type_are_a_failed_verdict(wrong):
    async with rewards_of({"r": rule(lambda sample: wrong)}) as rewards:
        ((verdict,),) = await verdicts_of(rewards, [Sample("x")], "r")
    assert verdict.status is Status.FAILED
    assert "the scorer returned a verdict of" in verdict.status_reason


@given(MISSES, st.none() | SCORES)
def test_only_what_the_completion_did_is_floored_and_the_reason_is_kept(miss, floor):
    verdict = floored(miss, floor)
    if floor is None or miss.blame is not Blame.COMPLETION:
        assert verdict is miss
    else:
        assert (verdict.status, verdict.score) == (Status.SCORED, floor)
        assert miss.status_reason in verdict.explanation
        assert verdict.flags == (*miss.flags, FLOOR_FLAG)


@given(SCORES, SCORES, st.floats(0, 1))
def test_a_floor_in_the_range_is_itself(one, other, share):
    low, high = sorted((one, other))
    inside = min(high, max(low, low + share * (high - low)))
    assert floor_of(inside, (low, high)) == inside
    assert floor_of("lowest", (low, high)) == low


def configured(folder, floor):
    (folder / "server.yaml").write_text(f"rewards: {{r: {{length: {{target: 10, width: 30}}, floor: {floor}}}}}\n")
    return load(folder / "server.yaml")


@pytest.mark.parametrize(("text", "floor"), [("lowest", "lowest"), ("missing", "missing"), ("-2", -2.0), ("0.5", 0.5)])
def test_a_floor_stands_beside_the_kind(tmp_path, text, floor):
    assert configured(tmp_path, text).rewards["r"].floor == floor


@pytest.mark.parametrize("text", [".nan", "-.inf", "low", "true", "null", "[0]", '"0.5"'])
def test_what_is_no_floor_is_refused_with_what_would_be_one(tmp_path, text):
    with pytest.raises(ConfigError, match=r"server.yaml:1: rewards.r.floor: .*'lowest', 'missing' or a finite number"):
        configured(tmp_path, text)
