"""From what is said about single criteria to one grade from 0 to 1."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from reward_server.judge.rubric import Criterion, Example, Grade, Rubric

HIGHEST_DIGIT: Final = 9


class Weighted(Protocol):
    """What has a share in a grade: a criterion, or a question about it."""

    @property
    def name(self) -> str:
        """Returns by what its value is known."""

    @property
    def weight(self) -> float:
        """Returns its share, above 0."""


def value_of(grade: Grade, criterion: Criterion) -> float:
    """Returns what a grade says for the completion, 0 to 1: of a fault, "no" is the best."""
    if isinstance(grade, str):
        return float(grade == criterion.good)
    return grade / HIGHEST_DIGIT


def weighted(values: Mapping[str, float], lines: Iterable[Weighted]) -> float:
    """Returns the weighted mean of values by criterion or question, 0 to 1; of those that have one."""
    weights = {line.name: line.weight for line in lines if line.name in values}
    total = sum(weights.values())
    mean = sum(values[name] * (weight / total) for name, weight in weights.items())
    return min(1.0, max(0.0, mean))


def of_example(example: Example, rubric: Rubric) -> float:
    """Returns what an example's grades come to, 0 to 1."""
    criteria = {criterion.name: criterion for criterion in rubric.criteria}
    return weighted({name: value_of(grade, criteria[name]) for name, grade in example.grades.items()}, rubric.criteria)
