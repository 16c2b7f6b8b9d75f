"""Diversity: what similarity is, and the laws of a group."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_server.domain import Blame, Sample, Status
from reward_server.scorers.base import RuleContext
from reward_server.scorers.diversity import Diversity, DiversityOptions

METRICS = ["exact", "ngram", "edit"]
texts = st.lists(st.sampled_from(["a", "b", "c", "d", "e"]), max_size=8).map(" ".join) | st.text(max_size=10)
groups = st.lists(texts, min_size=2, max_size=6)
options = st.fixed_dictionaries(
    {
        "metric": st.sampled_from(METRICS),
        "others": st.sampled_from(["mean", "max"]),
        "unit": st.sampled_from(["words", "chars"]),
        "n": st.integers(1, 4),
    }
)


def verdicts(completions, **options):
    rule = Diversity(DiversityOptions(**options), RuleContext("r", Path()))
    return rule.judge_group([Sample(completion) for completion in completions])


def scores(completions, **options):
    return [verdict.score for verdict in verdicts(completions, **options)]


@pytest.mark.parametrize(
    ("options", "completions", "expected"),
    [
        ({"metric": "exact"}, ["A  b", "a\nB ", "c", "d"], [2 / 3, 2 / 3, 1.0, 1.0]),
        ({"metric": "exact", "others": "max"}, ["a", "a", "c"], [0.0, 0.0, 1.0]),
        ({"metric": "exact", "others": "max"}, ["yes sir", "Yes, sir.", "yes\u200b sir", "no"], [0.0, 0.0, 0.0, 1.0]),
        ({"n": 1}, ["a b c", "b c d"], [0.5, 0.5]),
        ({"n": 2}, ["a b c", "b c d"], [2 / 3, 2 / 3]),
        ({"n": 3}, ["a b", "a b c"], [1.0, 1.0]),
        ({"n": 3}, ["a b", "A b"], [0.0, 0.0]),
        ({"n": 1, "unit": "chars"}, ["abc", "bcd"], [0.5, 0.5]),
        ({"n": 1}, ["a b", "a b", "a c"], [1 - (1 + 1 / 3) / 2, 1 - (1 + 1 / 3) / 2, 1 - 1 / 3]),
        ({"metric": "edit"}, ["abcd", "abxd"], [0.25, 0.25]),
        ({"metric": "edit", "others": "max"}, ["abcd", "abxd", "zzzz"], [0.25, 0.25, 1.0]),
        ({"metric": "edit"}, ["", "abc"], [1.0, 1.0]),
        ({"metric": "edit"}, ["", " "], [0.0, 0.0]),
        ({"max_chars": 3}, ["abcX", "abcY"], [0.0, 0.0]),
    ],
)
def test_a_score_is_1_less_the_similarity_to_the_others(options, completions, expected):
    assert scores(completions, **options) == pytest.approx(expected)


@given(groups, options, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_another_order_of_the_group_gives_the_same_scores_in_that_order(group, options, random):
    order = list(range(len(group)))
    random.shuffle(order)
    before = scores(group, **options)
    assert scores([group[place] for place in order], **options) == [before[place] for place in order]


@given(groups, options)
@settings(deadline=None)
def test_every_score_is_within_the_range_and_copies_score_alike(group, options):
    got = scores(group, **options)
    assert all(0.0 <= score <= 1.0 for score in got)
    for text in group:
        assert len({score for each, score in zip(group, got, strict=True) if each == text}) == 1


@given(groups, options, st.data())
@settings(deadline=None)
def test_to_copy_another_never_pays(group, options, data):
    copied = data.draw(st.integers(0, len(group) - 1))
    copier = data.draw(st.integers(0, len(group) - 1).filter(lambda place: place != copied))
    group[copier] = group[copied]
    got = scores(group, **options)
    share = 1.0 if options["others"] == "max" else 1 / (len(group) - 1)
    assert got[copier] <= 1.0 - share + 1e-12


@given(st.lists(st.sampled_from(["red", "green", "blue", "grey"]), min_size=2, max_size=8))
def test_of_texts_that_share_nothing_the_most_frequent_scores_lowest(group):
    got = dict(zip(group, scores(group, metric="exact"), strict=True))
    most = max(group, key=group.count)
    assert got[most] == min(got.values())
    assert got[most] == pytest.approx(1 - (group.count(most) - 1) / (len(group) - 1))


def test_a_group_of_one_has_nothing_to_be_compared_with():
    (got,) = verdicts(["alone"])
    assert (got.status, got.blame) == (Status.ABSTAINED, Blame.UNKNOWN)
    assert "whole groups of two or more" in got.status_reason


def test_a_conversation_takes_no_part_and_says_which_view_it_needs():
    got = verdicts(["a b c", [{"role": "assistant", "content": "a b c"}], "a b c"])
    assert got[1].status is Status.FAILED
    assert "'view: full'" in got[1].status_reason
    assert [got[0].score, got[2].score] == [0.0, 0.0]


@pytest.mark.parametrize("metric", METRICS)
def test_hostile_texts_are_compared_by_their_beginning(metric):
    hostile = ["x" * 1_000_000, "x" * 999_999 + "y", "\ud800\x00", "ab " * 300_000]
    got = scores(hostile, metric=metric)
    assert got[0] == got[1] < min(got[2:])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"metric": "jaccard"}, "'exact', 'ngram' or 'edit'"),
        ({"others": "min"}, "'mean' or 'max'"),
        ({"n": 0}, "greater than or equal to 1"),
        ({"max_chars": 0}, "greater than or equal to 1"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_would_be_right(options, told):
    with pytest.raises(ValidationError) as caught:
        DiversityOptions(**options)
    assert told in str(caught.value)
