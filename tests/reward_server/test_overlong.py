"""The soft punishment of what comes near the limit of its length."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_server.domain import Sample, Status
from reward_server.scorers.overlong import Overlong, OverlongOptions


def overlong(**options):
    return Overlong(OverlongOptions(**options), None)


def of_tokens(scorer, count):
    return scorer.verdict_on(Sample("x", token_count=count)).score


def equation_13(length, longest, cache):
    """DAPO's formula, as the paper has it."""
    if length <= longest - cache:
        return 0.0
    if longest - cache < length <= longest:
        return ((longest - cache) - length) / cache
    return -1.0


@pytest.mark.parametrize(("longest", "cache"), [(20480, 4096), (100, 25), (100, 100), (100, 0), (64, 1)])
def test_the_score_is_the_papers_over_all_lengths(longest, cache):
    scorer = overlong(max_length=longest, cache=cache)
    for length in {*range(0, longest + 200, max(1, longest // 500)), longest - cache, longest, longest + 1}:
        assert of_tokens(scorer, length) == equation_13(length, longest, cache)


@given(st.integers(1, 10**6), st.data())
def test_it_falls_evenly_from_0_to_minus_1_and_stays_there(longest, data):
    cache = data.draw(st.integers(1, longest))
    scorer = overlong(max_length=longest, cache=cache)
    lengths = sorted(data.draw(st.lists(st.integers(0, 2 * longest), min_size=2, max_size=9)))
    scores = [of_tokens(scorer, length) for length in lengths]
    assert scores == sorted(scores, reverse=True)
    assert all(scorer.score_range[0] <= score <= scorer.score_range[1] for score in scores)
    for (one, other), (high, low) in zip(pairwise(lengths), pairwise(scores), strict=True):
        assert high - low <= (other - one) / cache + 1e-9  # no jumps
    assert of_tokens(scorer, longest) == of_tokens(scorer, 10**9) == -1.0


def test_without_a_cache_there_is_only_the_limit():
    scorer = overlong(max_length=10, cache=0)
    assert [of_tokens(scorer, length) for length in (0, 10, 11)] == [0, 0, -1]


@pytest.mark.parametrize(("unit", "text"), [("words", "w\n" * 8), ("chars", "12345678")])
def test_words_and_characters_may_be_counted_too(unit, text):
    assert overlong(unit=unit, max_length=10, cache=4).verdict_on(Sample(text)).score == -0.5
    assert overlong(unit=unit, max_length=10, cache=4).verdict_on(Sample(text * 1000)).score == -1
    assert overlong(unit=unit, max_length=7.5, cache=0).verdict_on(Sample(text)).score == -1


def test_unknown_tokens_abstain_and_conversations_say_which_view_they_need():
    assert overlong(max_length=10, cache=4).verdict_on(Sample("text")).status is Status.ABSTAINED
    verdict = overlong(unit="words", max_length=10, cache=4).verdict_on(Sample([{"role": "assistant", "content": "a"}]))
    assert "'view: full'" in verdict.status_reason


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"max_length": 10}, "cache"),
        ({"cache": 10}, "max_length"),
        ({"max_length": 10, "cache": 11}, "cache must not be over max_length; here they are 11 and 10"),
        ({"max_length": 10, "cache": -1}, "greater than or equal to 0"),
        ({"max_length": math.inf, "cache": 1}, "max_length"),
        ({"max_length": 0, "cache": 0}, "greater than 0"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, told):
    with pytest.raises(ValidationError) as caught:
        OverlongOptions(**options)
    assert told in str(caught.value)
