"""Curves of a run: as SVG that follows the page's colours, and as one PNG for everything else."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path

from markupsafe import Markup, escape

Point = tuple[int, float]  # step, value

SMOOTHED_STEPS = 3
"""The bold line is the mean of a step and those before it, as many as "first" and "last" are the mean of."""

WIDTH, HEIGHT = 340, 180
LEFT, RIGHT, TOP, BOTTOM = 50, 8, 8, 24


def smoothed(points: Sequence[Point], window: int = SMOOTHED_STEPS) -> list[Point]:
    """Returns the running mean of the last `window` values at each step."""
    values = [value for _, value in points]
    tails = (values[max(0, end - window) : end] for end in range(1, len(values) + 1))
    return [(step, sum(tail) / len(tail)) for (step, _), tail in zip(points, tails, strict=True)]


def svg_curve(title: str, points: Sequence[Point]) -> Markup:
    """Returns one metric's curve as an SVG element. Its colours are the page's: classes `grid`, `label`, `raw`, `mean`."""
    if not points:
        return Markup('<p class="quiet">no step has it</p>')
    axes = _Axes(points)
    parts = [axes.drawn(title), f'<path class="raw" d="{axes.path(points)}"/>']
    parts.append(f'<path class="mean" d="{axes.path(smoothed(points))}"/>')
    for step, value in points:
        tip = f"<title>step {step}: {value:.3f}</title>"
        parts.append(f'<circle class="dot" cx="{axes.x(step):.1f}" cy="{axes.y(value):.1f}" r="2.5">{tip}</circle>')
    return Markup("".join(parts) + "</svg>")  # noqa: S704  # numbers, and a title that is escaped


def svg_curves(title: str, curves: Sequence[tuple[str, Sequence[Point]]]) -> Markup:
    """Returns (class, points) curves of one metric on the same axes, each the mean of some steps in its class's colour."""
    points = [point for _, curve in curves for point in curve]
    if not points:
        return Markup('<p class="quiet">no step has it</p>')
    axes = _Axes(points)
    lines = (f'<path class="{escape(name)}" d="{axes.path(smoothed(curve))}"/>' for name, curve in curves if curve)
    return Markup(axes.drawn(title) + "".join(lines) + "</svg>")  # noqa: S704  # numbers, a title and classes, escaped


class _Axes:
    """Where points lie in a picture that shows all of some."""

    def __init__(self, points: Sequence[Point]) -> None:
        steps = [step for step, _ in points]
        self.low, self.high = _padded([value for _, value in points])
        self.first, self.last_step = min(steps), max(steps)
        self.last = max(self.last_step, self.first + 1)

    def x(self, step: float) -> float:
        return LEFT + (step - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def path(self, line: Sequence[Point]) -> str:
        return " ".join(
            f"{'L' if i else 'M'}{self.x(step):.1f} {self.y(value):.1f}" for i, (step, value) in enumerate(line)
        )

    def drawn(self, title: str) -> str:
        """Returns the beginning of the picture: lines at round values, and the first and the last step."""
        parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)} by step">']
        for tick in _ticks(self.low, self.high):
            y = self.y(tick)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="label" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:.4g}</text>')
        ends = [(self.first, "start"), (self.last_step, "end")]
        for step, anchor in ends[: 2 if self.last_step > self.first else 1]:
            place = f'x="{self.x(step):.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}"'
            parts.append(f'<text class="label" {place}>step {step}</text>')
        return "".join(parts)


def write_png(path: Path, curves: Sequence[tuple[str, Sequence[Point]]]) -> None:
    """Writes (title, points) curves side by side as one picture."""
    from matplotlib.figure import Figure  # noqa: PLC0415  # a second

    columns = min(3, len(curves)) or 1
    rows = math.ceil(len(curves) / columns) or 1
    figure = Figure(figsize=(4.2 * columns, 2.8 * rows), layout="constrained", dpi=150)
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, curve in itertools.zip_longest(axes, curves):
        if curve is None:
            axis.set_axis_off()
            continue
        title, points = curve
        axis.plot(*_columns(points), color="#9ec5f4", linewidth=1, marker="o", markersize=2.5)
        axis.plot(*_columns(smoothed(points)), color="#2a78d6", linewidth=2)
        axis.set_title(title, loc="left", fontsize=11, color="#1a1a19", parse_math=False)
        axis.set_xlabel("step", fontsize=9, color="#5f5e5a")
        axis.tick_params(labelsize=9, colors="#5f5e5a", length=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(axis="y", color="#e6e5e0", linewidth=0.8)
        axis.set_axisbelow(True)
        for side in ("top", "right", "left"):
            axis.spines[side].set_visible(False)
        axis.spines["bottom"].set_color("#c9c8c2")
    figure.savefig(path, facecolor="white")


def _columns(points: Sequence[Point]) -> tuple[list[int], list[float]]:
    return [step for step, _ in points], [value for _, value in points]


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """Returns a range around the values with some air, never empty."""
    low, high = min(values), max(values)
    air = (high - low) * 0.08 or max(abs(high) * 0.1, 0.1)
    return low - air, high + air


def _ticks(low: float, high: float) -> list[float]:
    """Returns about four round values within a range."""
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor >= rough)
    first = math.ceil(low / step)
    return [round(number * step, 10) for number in range(first, math.floor(high / step) + 1)]
