"""Shares, correlations and intervals, against figures that are known."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.audit import figures


def test_wilson_has_the_figures_of_textbooks() -> None:
    assert figures.wilson(0.5, 65) == pytest.approx((0.3818, 0.6182), abs=1e-4)
    assert figures.wilson(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert figures.wilson(1.0, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)


@given(st.floats(0, 1), st.integers(1, 10_000))
def test_wilson_holds_the_share_and_stays_in_range(value: float, n: int) -> None:
    low, high = figures.wilson(value, n)
    assert 0.0 <= low <= value + 1e-9
    assert value - 1e-9 <= high <= 1.0


def test_newcombe_has_the_figures_of_his_paper() -> None:
    """Newcombe 1998, table II (a): 56/70 less 48/80, method 10."""
    found = figures.difference(figures.share([1] * 56 + [0] * 14), figures.share([1] * 48 + [0] * 32))
    assert found is not None
    assert found.value == pytest.approx(0.2)
    assert found.interval == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_repeats_widen_an_interval_where_they_count_once() -> None:
    every, once = figures.share([0, 1] * 10), figures.share([0, 1] * 10, 2)
    assert every is not None
    assert once is not None
    assert once.n == 2
    assert once.value == every.value
    assert once.interval[0] < every.interval[0]  # type: ignore[index]


def test_rank_correlation_sees_order_and_not_distance() -> None:
    found = figures.rank_correlation([1, 2, 3, 4, 5], [1, 10, 100, 1000, 10_000])
    assert found is not None
    assert found.value == pytest.approx(1.0)


def test_rank_correlation_with_ties() -> None:
    found = figures.rank_correlation([1, 2, 3, 4, 5], [2, 2, 1, 5, 4])  # ranks 1.5 1.5 0 4 3
    assert found is not None
    assert found.value == pytest.approx(5.5 / 95**0.5)
    assert found.interval is not None
    assert found.interval[0] < found.value < found.interval[1]


def test_what_does_not_vary_correlates_with_nothing() -> None:
    assert figures.rank_correlation([1, 2, 3, 4], [7, 7, 7, 7]) is None


def test_agreement_with_an_order() -> None:
    order = [4, 3, 2, 1]
    assert figures.agreement(order, [9, 5, 3, 0]) == 1.0
    assert figures.agreement(order, [0, 3, 5, 9]) == -1.0
    assert figures.agreement(order, [1, 1, 1, 1]) == 0.0


def test_a_bootstrapped_interval_is_the_same_each_time() -> None:
    first, second = figures.mean([0.1, 0.4, 0.2, 0.9]), figures.mean([0.1, 0.4, 0.2, 0.9])
    assert first == second
    assert first is not None
    assert first.interval is not None
    assert first.interval[0] < first.value < first.interval[1]


def test_of_nothing_there_is_no_figure() -> None:
    assert figures.share([]) is None
    assert figures.mean([]) is None
    assert figures.difference(None, figures.share([1])) is None
