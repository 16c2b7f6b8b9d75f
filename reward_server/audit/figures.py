"""Shares, correlations and their 95 % intervals, by the formulas of textbooks. No randomness but a seeded bootstrap."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import Final

Z: Final = NormalDist().inv_cdf(0.975)
"""Half the width of a 95 % interval, in standard deviations."""

RESAMPLES: Final = 2000
SEED: Final = 0
SPEARMAN_VARIANCE: Final = 1.06
"""What Fisher's z of a rank correlation has more of variance than that of a product-moment one (Fieller et al. 1957)."""

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure, how much it rests on, and where the truth lies with 95 % confidence."""

    value: float
    n: int
    interval: Interval | None = None  # None: there is too little for one


def share(successes: Sequence[float], n: int | None = None) -> Estimate | None:
    """Returns the mean of values from 0 to 1, with Wilson's interval; None of nothing.

    Args:
        successes: (N,) 1 for yes, 0 for no, 0.5 for a tie.
        n: how many of them are independent, where some hang together; default: all.
    """
    if not successes:
        return None
    count = len(successes) if n is None else n
    value = fmean(successes)
    return Estimate(value, count, wilson(value, count))


def wilson(value: float, n: int) -> Interval:
    """Returns Wilson's score interval of a share."""
    spread = Z * math.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    middle = value + Z**2 / (2 * n)
    scale = 1 + Z**2 / n
    return max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale)


def difference(first: Estimate | None, second: Estimate | None) -> Estimate | None:
    """Returns how much larger the first of two shares is, with Newcombe's interval made of both Wilson intervals."""
    if first is None or second is None or first.interval is None or second.interval is None:
        return None
    value = first.value - second.value
    below = math.hypot(first.value - first.interval[0], second.interval[1] - second.value)
    above = math.hypot(first.interval[1] - first.value, second.value - second.interval[0])
    return Estimate(value, first.n + second.n, (value - below, value + above))


def mean(values: Sequence[float]) -> Estimate | None:
    """Returns the mean with a bootstrapped interval; None of nothing."""
    if not values:
        return None
    return Estimate(fmean(values), len(values), bootstrap(values, fmean) if len(values) > 1 else None)


def bootstrap(values: Sequence[float], statistic: Callable[[Sequence[float]], float]) -> Interval:
    """Returns the middle 95 % of a statistic over resamples of the values; the same values, the same interval."""
    generator = random.Random(SEED)  # noqa: S311  # no secret hangs on it
    found = sorted(statistic(generator.choices(values, k=len(values))) for _ in range(RESAMPLES))
    cut = RESAMPLES // 40
    return found[cut], found[-cut - 1]


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> Estimate | None:
    """Returns Spearman's correlation of two (N,) sequences; None where one is constant or N is below 4."""
    n = len(first)
    least = 4  # Fisher's interval divides by N - 3
    if n < least:
        return None
    value = _correlation(_ranks(first), _ranks(second))
    if value is None:
        return None
    if abs(value) >= 1.0:
        return Estimate(value, n, (value, value))
    half = Z * math.sqrt(SPEARMAN_VARIANCE / (n - 3))
    return Estimate(value, n, (math.tanh(math.atanh(value) - half), math.tanh(math.atanh(value) + half)))


def agreement(order: Sequence[float], scores: Sequence[float]) -> float:
    """Returns Kendall's tau-a of (N,) scores with an order without ties: 1 as it should be, 0 as good as none, -1 reversed.

    Equal scores count as neither right nor wrong.
    """
    pairs = [(i, j) for i in range(len(order)) for j in range(i)]
    return sum(_sign(order[i] - order[j]) * _sign(scores[i] - scores[j]) for i, j in pairs) / len(pairs)


def _sign(value: float) -> int:
    return (value > 0) - (value < 0)


def _ranks(values: Sequence[float]) -> list[float]:
    """Returns each value's rank from 0; equal values share the mean of theirs."""
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(place)
    return [fmean(places[value]) for value in values]


def _correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    mean_first, mean_second = fmean(first), fmean(second)
    products = sum((a - mean_first) * (b - mean_second) for a, b in zip(first, second, strict=True))
    size = math.sqrt(sum((a - mean_first) ** 2 for a in first) * sum((b - mean_second) ** 2 for b in second))
    return max(-1.0, min(1.0, products / size)) if size > 0 else None
