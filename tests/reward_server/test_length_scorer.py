"""Length: what is counted, and what a length scores."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_server.domain import Sample, Status
from reward_server.scorers.length import Length, LengthOptions

STEPS = [{"below": 5, "score": -1}, {"below": 50, "score": 1}]
numbers = st.floats(0.5, 1e6)


def length(**options):
    return Length(LengthOptions(**options), None)


def score(scorer, text, **sample):
    return scorer.verdict_on(Sample(text, **sample)).score


@pytest.mark.parametrize(
    ("unit", "text", "count"),
    [
        ("words", "", 0),
        ("words", "  \n\t ", 0),
        ("words", " two\u2003words \n", 2),
        ("words", "a-b c,d e", 3),
        ("chars", "naïve\n", 6),
        ("chars", "😀", 1),
        ("chars", "", 0),
    ],
)
def test_what_is_counted(unit, text, count):
    scorer = length(unit=unit, target=0, width=100)
    assert score(scorer, text) == 1 - count / 100


@pytest.mark.parametrize(
    ("words", "expected"), [(10, 1.0), (25, 0.5), (40, 0.0), (41, 0.0), (500, 0.0), (4, 0.8), (0, 2 / 3)]
)
def test_the_slope(words, expected):
    assert score(length(target=10, width=30), "w " * words) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("words", "expected"), [(0, 0.0), (25, 0.0), (40, 0.6), (50, 1.0), (99, 1.0), (100, 1.0), (110, 0.6), (126, 0.0)]
)
def test_the_range_and_its_two_slopes(words, expected):
    scorer = length(range={"low": 50, "high": 100, "width": 25})
    assert score(scorer, "w " * words) == pytest.approx(expected)
    assert scorer.score_range == (0, 1)


def test_a_range_that_begins_at_nothing_only_falls_on_one_side():
    scorer = length(unit="chars", range={"high": 4, "width": 2})
    assert [score(scorer, "x" * count) for count in (0, 4, 5, 6, 7)] == [1, 1, 0.5, 0, 0]


@given(st.text(), st.floats(0, 1e6), numbers)
def test_a_range_of_one_length_is_a_target(text, target, width):
    for unit in ("words", "chars"):
        same = length(unit=unit, range={"low": target, "high": target, "width": width}) if target else None
        assert same is None or score(same, text) == score(length(unit=unit, target=target, width=width), text)


@pytest.mark.parametrize(("words", "expected"), [(0, -1.0), (4, -1.0), (5, 1.0), (49, 1.0), (50, 0.5), (900, 0.5)])
def test_the_stair(words, expected):
    assert score(length(steps=STEPS, otherwise=0.5), "w " * words) == expected


def test_tokens_are_those_that_the_trainer_counted():
    scorer = length(unit="tokens", target=10, width=10)
    assert score(scorer, "whatever", token_count=15) == 0.5
    assert score(scorer, [{"role": "assistant", "content": "a conversation too"}], token_count=15) == 0.5


def test_unknown_tokens_abstain_and_say_so():
    verdict = length(unit="tokens", target=10, width=10).verdict_on(Sample("text"))
    assert verdict.status is Status.ABSTAINED
    assert "did not send how many tokens" in verdict.status_reason
    assert "'unit: words'" in verdict.status_reason


def test_a_conversation_says_which_view_it_needs():
    verdict = length(target=10, width=10).verdict_on(Sample([{"role": "assistant", "content": "a"}]))
    assert verdict.status is Status.FAILED
    assert "'view: full'" in verdict.status_reason


@given(st.text(), st.floats(0, 1e6), numbers)
def test_a_slope_is_what_its_formula_says_and_stays_in_its_range(text, target, width):
    for unit, count in (("words", len(text.split())), ("chars", len(text))):
        scorer = length(unit=unit, target=target, width=width)
        got = score(scorer, text)
        assert got == max(0.0, 1 - abs(count - target) / width)
        assert scorer.score_range[0] <= got <= scorer.score_range[1]


@given(st.integers(0, 200), st.lists(numbers, min_size=1, max_size=5, unique=True), st.data())
def test_a_stair_is_what_its_steps_say_and_stays_in_its_range(words, bounds, data):
    scores = data.draw(st.lists(st.floats(-10, 10), min_size=len(bounds) + 1, max_size=len(bounds) + 1))
    steps = [{"below": b, "score": s} for b, s in zip(sorted(bounds), scores, strict=False)]
    scorer = length(steps=steps, otherwise=scores[-1])
    got = score(scorer, "w\n" * words)
    covering = [step["score"] for step in steps if words < step["below"]]
    assert got == (covering[0] if covering else scores[-1])
    assert scorer.score_range == (min(scores), max(scores))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "give either target and width, or range, or steps and otherwise; here is neither"),
        ({"target": 3}, "here is target"),
        ({"width": 3}, "here is width"),
        ({"steps": STEPS}, "here is steps"),
        ({"otherwise": 3}, "here is otherwise"),
        ({"target": 3, "width": 3, "steps": STEPS, "otherwise": 0}, "here is target, width, steps, otherwise"),
        ({"target": 3, "width": 0}, "greater than 0"),
        ({"target": -1, "width": 1}, "greater than or equal to 0"),
        ({"target": math.inf, "width": 1}, "finite number"),
        ({"target": 1, "width": math.nan}, "width"),
        ({"target": "10", "width": 1}, "valid number"),
        ({"target": 1, "width": 1, "unit": "lines"}, "'chars', 'words' or 'tokens'"),
        ({"target": 1, "width": 1, "words": 3}, "words"),
        ({"range": {"high": 3, "width": 1}, "target": 3, "width": 1}, "here is target, width, range"),
        ({"range": {"low": 4, "high": 3, "width": 1}}, "low must not be over high; here they are 4 and 3"),
        ({"range": {"low": 4, "width": 1}}, "high"),
        ({"steps": [], "otherwise": 1}, "at least 1 item"),
        ({"steps": STEPS[::-1], "otherwise": 1}, "the steps' bounds must ascend; here they are 50, 5"),
        ({"steps": [STEPS[0], STEPS[0]], "otherwise": 1}, "must ascend; here they are 5, 5"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_would_be_right(options, told):
    with pytest.raises(ValidationError) as caught:
        LengthOptions(**options)
    assert told in str(caught.value)
