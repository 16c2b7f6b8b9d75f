"""Several runs beside one another: a table for the terminal, and one HTML page with their curves on the same axes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from protos import configfile
from trainer import charts, report
from trainer.config import ConfigError
from trainer.history import History
from trainer.progress import number, reward_table
from trainer.runs import RunFolder, RunRecord
from trainer.watching import kept

COLOURS = 8
"""Colours for runs; a ninth has the first one's again."""

DRAWN = (
    ("weighted sum", report.WEIGHTED_SUM),
    ("length, tokens", "completions/mean_length"),
    ("KL, nats a token", "kl"),
    ("groups that teach nothing", "watch/zero_variance"),
    ("copies within groups", "watch/duplicates"),
    ("seconds a step", "time/step_s"),
)
"""What is drawn besides the rewards, by title."""

NONE = "-"


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One of the runs."""

    name: str
    folder: RunFolder
    record: RunRecord
    history: History
    settings: Mapping[str, Any]  # of its configuration, by dotted key
    warnings: Sequence[Mapping[str, Any]]


def tell(paths: Sequence[Path], out: Path, console: Console) -> None:
    """Shows one run and writes its report anew, or shows several and writes their comparison to `out`.

    Raises:
        ConfigError: A folder is no run, or `out` can't be written.
    """
    runs = read(paths)
    if len(runs) == 1:
        (run,) = runs
        report.write(run.folder)
        console.print(reward_table(run.history, [reward.name for reward in run.record.rewards]))
        for row in run.warnings:
            text = f"step {row.get('step')}: {row.get('text')}"
            console.print(text, style="yellow", markup=False, highlight=False, soft_wrap=True)
        written = run.folder.report
    else:
        try:
            write(runs, out)
        except OSError as error:
            raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from None
        console.print(table(runs))
        written = out
    console.print(f"report: {written}", highlight=False, soft_wrap=True)


def read(paths: Sequence[Path]) -> list[ComparedRun]:
    """Reads the runs of some folders. Raises `ConfigError` with a line for each that is none."""
    runs: list[ComparedRun] = []
    problems: list[str] = []
    for path, name in zip(paths, _names(paths), strict=True):
        folder = RunFolder(path.expanduser().resolve())
        try:
            record = read_record(folder)
        except ConfigError as error:
            problems += error.problems
            continue
        warnings = [row for row in kept.read(folder.path) if row.get("level") != "note"]
        runs.append(ComparedRun(name, folder, record, History.read(folder.metrics), _settings(folder), warnings))
    if problems:
        raise ConfigError(*problems)
    return runs


def read_record(folder: RunFolder) -> RunRecord:
    """Reads what the run in a folder was. Raises `ConfigError` where there is none."""
    if not folder.path.is_dir():
        raise ConfigError(f"{folder.path}: there is no such folder; name the folder of a run")
    if not folder.record.is_file():
        raise ConfigError(f"{folder.path}: is no run: it has no {folder.record.name}; name a folder that `train` made")
    return folder.read_record()


def table(runs: Sequence[ComparedRun]) -> Table:
    """Returns the runs as columns, what is known of them as rows."""
    shown = Table(box=None, padding=(0, 2), header_style="bold")
    shown.add_column("", style="dim", overflow="fold")
    for run in runs:
        shown.add_column(run.name, overflow="fold")
    for title, values in rows(runs):
        shown.add_row(title, *values)
    return shown


def rows(runs: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
    """Returns (title, a value for each run): rewards first and last, time, what is missing, warnings, settings that differ."""
    found = [("outcome", [run.record.outcome for run in runs])]
    found.append(("steps", [f"{run.history.last_step} of {run.record.steps or '?'}" for run in runs]))
    found += [(title, [_first_and_last(run, key) for run in runs]) for title, key in _rewards(runs)]
    found.append(("seconds a step", [_seconds(run) for run in runs]))
    found.append(("missing scores", [_missing(run) for run in runs]))
    found.append(("warnings", [_warnings(run) for run in runs]))
    return found + [(key, values) for key, values in different_settings(runs)]


def different_settings(runs: Sequence[ComparedRun]) -> list[tuple[str, list[str]]]:
    """Returns (dotted key, its value in each run) of the settings that the runs don't have in common."""
    keys = dict.fromkeys(key for run in runs for key in run.settings)
    values = ((key, [run.settings.get(key) for run in runs]) for key in keys if key != "run.folder")
    return [
        (key, [_written(value) for value in each])
        for key, each in values
        if any(one != other for one, other in itertools.pairwise(each))
    ]


def write(runs: Sequence[ComparedRun], out: Path) -> None:
    """Writes the page."""
    drawn = [*_rewards(runs), *(each for each in DRAWN if each[1] != report.WEIGHTED_SUM)]
    curves = []
    for title, key in drawn:
        lines = [(_colour(index), run.history.series(key)) for index, run in enumerate(runs)]
        if any(points for _, points in lines):
            curves.append({"title": title, "svg": charts.svg_curves(title, lines)})
    page = report.template("comparison.html.jinja").render(
        runs=[
            {"name": run.name, "colour": _colour(index), "path": str(run.folder.path), "model": run.record.model}
            for index, run in enumerate(runs)
        ],
        rows=rows(runs),
        curves=curves,
    )
    out.write_text(page, encoding="utf-8", errors="replace")


def _rewards(runs: Sequence[ComparedRun]) -> list[tuple[str, str]]:
    """Returns (title, key) of all rewards that a run has, the weighted sum last."""
    found = dict(each for run in runs for each in report.metrics(run.record))
    found.pop(DRAWN[0][0], None)
    several = len(found) > 1
    return [*found.items(), *([DRAWN[0]] if several else [])]


def _names(paths: Sequence[Path]) -> list[str]:
    """Returns the folders' names; of those of one name, the folder above as well."""
    resolved = [path.expanduser().resolve() for path in paths]
    names = [path.name for path in resolved]
    return [
        name if names.count(name) == 1 else f"{path.parent.name}/{name}"
        for path, name in zip(resolved, names, strict=True)
    ]


def _colour(index: int) -> str:
    return f"run{index % COLOURS}"


def _first_and_last(run: ComparedRun, key: str) -> str:
    first, last = run.history.first(key), run.history.last(key)
    return NONE if first is None else f"{number(first)} -> {number(last)}"


def _seconds(run: ComparedRun) -> str:
    values = run.history.series("time/step_s") or run.history.series("step_time")
    return f"{sum(value for _, value in values) / len(values):.2f}" if values else NONE


def _missing(run: ComparedRun) -> str:
    return f"{sum(run.history.total(f'rewards/{reward.name}/missing') for reward in run.record.rewards):.0f}"


def _warnings(run: ComparedRun) -> str:
    illnesses = dict.fromkeys(str(row.get("illness")) for row in run.warnings)
    return "; ".join(illnesses) or "none"


def _written(value: Any) -> str:
    return NONE if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _settings(folder: RunFolder) -> dict[str, Any]:
    """Returns the configuration that the run kept, by dotted key; of one that can't be read, nothing."""
    try:
        document = configfile.read(folder.config)
    except (configfile.ConfigFileError, OSError):
        return {}
    return dict(_flat("", document.value))


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    return [pair for key, item in value.items() for pair in _flat(f"{prefix}.{key}" if prefix else str(key), item)]
