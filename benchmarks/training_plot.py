"""The picture of `benchmarks/training.py`: how the rewards went, where a step's time went, what the GPU did meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from training_numbers import GpuReading, Row, Wait

GENERATE, REWARDS, UPDATE, GREY = "#2a78d6", "#e08a2c", "#9ec5f4", "#5f5e5a"
OTHERS: Final = ("#c2571a", "#1b8a6b", "#8a5fb5", "#b03a5b")
SHOWN_S: Final = 30.0
"""So many seconds of the GPU's use are shown, from the middle of the run."""


def write(
    path: Path,
    title: str,
    rows: Sequence[Row],
    rewards: Sequence[str],
    *,
    waits: Sequence[Wait],
    readings: Sequence[GpuReading],
) -> None:
    """Writes the picture. Without readings of a GPU it has two parts, not three."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # a second

    figure = Figure(figsize=(14 if readings else 9.5, 3.8), layout="constrained", dpi=130)
    axes = figure.subplots(1, 3 if readings else 2)
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, color="#1a1a19")
    _curves(axes[0], rows, rewards)
    _split(axes[1], rows)
    if readings:
        _use(axes[2], waits, readings)
    for axis in axes:
        axis.legend(fontsize=8, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.17), ncols=4, borderpad=0)
        axis.tick_params(labelsize=9, colors=GREY, length=0)
        axis.grid(axis="y", color="#e6e5e0", linewidth=0.8)
        axis.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.spines["bottom"].set_color("#c9c8c2")
    figure.savefig(path, facecolor="white")


def _curves(axis: Any, rows: Sequence[Row], rewards: Sequence[str]) -> None:
    lines = [("weighted sum", "reward", GENERATE, 2.2)]
    lines += [
        (name, f"rewards/{name}/mean", colour, 1.2)
        for name, colour in zip(rewards, OTHERS * len(rewards), strict=False)
    ]
    for name, key, colour, width in lines:
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        if points:
            axis.plot(*zip(*points, strict=True), color=colour, linewidth=width, label=name)
    _named(axis, "rewards, mean of each step", "step", "reward")
    axis.xaxis.get_major_locator().set_params(integer=True)


def _split(axis: Any, rows: Sequence[Row]) -> None:
    timed = [row for row in rows if row.get("time/step_s") is not None]
    steps = [row["step"] for row in timed]
    bottom = [0.0] * len(timed)
    for name, colour, seconds in (
        ("generate", GENERATE, [row.get("time/generate_s") or 0.0 for row in timed]),
        ("wait for rewards", REWARDS, [row.get("time/rewards_s") or 0.0 for row in timed]),
        ("update and the rest", UPDATE, [_rest(row) for row in timed]),
    ):
        axis.bar(steps, seconds, bottom=bottom, color=colour, label=name, width=0.8)
        bottom = [low + more for low, more in zip(bottom, seconds, strict=True)]
    _named(axis, "where a step's time goes", "step", "seconds")
    axis.xaxis.get_major_locator().set_params(integer=True)
    if len(bottom) > 2 and bottom[0] > 3 * max(bottom[1:]):  # the first step compiles
        axis.set_ylim(0, 1.3 * max(bottom[1:]))
        axis.annotate(
            f"{bottom[0]:.3g} s", (steps[0], axis.get_ylim()[1]), ha="center", va="top", fontsize=8, color=GREY
        )


def _rest(row: Row) -> float:
    return float(row["time/step_s"]) - (row.get("time/generate_s") or 0.0) - (row.get("time/rewards_s") or 0.0)


def _use(axis: Any, waits: Sequence[Wait], readings: Sequence[GpuReading]) -> None:
    middle = waits[len(waits) // 2].began if waits else readings[len(readings) // 2].at
    last = max((wait.ended for wait in waits), default=middle + SHOWN_S)
    shown = [each for each in readings if middle <= each.at <= min(last, middle + SHOWN_S)]
    for gpu in sorted({each.gpu for each in shown}):
        points = [(each.at - middle, each.use) for each in shown if each.gpu == gpu]
        axis.plot(*zip(*points, strict=True), linewidth=1.2, color=(GENERATE, OTHERS[1])[gpu % 2], label=f"GPU {gpu}")
    end = max((each.at - middle for each in shown), default=SHOWN_S)
    label: str | None = "wait for rewards"
    for wait in waits:
        if 0 <= wait.began - middle <= end:
            axis.axvspan(
                wait.began - middle, min(wait.ended - middle, end), color=REWARDS, alpha=0.25, lw=0, label=label
            )
            label = None
    _named(axis, "use of the GPU, from the run's middle on", "seconds", "percent (driver's average)")
    axis.set_ylim(0, 105)


def _named(axis: Any, title: str, x: str, y: str) -> None:
    axis.set_title(title, loc="left", fontsize=10, color="#1a1a19")
    axis.set_xlabel(x, fontsize=9, color=GREY)
    axis.set_ylabel(y, fontsize=9, color=GREY)
