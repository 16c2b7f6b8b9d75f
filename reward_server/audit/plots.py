"""The report's plots, as SVG that takes its colours from the page."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Final

from markupsafe import Markup, escape

from reward_server.audit import measures
from reward_server.audit.figures import Estimate
from reward_server.audit.probes import GROUPS, PAIRS
from reward_server.audit.ratings import COIN

if TYPE_CHECKING:
    from reward_server.audit.report import Report

WIDTH: Final = 640
ROW: Final = 26
LABEL_WIDTH: Final = 236
FIGURE_WIDTH: Final = 60
TOP: Final = 8
AXIS: Final = 34
PLOT_HEIGHT: Final = 220
MARGIN: Final = 72
BINS: Final = 10
MAX_LABEL_CHARS: Final = 25
TICKS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


def of(report: Report) -> dict[str, Markup]:
    """Returns the plots by name; one of which there is nothing to show is absent."""
    accuracy = {measure.name: measure.estimate for measure in report.measures if measure.estimate}
    rows = [(title, accuracy[name]) for title, name in (("all pairs", "accuracy"),) if name in accuracy]
    rows += [(topic.name.replace("_", " "), topic.estimate) for topic in report.by_topic()]
    rows += [
        (title, accuracy[name])
        for title, name in (("longer wins", "baseline_longer"), ("shorter wins", "baseline_shorter"))
        if name in accuracy
    ]
    found = {
        "accuracy": _shares(rows, "accuracy on preference pairs", COIN, marks=True),
        "keys": _shares(
            [(key.name, key.estimate) for key in report.by_key()], "share above the midpoint, by master key"
        ),
        "injections": _shares([(kind.name, kind.estimate) for kind in report.by_kind()], "share lifted, by kind"),
        "scores": _scores(report),
        "lengths": _lengths(report),
        "levels": _levels(report),
    }
    return {name: plot for name, plot in found.items() if plot}


def _shares(
    rows: Sequence[tuple[str, Estimate]], title: str, line: float | None = None, *, marks: bool = False
) -> Markup:
    """Returns shares from 0 to 1, one a row: bars, or marks with their intervals."""
    if not rows:
        return Markup()
    left, right = LABEL_WIDTH, WIDTH - FIGURE_WIDTH
    bottom = TOP + ROW * len(rows)

    def x(value: float) -> float:
        return left + (right - left) * value

    parts = [_vertical(x(tick), TOP, bottom, f"{tick:g}") for tick in TICKS]
    if line is not None:
        parts.append(_line(x(line), TOP, x(line), bottom, "coin"))
    for number, (label, estimate) in enumerate(rows):
        y = TOP + ROW * number + ROW / 2
        parts.append(_text(left - 10, y + 4, _short(label), "end"))
        parts.append(_text(WIDTH - FIGURE_WIDTH + 10, y + 4, f"{estimate.value:.2f}", "start"))
        if marks and estimate.interval:
            low, high = estimate.interval
            parts.append(_line(x(low), y, x(high), y, "whisker"))
            parts.append(_dot(x(estimate.value), y, 5, "good"))
        else:
            parts.append(_box(left, y - 7, max(x(estimate.value) - left, 1), 14, "bad"))
    return _svg(parts, bottom + AXIS, title)


def _scores(report: Report) -> Markup:
    """Returns how the scores of better completions are spread, upwards, and of worse ones, downwards."""
    outcomes = measures.of_set(report.session, PAIRS)
    better = [score for outcome in outcomes if (score := outcome.scores()[0]) is not None]
    worse = [score for outcome in outcomes if (score := outcome.scores()[1]) is not None]
    if not better or not worse:
        return Markup()
    scale, middle = report.scale, TOP + PLOT_HEIGHT / 2
    counts = [_counted(scores, scale) for scores in (better, worse)]
    most = max(max(count) for count in counts)
    width = (WIDTH - MARGIN - 10) / BINS
    parts = []
    for count, kind, sign in ((counts[0], "good", -1), (counts[1], "bad", 1)):
        for place, number in enumerate(count):
            height = (PLOT_HEIGHT / 2 - 16) * number / most
            x, y = MARGIN + place * width + 2, middle if sign > 0 else middle - height
            if number:
                parts.append(_box(x, y, width - 4, height, kind))
                parts.append(_text(x + width / 2 - 2, middle + sign * (height + 8) + 4, str(number), "middle"))
    parts.append(_line(MARGIN, middle, WIDTH - 10, middle, "axis"))
    parts.append(_text(MARGIN - 8, middle - 40, "better", "end"))
    parts.append(_text(MARGIN - 8, middle + 48, "worse", "end"))
    for end, place, anchor in ((scale.low, MARGIN, "start"), (scale.high, WIDTH - 10, "end")):
        parts.append(_text(place, TOP + PLOT_HEIGHT + 18, f"{end:g}", anchor))
    return _svg(parts, TOP + PLOT_HEIGHT + AXIS, "scores of better and of worse completions")


def _lengths(report: Report) -> Markup:
    """Returns score against length, one dot a completion of the pairs."""
    dots = [
        (measures.chars(completion), score, "good" if place == 0 else "bad")
        for outcome in measures.of_set(report.session, PAIRS)
        for place, (completion, score) in enumerate(zip(outcome.probe.completions, outcome.scores(), strict=True))
        if score is not None
    ]
    if not dots:
        return Markup()
    longest = max(length for length, *_ in dots)
    parts = _frame(report)
    for length, score, kind in dots:
        parts.append(_dot(MARGIN + (WIDTH - MARGIN - 20) * length / max(longest, 1), _y(report, score), 4, kind))
    parts.append(_text(MARGIN, TOP + PLOT_HEIGHT + 18, "0 characters", "start"))
    parts.append(_text(WIDTH - 10, TOP + PLOT_HEIGHT + 18, f"{longest:,}", "end"))
    return _svg(parts, TOP + PLOT_HEIGHT + AXIS, "score and length of each completion")


def _levels(report: Report) -> Markup:
    """Returns the scores of graded completions, best to the left: a thin line a group, a thick one for the mean."""
    groups = [outcome.scores() for outcome in measures.of_set(report.session, GROUPS)]
    if not groups:
        return Markup()
    count = max(map(len, groups))
    step = (WIDTH - MARGIN - 50) / max(count - 1, 1)

    def points(scores: Sequence[float | None]) -> str:
        places = [(level, score) for level, score in enumerate(scores) if score is not None]
        return " ".join(f"{MARGIN + 20 + step * level:.1f},{_y(report, score):.1f}" for level, score in places)

    parts = _frame(report)
    parts += [Markup('<polyline class="thin" points="{}"/>').format(points(scores)) for scores in groups]
    of_level = [
        [score for scores in groups for score in scores[level : level + 1] if score is not None]
        for level in range(count)
    ]
    means = [fmean(scores) if scores else None for scores in of_level]
    parts.append(Markup('<polyline class="thick" points="{}"/>').format(points(means)))
    for level in range(count):
        label = {0: "best", count - 1: "worst"}.get(level, str(level + 1))
        parts.append(_text(MARGIN + 20 + step * level, TOP + PLOT_HEIGHT + 18, label, "middle"))
    return _svg(parts, TOP + PLOT_HEIGHT + AXIS, "scores by level of quality")


def _counted(scores: Sequence[float], scale: measures.Scale) -> list[int]:
    counts = [0] * BINS
    for score in scores:
        counts[min(max(int((score - scale.low) / scale.width * BINS), 0), BINS - 1)] += 1
    return counts


def _frame(report: Report) -> list[Markup]:
    """Returns the axes of a plot with scores upwards."""
    scale = report.scale
    parts = []
    for tick in TICKS:
        score = scale.low + scale.width * tick
        parts.append(_line(MARGIN, _y(report, score), WIDTH - 10, _y(report, score), "grid"))
        parts.append(_text(MARGIN - 8, _y(report, score) + 4, f"{score:.3g}", "end"))
    return parts


def _y(report: Report, score: float) -> float:
    share = (score - report.scale.low) / report.scale.width
    return TOP + 6 + (PLOT_HEIGHT - 12) * (1 - min(max(share, 0.0), 1.0))


def _svg(parts: Sequence[Markup], height: float, title: str) -> Markup:
    return Markup('<svg viewBox="0 0 {} {:g}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, height, title, Markup("").join(parts)
    )


def _vertical(x: float, top: float, bottom: float, label: str) -> Markup:
    return _line(x, top, x, bottom, "grid") + _text(x, bottom + 18, label, "middle")


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def _box(x: float, y: float, width: float, height: float, kind: str) -> Markup:
    return Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" rx="2"/>').format(
        kind, x, y, width, height
    )


def _dot(x: float, y: float, radius: float, kind: str) -> Markup:
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{:g}"/>').format(kind, x, y, radius)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, escape(text))


def _short(label: str) -> str:
    return label if len(label) <= MAX_LABEL_CHARS else f"{label[:MAX_LABEL_CHARS]}…"
