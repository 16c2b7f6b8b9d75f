"""What is measured of a batch, against numbers worked out by hand."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.watching.batch import BatchFacts, metrics


def facts(rewards: dict[str, Any], *, texts: Any = None, lengths: Any = None, size: int = 2, **more: Any) -> BatchFacts:
    count = len(next(iter(rewards.values())))
    return BatchFacts(
        prompts=[f"p{index // size}" for index in range(count)],
        completions=texts or [f"t{index}" for index in range(count)],
        completion_token_counts=lengths or list(range(1, count + 1)),
        rewards=rewards,
        weights=more.pop("weights", [1.0] * len(rewards)),
        group_size=size,
        **more,
    )


def test_groups_without_differences_are_counted_for_each_reward_and_the_weighted_sum():
    found = metrics(facts({"a": [1, 1, 2, 3], "b": [5, 5, 6, 4]}, weights=[2.0, 1.0]))
    assert found["rewards/a/zero_variance"] == 0.5
    assert found["rewards/b/zero_variance"] == 0.5
    assert found["watch/zero_variance"] == 1.0  # 2 * 2 + 6 == 2 * 3 + 4
    assert metrics(facts({"a": [1, 1, 2, 3], "b": [5, 5, 6, 4]}))["watch/zero_variance"] == 0.5


def test_differences_that_single_precision_does_not_tell_are_none():
    assert metrics(facts({"a": [0.1, 0.1 + 1e-8]}))["watch/zero_variance"] == 1.0
    assert metrics(facts({"a": [0.1, 0.11]}))["watch/zero_variance"] == 0.0


def test_a_completion_whose_sum_is_not_known_is_not_compared():
    found = metrics(facts({"a": [1, 1, 1, 1], "b": [None, 2, 3, 3]}))
    assert found["watch/zero_variance"] == 1.0  # of the first group one is left, which is no group
    assert found["rewards/a/zero_variance"] == 1.0


def test_a_reward_that_is_missing_for_a_whole_group_is_left_out_of_its_sums():
    found = metrics(facts({"a": [1, 2, 1, 1], "b": [None, None, 3, 3]}))
    assert found["watch/zero_variance"] == 0.5


def test_length_is_correlated_within_groups_whatever_lies_between_them():
    lengths = [10, 20, 30, 110, 120, 130]
    within = metrics(facts({"a": [3, 2, 1, 9, 8, 7]}, lengths=lengths, size=3))
    assert within["rewards/a/length_correlation"] == pytest.approx(-1.0)
    assert within["watch/length_correlation"] == pytest.approx(-1.0)


def test_a_correlation_by_hand():
    # centred: lengths -1 1 -2 2, scores -.5 .5 .5 -.5: sum of products -1; sums of squares 10 and 1
    found = metrics(facts({"a": [0, 1, 1, 0, None, 1]}, lengths=[1, 3, 1, 5, 7, 9], size=2))
    assert "rewards/a/length_correlation" not in found  # four completions less two groups are not enough
    found = metrics(facts({"a": [0, 1, 1, 0, 2, 2]}, lengths=[1, 3, 1, 5, 7, 7], size=2))
    assert found["rewards/a/length_correlation"] == pytest.approx(-1 / math.sqrt(10))


def test_a_constant_length_or_score_has_no_correlation():
    assert "watch/length_correlation" not in metrics(facts({"a": [1, 2, 3, 4]}, lengths=[5] * 4, size=4))
    assert "watch/length_correlation" not in metrics(facts({"a": [1.0] * 4}, size=4))


def test_copies_are_counted_within_groups_and_over_the_batch():
    found = metrics(facts({"a": [0] * 4}, texts=["x", "x", "y", "x"], size=2))
    assert found["watch/duplicates"] == 0.5  # one of the two that could be a copy is one
    assert found["watch/duplicates_batch"] == pytest.approx(2 / 3)
    talks = [[{"role": "assistant", "content": text}] for text in ("x", "x", "y", "z")]
    assert metrics(facts({"a": [0] * 4}, texts=talks, size=2))["watch/duplicates"] == 0.5


def test_the_spread_of_lengths_leaves_out_what_was_cut_off():
    assert metrics(facts({"a": [0] * 3}, lengths=[4, 4, 4], size=3))["watch/length_spread"] == 0.0
    assert metrics(facts({"a": [0] * 2}, lengths=[10, 30]))["watch/length_spread"] == pytest.approx(0.5)
    cut = metrics(facts({"a": [0] * 3}, lengths=[4, 4, 99], truncated=[False, False, True], size=3))
    assert cut["watch/length_spread"] == 0.0
    assert "watch/length_spread" not in metrics(facts({"a": [0] * 2}, lengths=[9, 9], truncated=[True, True]))


def test_ends_and_spread_of_a_reward():
    found = metrics(facts({"a": [0.0, 1.0, 1.0, 1.0, None, 0.5]}, size=2))
    assert (found["rewards/a/max"], found["rewards/a/min"]) == (1.0, 0.0)
    assert (found["rewards/a/at_max"], found["rewards/a/at_min"]) == (pytest.approx(0.6), pytest.approx(0.2))
    assert found["rewards/a/group_std"] == pytest.approx(0.25)  # 0.5 and 0; the last group has one score only


def test_what_is_no_finite_number_is_counted_and_taken_for_missing():
    found = metrics(facts({"a": [math.nan, math.inf, 1.0, 1.0]}))
    assert found["watch/not_finite"] == 2.0
    assert found["rewards/a/max"] == 1.0


scores = st.lists(st.none() | st.floats() | st.integers() | st.just(10**400), max_size=12)


@given(
    rewards=st.dictionaries(st.text(max_size=3), scores, max_size=3),
    texts=st.lists(st.text(max_size=2) | st.none() | st.lists(st.dictionaries(st.text(), st.text())), max_size=12),
    lengths=st.lists(st.integers() | st.none(), max_size=12),
    weights=st.lists(st.floats(), max_size=4),
    size=st.integers(-1, 13),
    truncated=st.none() | st.lists(st.booleans(), max_size=12),
)
def test_odd_data_never_raises_and_never_makes_an_odd_number(*, rewards, texts, lengths, weights, size, truncated):
    odd = BatchFacts(texts, texts, lengths, rewards, weights, size, truncated)
    found = metrics(odd)
    assert all(isinstance(value, float) and math.isfinite(value) for value in found.values())
    assert metrics(odd) == found
    for name, value in found.items():
        if name.endswith(("variance", "duplicates", "duplicates_batch", "at_max", "at_min")):
            assert 0 <= value <= 1
        if name.endswith("correlation"):
            assert -1.0001 <= value <= 1.0001
