"""What a person sees of a run while it runs: a live table on a terminal, one line a step anywhere else."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from trainer.history import EDGE_STEPS, History, flag_counts, reward_key

SPARKS = "▁▂▃▄▅▆▇█"
ASCII_SPARKS = "_.-=+*#@"
SPARK_WIDTH = 24

MISSING_KEY = "reward_server/missing"
LATENCY_KEY = "reward_server/judge_s"


class Progress:
    """The view of one run. Enter it before the first step; `step` shows the newest entry of `history`."""

    def __init__(self, history: History, rewards: Sequence[str], console: Console) -> None:
        self._history = history
        self._rewards = rewards
        self._console = console
        self._total_steps = 0
        self._done_before = 0  # steps of a run that was resumed
        self._started = time.monotonic()
        self._step_began = self._started
        self._live = Live(get_renderable=self._view, console=console, refresh_per_second=4, transient=False)

    def __enter__(self) -> Self:
        self._started = self._step_began = time.monotonic()
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._console.is_terminal:
            self._live.stop()

    def begin(self, total_steps: int) -> None:
        """Says how many steps there will be."""
        self._total_steps = total_steps
        self._done_before = self._history.last_step
        self._started = self._step_began = time.monotonic()

    def step(self) -> None:
        """Shows the step that was logged last."""
        self._step_began = time.monotonic()
        if not self._console.is_terminal:
            self._console.print(self.line(), highlight=False, soft_wrap=True)

    def tell(self, text: str, *, is_note: bool = False) -> None:
        """Shows a warning, or a note, above the view."""
        said = text if is_note else f"warning: {text}"
        self._console.print(said, style="dim" if is_note else "yellow", markup=False, highlight=False, soft_wrap=True)

    def line(self) -> str:
        """Returns the last step as one line."""
        row = self._history.rows[-1]
        parts = [f"step {row['step']}/{self._total_steps}"]
        for name in self._rewards:
            key = reward_key(name)
            first = (
                f" (first {EDGE_STEPS} {number(self._history.first(key))})"
                if len(self._history.rows) > EDGE_STEPS
                else ""
            )
            parts.append(f"{name} {number(row.get(key))}{first}")
        parts += _notes(row, self._rewards)
        parts.append(f"{duration(time.monotonic() - self._started)} gone, {self._left()} left")
        return "   ".join(parts)

    def _view(self) -> RenderableType:
        done = self._history.last_step
        head = Table.grid(padding=(0, 2))
        waiting = f"step {min(done + 1, self._total_steps)} running for {time.monotonic() - self._step_began:.0f} s"
        gone = duration(time.monotonic() - self._started)
        head.add_row(
            Text(f"step {done}/{self._total_steps}", style="bold"),
            ProgressBar(total=max(1, self._total_steps), completed=done, width=30),
            f"{gone} gone, {self._left()} left",
            Text(waiting if done < self._total_steps else "", style="dim"),
        )
        rows = self._history.rows
        notes = "   ".join(_notes(rows[-1], self._rewards)) if rows else "the first step takes longest"
        ascii_only = not (self._console.encoding or "").lower().startswith("utf")
        return Group(head, reward_table(self._history, self._rewards, ascii_only=ascii_only), Text(notes, style="dim"))

    def _left(self) -> str:
        """Returns the time left, by the pace so far."""
        done_now = self._history.last_step - self._done_before
        if done_now <= 0 or not self._total_steps:
            return "?"
        pace_s = (self._step_began - self._started) / done_now
        to_do = self._total_steps - self._done_before
        return duration(max(0.0, pace_s * to_do - (time.monotonic() - self._started)))


def reward_table(history: History, rewards: Sequence[str], *, ascii_only: bool = False) -> Table:
    """Returns a table of the rewards: first steps, last steps, change, and the curve between."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("reward", "first 3", "last 3", "change"):
        table.add_column(title, justify="left" if title == "reward" else "right")
    table.add_column("steps", no_wrap=True)
    rows = [(name, reward_key(name)) for name in rewards]
    if len(rewards) > 1:
        rows.append(("weighted sum", "reward"))
    for name, key in rows:
        first, last = history.first(key), history.last(key)
        change = None if first is None or last is None else last - first
        style = "" if change is None or abs(change) < 0.005 else ("green" if change > 0 else "red")  # noqa: PLR2004  # rounds to 0.00
        curve = sparkline([value for _, value in history.series(key)], ascii_only=ascii_only)
        table.add_row(name, number(first), number(last), Text(number(change, sign=True), style=style), curve)
    return table


def sparkline(values: Sequence[float], *, width: int = SPARK_WIDTH, ascii_only: bool = False) -> str:
    """Returns a curve of at most `width` characters, from the smallest value to the largest."""
    if not values:
        return ""
    sparks = ASCII_SPARKS if ascii_only else SPARKS
    size = min(width, len(values))
    edges = [round(i * len(values) / size) for i in range(size + 1)]
    means = [sum(values[a:b]) / (b - a) for a, b in itertools.pairwise(edges)]
    low, high = min(means), max(means)
    scale = (len(sparks) - 1) / (high - low) if high > low else 0.0
    return "".join(sparks[round((mean - low) * scale)] for mean in means)


def number(value: Any, *, sign: bool = False) -> str:
    """Returns a score in two decimals, or what stands for none."""
    if not isinstance(value, (int, float)):
        return "-"
    return f"{value:+.2f}" if sign else f"{value:.2f}"


def _notes(row: Mapping[str, Any], rewards: Sequence[str]) -> list[str]:
    notes = []
    if isinstance(missing := row.get(MISSING_KEY), (int, float)):
        notes.append(f"missing verdicts {missing:.0f}")
    flags: Counter[str] = Counter()
    for reward in rewards:
        flags.update(flag_counts(row, reward))
    notes += [f"{flag} {count:.0f}" for flag, count in flags.items()]
    if isinstance(judge_s := row.get(LATENCY_KEY), (int, float)):
        notes.append(f"judge {judge_s:.1f} s a verdict")
    if isinstance(step_s := row.get("step_time"), (int, float)):
        notes.append(f"{step_s:.1f} s a step")
    return notes


def duration(seconds: float) -> str:
    """Returns a time as people say it: 42s, 3m05s, 2h10m."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
