"""The metrics of a run, step by step: written to a file as they come, read again for tables and reports."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

EDGE_STEPS = 3
"""How many steps "first" and "last" are the mean of: one step of few prompts says little."""


EVALUATION = "eval"
"""The key that marks the row of an evaluation; TRL begins the names of its metrics with `eval_`."""

LARGEST = 3.5e38
"""What float32 holds, as the metrics of a run do; a chart cannot be drawn of much more."""


class History:
    """The logged steps of a run, in order, and beside them its evaluations."""

    def __init__(self, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        self.rows: list[Mapping[str, Any]] = [row for row in rows if not row.get(EVALUATION)]
        self.evaluations: list[Mapping[str, Any]] = [row for row in rows if row.get(EVALUATION)]

    @classmethod
    def read(cls, path: Path) -> History:
        """Reads a metrics file; of a run that was cut off in the middle of a line, all whole lines."""
        rows = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []:
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
        return cls(rows)

    def add(self, row: Mapping[str, Any]) -> None:
        """Takes a logged step, or an evaluation."""
        (self.evaluations if row.get(EVALUATION) else self.rows).append(row)

    def until(self, step: int) -> list[Mapping[str, Any]]:
        """Returns the rows up to a step, evaluations included, each step before its evaluation."""
        return sorted(
            (row for row in [*self.rows, *self.evaluations] if row["step"] <= step), key=lambda row: row["step"]
        )

    def evaluated(self, key: str) -> list[tuple[int, float]]:
        """Returns (step, value) of a training metric in each evaluation that has it."""
        key = f"eval_{key}"
        return [(row["step"], row[key]) for row in self.evaluations if is_number(row.get(key))]

    @property
    def last_step(self) -> int:
        """Returns the number of the last step logged, 0 before the first."""
        return int(self.rows[-1]["step"]) if self.rows else 0

    def series(self, key: str) -> list[tuple[int, float]]:
        """Returns (step, value) for each step that has a value of this metric."""
        return [(row["step"], row[key]) for row in self.rows if is_number(row.get(key))]

    def first(self, key: str) -> float | None:
        """Returns the mean of a metric over the first steps that have it."""
        return _mean([value for _, value in self.series(key)[:EDGE_STEPS]])

    def last(self, key: str) -> float | None:
        """Returns the mean of a metric over the last steps that have it."""
        return _mean([value for _, value in self.series(key)[-EDGE_STEPS:]])

    def flag_totals(self, reward: str) -> dict[str, float]:
        """Returns how many verdicts of a reward bore each flag, over all steps."""
        flags = dict.fromkeys(flag for row in self.rows for flag in flag_counts(row, reward))
        return {flag: self.total(flag_key(reward, flag)) for flag in flags}

    def total(self, key: str) -> float:
        """Returns the sum of a metric over all steps."""
        return sum(value for _, value in self.series(key))


class MetricsFile:
    """A file of one JSON object a logged step, on disk as soon as the step is logged."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

    def write(self, row: Mapping[str, Any]) -> None:
        """Appends a step. What is not a number in JSON (NaN, infinite) is written as null."""
        clean = {
            key: None if isinstance(value, float) and not is_number(value) else value for key, value in row.items()
        }
        self._file.write(json.dumps(clean) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def reward_key(name: str) -> str:
    """Returns the metric that TRL logs the mean of a reward under."""
    return f"rewards/{name}/mean"


def flag_key(reward: str, flag: str) -> str:
    """Returns the metric of how many verdicts of a reward bear a flag."""
    return f"rewards/{reward}/flags/{flag}"


def flag_counts(row: Mapping[str, Any], reward: str) -> dict[str, float]:
    """Returns how many verdicts of a reward bore each flag in one step; those that none bore are left out."""
    start = flag_key(reward, "")
    return {
        key.removeprefix(start): value
        for key, value in row.items()
        if key.startswith(start) and is_number(value) and value > 0
    }


def is_number(value: Any) -> bool:
    """Returns whether a logged value is a finite number."""
    return isinstance(value, (int, float)) and -LARGEST <= value <= LARGEST


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
