"""From what a run has left behind to the numbers of `benchmarks/training.py`: pure, so that a test can check them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, median
from typing import Any, Final

EDGE_STEPS: Final = 5
"""The reward before and after is the mean of so many steps at either end."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Wait:
    """A time in which a training process waited for rewards, in epoch seconds."""

    began: float
    ended: float
    step: int | None = None
    rank: int = 0
    reward: str = ""
    completions: int = 0


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What the driver said of one GPU. It averages its use over the last sixth of a second to a second."""

    at: float  # epoch seconds
    gpu: int
    use: float  # percent of that time in which a kernel ran
    memory_mib: float


def learning(rows: Sequence[Row], rewards: Sequence[str]) -> dict[str, Any]:
    """Returns how the weighted sum and each reward went from the first steps to the last."""
    keys = {"reward": "reward"} | {name: f"rewards/{name}/mean" for name in rewards}
    found = {}
    for name, key in keys.items():
        values = [row[key] for row in rows if _is_number(row.get(key))]
        edge = min(EDGE_STEPS, max(1, len(values) // 2))
        if values:
            first, last = fmean(values[:edge]), fmean(values[-edge:])
            found[name] = {"first": first, "last": last, "rises": last > first, "edge_steps": edge}
    return found


def step_time(rows: Sequence[Row]) -> dict[str, float]:
    """Returns where the seconds of a step go, each the median over steps.

    `rewards_s` is the wait for them as the trainer sees it; of it `server_s` passes in the server, `wire_s` on the way there
    and back. `queue_s` and `judge_s` are within the server's time, but means of many verdicts and requests side by side:
    they don't add up to it. `update_s` is all that is neither generation nor rewards: probabilities, backward, optimizer.
    """
    parts = {
        "step_s": lambda row: row["time/step_s"],
        "generate_s": lambda row: row["time/generate_s"],
        "rewards_s": lambda row: row["time/rewards_s"],
        "update_s": lambda row: row["time/step_s"] - row["time/generate_s"] - row["time/rewards_s"],
        "call_s": lambda row: row["reward_server/call_s"],
        "server_s": lambda row: row["reward_server/server_s"],
        "wire_s": lambda row: row["reward_server/call_s"] - row["reward_server/server_s"],
        "queue_s": lambda row: row["reward_server/queue_s"],
        "judge_s": lambda row: row["reward_server/judge_s"],
    }
    found = {}
    for name, part in parts.items():
        values = [value for row in rows if (value := _value(part, row)) is not None]
        if values:
            found[name] = median(values)
    return found


def idle(rows: Sequence[Row], waits: Sequence[Wait], readings: Sequence[GpuReading]) -> dict[str, Any]:
    """Returns how much of the time the GPU has nothing to do because the trainer waits for rewards.

    `waiting_share` is that share by the trainer's clocks. `use_waiting` and `use_otherwise` are what the driver measured, in
    percent, `waiting_readings` how many readings the first is the mean of: of waits shorter than its window it sees little.
    """
    steps = sum(row["time/step_s"] for row in rows if _is_number(row.get("time/step_s")))
    waited = sum(row["time/rewards_s"] for row in rows if _is_number(row.get("time/rewards_s")))
    found: dict[str, Any] = {"waiting_share": waited / steps if steps else None}
    merged = merge(waits)
    if not merged or not readings:
        return found
    begin, end = merged[0].began, merged[-1].ended
    within = [each for each in readings if begin <= each.at <= end]
    waiting = [each.use for each in within if any(wait.began <= each.at <= wait.ended for wait in merged)]
    otherwise = [each.use for each in within if not any(wait.began <= each.at <= wait.ended for wait in merged)]
    return found | {
        "use_waiting": fmean(waiting) if waiting else None,
        "use_otherwise": fmean(otherwise) if otherwise else None,
        "waiting_readings": len(waiting),
        "readings": len(within),
        "memory_mib_max": max((each.memory_mib for each in readings), default=None),
    }


def tokens(rows: Sequence[Row], completions_per_step: int) -> dict[str, float]:
    """Returns how many tokens are generated in a step and in a second."""
    lengths = [row["completions/mean_length"] for row in rows if _is_number(row.get("completions/mean_length"))]
    seconds = [row["time/step_s"] for row in rows if _is_number(row.get("time/step_s"))]
    if not lengths or not seconds:
        return {}
    per_step = fmean(lengths) * completions_per_step
    return {"completion_tokens_per_step": per_step, "completion_tokens_per_s": per_step / fmean(seconds)}


def merge(waits: Sequence[Wait]) -> list[Wait]:
    """Returns the first rank's waits in order, those that overlap as one: functions may be called side by side."""
    merged: list[Wait] = []
    for wait in sorted((wait for wait in waits if wait.rank == 0), key=lambda each: each.began):
        if merged and wait.began <= merged[-1].ended:
            last = merged.pop()
            wait = replace(last, ended=max(last.ended, wait.ended))  # noqa: PLW2901  # the joined one
        merged.append(wait)
    return merged


def after_warm_up(rows: Sequence[Row], waits: Sequence[Wait], warm_up: int) -> tuple[list[Row], list[Wait]]:
    """Returns rows and waits after the first `warm_up` steps, in which kernels are compiled and caches filled."""
    later = [row for row in rows if row["step"] > warm_up]
    return later, [wait for wait in waits if wait.step is not None and wait.step > warm_up]


def completions_per_step(waits: Sequence[Wait]) -> int:
    """Returns how many completions a step has, over all ranks: Unsloth may have raised the configured number."""
    counts: dict[tuple[int | None, str], int] = {}
    for wait in waits:
        counts[wait.step, wait.reward] = counts.get((wait.step, wait.reward), 0) + wait.completions
    return round(median(counts.values())) if counts else 0


def _value(part: Any, row: Row) -> float | None:
    try:
        value = part(row)
    except (KeyError, TypeError):
        return None
    return value if _is_number(value) else None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)
