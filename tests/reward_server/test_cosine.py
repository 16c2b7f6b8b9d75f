"""The cosine reward: the paper's formula, its limits, and what it does where length or correctness is not known."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recipes import leaves, made_of, range_of, saying, verdicts_of
from small_rewards import rule

from reward_server.domain import Sample, Status, scored
from reward_server.errors import ConfigError
from reward_server.scorers.recipes.cosine import CosineOptions, cos_fn

PAPER = {"r0_correct": 2.0, "rL_correct": 1.0, "r0_wrong": -10.0, "rL_wrong": 0.0, "r_exceeded": -10.0}
OPEN_R1 = {"r0_correct": 1.0, "rL_correct": 0.5, "r0_wrong": -1.0, "rL_wrong": -0.5, "r_exceeded": None}
LIMIT = 64
RIGHT = leaves(solved=(0.0, 1.0))


def formula(length, right, r0_correct, rL_correct, r0_wrong, rL_wrong, r_exceeded):  # noqa: N803, PLR0917  # the paper's
    """eta_min + (eta_max - eta_min) (1 + cos(t pi / T)) / 2, where eta_max is the value at t = 0."""
    if length >= LIMIT:
        if r_exceeded is not None:
            return r_exceeded
        return rL_correct if right else rL_wrong
    at_none, at_limit = (r0_correct, rL_correct) if right else (r0_wrong, rL_wrong)
    return at_limit + 0.5 * (at_none - at_limit) * (1 + math.cos(length * math.pi / LIMIT))


async def scores(options, *cases):
    recipe = {"cosine": {"correct": "solved", "max_length": LIMIT, **options}}
    async with made_of(RIGHT, {"it": recipe}) as rewards:
        samples = [saying({"solved": float(right)}, token_count=length) for length, right in cases]
        return [verdict.score for verdict in (await verdicts_of(rewards, samples, "it"))["it"]]


@pytest.mark.parametrize("options", [PAPER, OPEN_R1, {**PAPER, "r0_correct": 0.0, "rL_correct": 10.0}])
async def test_the_score_is_the_papers_over_a_grid_of_lengths(options):
    cases = [(length, right) for length in range(LIMIT + 30) for right in (True, False)]
    assert await scores(options, *cases) == pytest.approx([formula(*case, **options) for case in cases], abs=1e-12)


async def test_the_defaults_are_the_papers():
    cases = [(0, True), (LIMIT - 1, True), (0, False), (LIMIT - 1, False), (LIMIT, True), (10**9, False)]
    assert await scores({}, *cases) == await scores(PAPER, *cases)
    assert {name: CosineOptions(correct="x", max_length=1).model_dump()[name] for name in PAPER} == PAPER


@given(st.floats(1, 1e6), st.floats(-10, 10), st.floats(-10, 10), st.floats(0, 2), st.floats(0, 2))
def test_the_wave_goes_from_one_score_to_the_other_without_jumps_and_never_beyond(limit, first, last, one, other):
    assert cos_fn(0, limit, first, last) == pytest.approx(first)
    assert cos_fn(limit, limit, first, last) == cos_fn(3 * limit, limit, first, last) == pytest.approx(last)
    here, there = (cos_fn(share * limit, limit, first, last) for share in sorted((one, other)))
    for score in (here, there):
        assert min(first, last) - 1e-9 <= score <= max(first, last) + 1e-9
    assert (there - here) * (last - first) >= -1e-9  # it only goes one way
    assert abs(there - here) <= math.pi / 2 * abs(one - other) * abs(last - first) + 1e-9  # its steepest slope


async def test_its_range_is_that_of_the_scores_it_may_give():
    recipe = {"correct": "solved", "max_length": LIMIT}
    assert await range_of(RIGHT, {"cosine": recipe}) == (-10, 2)
    assert await range_of(RIGHT, {"cosine": {**recipe, **OPEN_R1}}) == (-1, 1)
    assert await range_of(leaves(solved=None), {"cosine": recipe}) == (-10, 2)


@pytest.mark.parametrize(
    ("bound", "words"),
    [(2, "nothing ever reaches it: 'solved' reaches 1 at most"), (0, "everything .* scores 0 at least")],
)
async def test_a_bound_that_all_answers_reach_or_none_is_refused(bound, words):
    recipe = {"cosine": {"correct": "solved", "max_length": LIMIT, "correct_at_least": bound}}
    with pytest.raises(ConfigError, match=f"rewards.it.cosine.correct_at_least: {bound} decides nothing, {words}"):
        await made_of(RIGHT, {"it": recipe}).__aenter__()


async def test_from_which_score_on_an_answer_is_right_can_be_said():
    async def one(score, **options):
        recipe = {"cosine": {"correct": "solved", "max_length": LIMIT, **OPEN_R1, **options}}
        async with made_of(RIGHT, {"it": recipe}) as rewards:
            return (await verdicts_of(rewards, [saying({"solved": score}, token_count=0)], "it"))["it"][0].score

    assert await one(0.99) == -1.0
    assert await one(0.5, correct_at_least=0.5) == 1.0


async def test_unknown_tokens_abstain_and_what_is_missing_of_the_part_is_told_first():
    async with made_of(RIGHT, {"it": {"cosine": {"correct": "solved", "max_length": LIMIT}}}) as rewards:
        samples = [saying({"solved": 1.0}), saying({"solved": "no reference"})]
        unknown, missing = (await verdicts_of(rewards, samples, "it"))["it"]
    assert (unknown.status, unknown.score) == (Status.ABSTAINED, None)
    assert "did not send how many tokens" in unknown.status_reason
    assert dict(unknown.parts) == {"solved": 1.0}
    assert missing.status_reason == "part 'solved' is missing: no reference"


async def test_of_a_conversation_the_last_text_is_counted_and_the_part_keeps_its_own_view():
    seen = []
    part = rule(lambda sample: seen.append(sample.completion) or scored(1.0), score_range=(0.0, 1.0))
    turns = [{"role": "assistant", "content": "one two three"}, {"role": "assistant", "content": "one two"}]
    recipe = {"cosine": {"correct": "solved", "unit": "words", "max_length": 4, **OPEN_R1}}
    async with made_of({"solved": part}, {"it": recipe}) as rewards:
        (verdict,) = (await verdicts_of(rewards, [Sample(turns)], "it"))["it"]
    assert verdict.score == pytest.approx(0.75)
    assert seen == ["one two"]
