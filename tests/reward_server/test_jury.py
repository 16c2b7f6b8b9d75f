import asyncio
import time
from pathlib import Path

import pytest
from pydantic import ValidationError
from waiting import until

from reward_server.domain import HEALTHY, Blame, Call, Cost, Health, Needs, Sample, Status, abstained, failed, scored
from reward_server.errors import ConfigError
from reward_server.registry import SCORERS
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.jury import Jury, JuryOptions

ONE = [Sample("a")]


class Member:
    """A judge whose verdicts a test decides."""

    def __init__(self, *verdicts, score_range=(0.0, 1.0), needs=None, health=HEALTHY):
        self.verdicts = verdicts
        self.score_range = score_range
        self.needs = needs or Needs()
        self.said_health = health
        self.closed = 0

    def identity(self):
        return {"verdicts": len(self.verdicts)}

    def health(self):
        return self.said_health

    async def score(self, samples, call):
        try:
            for index in range(len(samples)):
                verdict = self.verdicts[index]
                if verdict is None:
                    await asyncio.Event().wait()
                yield index, verdict
        finally:
            self.closed += 1


def jury_of(members, floor="lowest", **options):
    context = ScorerContext("it", Path("/"), None, members, None, floor)
    return Jury(JuryOptions(judges=options.pop("judges", tuple(members)), **options), context)


async def verdict_of(*verdicts, **options):
    """Returns a jury's verdict on one sample of which its judges a, b, … say this."""
    jury = jury_of({name: Member(verdict) for name, verdict in zip("abcde", verdicts, strict=False)}, **options)
    [(_, verdict)] = [each async for each in jury.score(ONE, Call(deadline=time.monotonic() + 5))]
    return verdict


@pytest.mark.parametrize(("combine", "score"), [("mean", 0.5), ("median", 0.4), ("min", 0.3)])
async def test_the_score_is_made_of_the_judges_grades_as_configured(combine, score):
    verdict = await verdict_of(scored(0.3), scored(0.8), scored(0.4), combine=combine)
    assert verdict.score == pytest.approx(score)
    assert dict(verdict.parts) == pytest.approx({"a": 0.3, "b": 0.8, "c": 0.4, "disagreement": 0.5})


async def test_each_judge_counts_by_its_own_range():
    members = {
        "stars": Member(scored(3.0), score_range=(1.0, 5.0)),
        "sign": Member(scored(0.5), score_range=(-1.0, 1.0)),
    }
    jury = jury_of(members, score_range=(0.0, 10.0))
    [(_, verdict)] = [each async for each in jury.score(ONE, Call())]
    assert verdict.score == pytest.approx(10 * (0.5 + 0.75) / 2)
    assert dict(verdict.parts) == pytest.approx({"stars": 3.0, "sign": 0.5, "disagreement": 0.25})
    assert jury.score_range == (0.0, 10.0)


@pytest.mark.parametrize(("limit", "flags"), [(0.4, ("disagreement",)), (0.5, ()), (None, ())])
async def test_judges_that_are_too_far_apart_are_flagged(limit, flags):
    assert (await verdict_of(scored(0.25), scored(0.75), max_disagreement=limit)).flags == flags


async def test_a_judge_without_a_score_is_left_out_when_there_is_a_quorum():
    verdict = await verdict_of(scored(0.2), failed("away", blame=Blame.OUTAGE), scored(0.4))
    assert verdict.score == pytest.approx(0.3)
    assert verdict.parts["b"] is None
    assert verdict.flags == ()


async def test_without_a_quorum_the_verdict_is_missing_and_says_whose():
    verdict = await verdict_of(scored(0.2), failed("away", blame=Blame.OUTAGE), abstained("no grade"))
    assert (verdict.status, verdict.score) == (Status.FAILED, None)
    assert verdict.status_reason == "1 of 3 judges gave a score, and it takes 2: b: away; c: no grade"
    assert verdict.parts == {"a": 0.2, "b": None, "c": None}
    assert (await verdict_of(scored(0.2), abstained("x"), abstained("y"), quorum=1)).score == 0.2
    assert (await verdict_of(scored(0.2), abstained("x"), scored(0.2), quorum=3)).status is Status.ABSTAINED


@pytest.mark.parametrize(
    ("blames", "blame"),
    [
        ((Blame.COMPLETION, Blame.COMPLETION), Blame.COMPLETION),
        ((Blame.COMPLETION, Blame.OUTAGE), Blame.OUTAGE),
        ((Blame.COMPLETION, Blame.UNKNOWN), Blame.UNKNOWN),
        ((Blame.REFERENCE, Blame.OUTAGE), Blame.REFERENCE),
    ],
)
async def test_it_is_the_completions_doing_only_if_every_judge_says_so(blames, blame):
    verdict = await verdict_of(*(abstained("no grade", blame=each) for each in blames), scored(1.0))
    assert verdict.blame is blame


@pytest.mark.parametrize(("combine", "score"), [("mean", 0.6), ("median", 0.9), ("min", 0.0)])
async def test_it_does_not_pay_to_silence_one_of_the_judges(combine, score):
    silenced = abstained("no grade", blame=Blame.COMPLETION)
    verdict = await verdict_of(scored(0.9), silenced, scored(0.9), combine=combine)
    assert verdict.score == pytest.approx(score)
    assert verdict.flags == ("floor",)
    assert verdict.explanation == "b: counted as the floor, since the completion breaks it: no grade"
    assert verdict.parts["b"] is None


async def test_where_what_breaks_a_grader_is_to_stay_missing_such_a_judge_is_left_out_like_any_other():
    silenced = abstained("no grade", blame=Blame.COMPLETION)
    verdict = await verdict_of(scored(0.9), silenced, scored(0.7), combine="min", floor="missing")
    assert verdict.score == pytest.approx(0.7)
    assert (verdict.flags, verdict.explanation) == ((), "")


async def test_a_floor_in_numbers_is_what_a_judge_that_the_completion_breaks_counts_as():
    silenced = abstained("no grade", blame=Blame.COMPLETION)
    verdict = await verdict_of(scored(1.0), silenced, scored(1.0), combine="min", floor=2.0, score_range=(0.0, 10.0))
    assert verdict.score == pytest.approx(2.0)
    assert verdict.flags == ("floor",)
    assert verdict.explanation == "b: counted as the floor, since the completion breaks it: no grade"


async def test_a_judge_that_the_completion_breaks_does_not_count_for_the_quorum():
    silenced = abstained("no grade", blame=Blame.COMPLETION)
    assert (await verdict_of(scored(1.0), silenced, silenced)).score is None


async def test_explanations_costs_and_flags_of_the_judges_are_kept():
    verdict = await verdict_of(
        scored(1.0, "clear", cost=Cost(judge_call_count=1), flags=("clipped",)),
        scored(1.0, "short", cost=Cost(judge_call_count=2), flags=("clipped", "order_dependent")),
    )
    assert verdict.explanation == "a: clear\nb: short"
    assert verdict.cost == Cost(judge_call_count=3)
    assert verdict.flags == ("clipped", "order_dependent")


async def test_each_verdict_comes_as_soon_as_all_judges_have_given_theirs():
    slow = Member(scored(1.0), None)
    jury = jury_of({"a": Member(scored(1.0), scored(0.0)), "b": slow})
    verdicts = jury.score([Sample("x"), Sample("y")], Call())
    index, verdict = await anext(verdicts)
    assert (index, verdict.score) == (0, 1.0)
    await verdicts.aclose()
    await until(lambda: slow.closed)


def test_it_needs_what_its_judges_need():
    members = {
        "a": Member(needs=Needs(required_columns=frozenset({"answer"}))),
        "b": Member(needs=Needs(prompts=True, prompts_optional=True)),
    }
    assert jury_of(members).needs == Needs(frozenset({"answer"}), prompts=True, prompts_optional=True)


def test_it_serves_as_long_as_a_quorum_does():
    sick = Health(serving=False, reason="no connection")
    assert jury_of({"a": Member(), "b": Member()}).health() == HEALTHY
    health = jury_of({"a": Member(), "b": Member(health=sick), "c": Member()}).health()
    assert health == Health(reason="b: no connection")
    health = jury_of({"a": Member(), "b": Member(health=sick), "c": Member()}, quorum=3).health()
    assert health == Health(serving=False, reason="2 of 3 judges can serve, and it takes 3: b: no connection")


def test_its_identity_is_that_of_its_judges():
    jury = jury_of({"a": Member(), "b": Member(scored(1.0))})
    assert jury.identity() == {"a": {"verdicts": 0}, "b": {"verdicts": 1}}


def test_a_judge_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"rewards\.it\.jury: there is no judge `c` \(there is: `a`, `b`\)"):
        jury_of({"a": Member(), "b": Member()}, judges=("a", "c"))


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"judges": ["a"]}, "at least 2"),
        ({"judges": ["a", "a"]}, "one vote"),
        ({"judges": ["a", "disagreement"]}, "can't be called"),
        ({"judges": ["a", "b"], "quorum": 3}, "can't be met"),
        ({"judges": ["a", "b"], "quorum": 0}, "greater than or equal to 1"),
        ({"judges": ["a", "b"], "score_range": [1, 0]}, "is no range"),
        ({"judges": ["a", "b"], "combine": "max"}, "combine"),
        ({"judges": ["a", "b"], "max_disagreement": 2}, "max_disagreement"),
    ],
)
def test_options_that_make_no_sense_are_refused(wrong, why):
    with pytest.raises(ValidationError, match=why):
        JuryOptions.model_validate(wrong)


def test_it_is_known_by_its_name_and_names_its_judges():
    assert SCORERS["jury"] is Jury
    assert JuryOptions(judges=("a", "b")).judges_used() == ("a", "b")


def test_a_range_too_wide_for_numbers_is_refused():
    with pytest.raises(ValidationError, match="is no range"):
        JuryOptions.model_validate({"judges": ["a", "b"], "score_range": [-1e308, 1e308]})


async def test_a_judge_without_a_reference_excuses_nobody_who_silences_the_others():
    """It has none for the whole group: the others of it are scored by the judges that need none."""
    silenced, lacking = abstained("no grade", blame=Blame.COMPLETION), abstained("none", blame=Blame.REFERENCE)
    assert (await verdict_of(silenced, silenced, lacking)).blame is Blame.COMPLETION
    assert (await verdict_of(silenced, scored(1.0), lacking)).blame is Blame.COMPLETION
    assert (await verdict_of(silenced, lacking, lacking)).blame is Blame.REFERENCE
    assert (await verdict_of(scored(1.0), lacking, lacking)).blame is Blame.REFERENCE
