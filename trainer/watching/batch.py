"""What is measured of one generation batch beside TRL's own metrics: signs of a policy that games its rewards.

Every number is a mean, a share or a correlation of the whole batch over all ranks. One that has no meaning in a batch
(the correlation of a reward that is the same for all) is left out, and TRL averages over those batches that have it.

| metric | meaning |
|---|---|
| `watch/zero_variance` | share of the groups all of whose completions have the same weighted sum: they teach nothing |
| `watch/length_correlation` | Pearson correlation of length in tokens and weighted sum, within groups |
| `watch/duplicates` | 0: within each group all completions differ; 1: within each group all are one text |
| `watch/duplicates_batch` | the same over the whole batch: the same text for different prompts |
| `watch/length_spread` | standard deviation of the lengths / their mean, of the completions that were not cut off |
| `watch/not_finite` | scores in the batch that are NaN or infinite |
| `rewards/<name>/zero_variance` | share of the groups to all of whose completions this reward gives the same score |
| `rewards/<name>/length_correlation` | as above, with this reward's score |
| `rewards/<name>/group_std` | standard deviation of this reward within a group, the mean over groups |
| `rewards/<name>/max`, `/min` | the largest and the smallest score of the batch |
| `rewards/<name>/at_max`, `/at_min` | share of the scores that equal them |

Lengths and scores are correlated after each group's own mean was taken from both: GRPO learns from differences within
groups only, and that hard prompts get both longer completions and lower scores is no sign of anything.
Pure Python, and a matter of milliseconds for some hundred completions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")
Scores = Sequence[float | None]  # (N,); None = missing
_Row = list[float | None]

SAME = 1e-6
"""Scores this close are the same, relative to their size where that is above 1: TRL computes in single precision."""

LEAST_FREEDOM = 3
"""Completions less groups, for a correlation: two groups of two are hardly ever correlated other than by 1 or -1."""


@dataclass(frozen=True, slots=True)
class BatchFacts:
    """A generation batch of N completions, of all ranks together; a group's completions follow one another."""

    prompts: Sequence[Any]  # (N,) texts or conversations
    completions: Sequence[Any]  # (N,) texts or conversations
    completion_token_counts: Sequence[int]  # (N,)
    rewards: Mapping[str, Scores]  # by name, as the functions gave them: None = missing, before any policy filled it
    weights: Sequence[float]  # in the order of `rewards`
    group_size: int
    truncated: Sequence[bool] | None = None  # (N,) cut off at the length limit; None = not known


def metrics(facts: BatchFacts) -> dict[str, float]:
    """Returns the metrics named at the top of this module, those that have a meaning here. Never raises."""
    rewards = {name: _finite(scores) for name, scores in facts.rewards.items()}
    lengths = _finite(facts.completion_token_counts)
    size = facts.group_size if facts.group_size > 0 else max(len(facts.completions), 1)
    total = _weighted_sum(list(rewards.values()), facts.weights, size)
    texts = [each if isinstance(each, str) else repr(each) for each in facts.completions]
    found: dict[str, float | None] = {
        "watch/zero_variance": _zero_variance(total, size),
        "watch/length_correlation": _correlation(lengths, total, size),
        "watch/duplicates": _duplicates(_groups(texts, size)),
        "watch/duplicates_batch": _duplicates([texts]),
        "watch/length_spread": _length_spread(lengths, facts.truncated),
        "watch/not_finite": float(sum(map(_count_not_finite, facts.rewards.values()))),
    }
    for name, scores in rewards.items():
        for metric, value in _of_reward(scores, lengths, size).items():
            found[f"rewards/{name}/{metric}"] = value
    return {name: value for name, value in found.items() if value is not None and math.isfinite(value)}


def _of_reward(scores: _Row, lengths: _Row, size: int) -> dict[str, float | None]:
    known = [score for score in scores if score is not None]
    if not known:
        return {}
    low, high = min(known), max(known)
    stds = [_std(group) for group in _scored_groups(scores, size)]
    return {
        "zero_variance": _zero_variance(scores, size),
        "length_correlation": _correlation(lengths, scores, size),
        "group_std": _mean(stds),
        "max": high,
        "min": low,
        "at_max": _mean([float(_same(score, high)) for score in known]),
        "at_min": _mean([float(_same(score, low)) for score in known]),
    }


def _weighted_sum(rewards: Sequence[_Row], weights: Sequence[float], size: int) -> _Row:
    """Returns each completion's weighted sum, None where a score is missing that another of its group has.

    A reward that is missing for a whole group is left out for that group: it tells its completions not apart.
    """
    count = max(map(len, rewards), default=0)
    rows = [scores + [None] * (count - len(scores)) for scores in rewards]
    factors = [*weights, *[1.0] * (len(rows) - len(weights))]
    sums: _Row = []
    for start in range(0, count, size):
        end = min(start + size, count)
        there = [(row, factor) for row, factor in zip(rows, factors, strict=False) if _any_known(row[start:end])]
        for index in range(start, end):
            terms = [None if (score := row[index]) is None else score * factor for row, factor in there]
            known = [term for term in terms if term is not None]
            sums.append(sum(known) if known and len(known) == len(terms) else None)
    return sums


def _zero_variance(scores: _Row, size: int) -> float | None:
    return _mean([float(_same(min(group), max(group))) for group in _scored_groups(scores, size)])


def _correlation(lengths: _Row, scores: _Row, size: int) -> float | None:
    """Returns the Pearson correlation after each group's mean was taken from both; None where one of them is constant."""
    xs: list[float] = []
    ys: list[float] = []
    group_count = 0
    for group in _groups(list(zip(lengths, scores, strict=False)), size):
        pairs = [(x, y) for x, y in group if x is not None and y is not None]
        if len(pairs) > 1:
            group_count += 1
            xs += _centred([x for x, _ in pairs])
            ys += _centred([y for _, y in pairs])
    if len(xs) - group_count < LEAST_FREEDOM or _flat(xs) or _flat(ys):
        return None
    spread = math.sqrt(sum(x * x for x in xs)) * math.sqrt(sum(y * y for y in ys))
    return sum(x * y for x, y in zip(xs, ys, strict=True)) / spread if spread else None


def _duplicates(groups: Iterable[Sequence[str]]) -> float | None:
    """Returns how many completions repeat another of theirs, out of how many could."""
    repeats = possible = 0
    for group in groups:
        repeats += len(group) - len(set(group))
        possible += len(group) - 1 if group else 0
    return repeats / possible if possible else None


def _length_spread(lengths: _Row, truncated: Sequence[bool] | None) -> float | None:
    cut = list(truncated or ())
    cut += [False] * (len(lengths) - len(cut))
    ended = [length for length, was_cut in zip(lengths, cut, strict=False) if length is not None and not was_cut]
    mean = _mean(ended)
    return _std(ended) / mean if mean and len(ended) > 1 else None


def _groups(values: Sequence[T], size: int) -> list[Sequence[T]]:
    return [values[start : start + size] for start in range(0, len(values), size)]


def _scored_groups(scores: _Row, size: int) -> list[list[float]]:
    """Returns the scores of each group in which at least two completions have one."""
    groups = ([score for score in group if score is not None] for group in _groups(scores, size))
    return [group for group in groups if len(group) > 1]


def _finite(values: Iterable[float | None]) -> _Row:
    """Returns the values, with None for what is no finite number."""
    return [number if (number := _number(value)) is not None and math.isfinite(number) else None for value in values]


def _count_not_finite(values: Iterable[float | None]) -> int:
    return sum(number is not None and not math.isfinite(number) for number in map(_number, values))


def _number(value: Any) -> float | None:
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _any_known(values: Iterable[float | None]) -> bool:
    return any(value is not None for value in values)


def _same(one: float, other: float) -> bool:
    return abs(one - other) <= SAME * max(1.0, abs(one), abs(other))


def _flat(values: Sequence[float]) -> bool:
    return max(map(abs, values), default=0.0) <= SAME


def _centred(values: Sequence[float]) -> list[float]:
    mean = sum(values) / len(values)
    return [value - mean for value in values]


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _std(values: Sequence[float]) -> float:
    """Returns the standard deviation of all values, as of a population."""
    return math.sqrt(sum(value * value for value in _centred(values)) / len(values)) if values else 0.0
