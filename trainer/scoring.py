"""Scores a file of prompts and completions by rewards of a server, without training."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from trainer.client import RewardClient, RewardScores, ScoreResult
from trainer.config import DataError
from trainer.data import Row, is_conversation, jsonl_rows

CHUNK_ROWS = 64
"""Rows sent at once, or more where completions of one prompt follow one another: a group stays together."""


@dataclass
class Summary:
    """What became of one reward's verdicts."""

    scores: list[float] = field(default_factory=list)
    missing: Counter[str] = field(default_factory=Counter)  # by reason
    flags: Counter[str] = field(default_factory=Counter)
    version: str = ""

    def add(self, verdicts: RewardScores) -> None:
        """Adds a chunk."""
        self.scores += [score for score in verdicts.scores if score is not None]
        self.missing += verdicts.missing_counts()
        self.flags.update({flag: len(samples) for flag, samples in verdicts.flags.items()})
        self.version = verdicts.version


def score_file(
    client: RewardClient, rewards: Sequence[str], data: Path, out: Path, console: Console
) -> dict[str, Summary]:
    """Writes each row of `data` to `out` with its verdicts. Returns a summary by reward.

    Raises:
        DataError: A row is wrong; those before it are written.
        RewardError: The rewards cannot be had; likewise.
    """
    if not data.is_file():
        raise DataError(f"{data}: there is no such file")
    with data.open("rb") as file:
        total = sum(1 for line in file if line.strip())
    if not total:
        raise DataError(f"{data}: holds no row")
    summaries = {name: Summary() for name in rewards}
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with out.open("w", encoding="utf-8", errors="replace") as file, Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=total)
        for rows in _chunks(data):
            result = _score(client, rewards, rows)
            for name, verdicts in result.rewards.items():
                summaries[name].add(verdicts)
            _write(file, rows, result)
            progress.advance(task, len(rows))
    return summaries


def show(summaries: dict[str, Summary], console: Console) -> None:
    """Prints the mean and spread of each reward, why verdicts are missing, and what is flagged."""
    table = Table(box=None, padding=(0, 2), header_style="dim")
    for title in ("reward", "scored", "mean", "std", "min", "max", "missing"):
        table.add_column(title, justify="left" if title == "reward" else "right")
    for name, summary in summaries.items():
        scores = summary.scores
        figures = ["-"] * 4
        if scores:
            figures = [
                f"{v:.3f}" for v in (statistics.fmean(scores), statistics.pstdev(scores), min(scores), max(scores))
            ]
        table.add_row(name, str(len(scores)), *figures, str(summary.missing.total()))
    console.print(table)
    for name, summary in summaries.items():
        for reason, count in summary.missing.most_common():
            console.print(f"missing of {name}: {count} x {reason}", markup=False, highlight=False, soft_wrap=True)
        for flag, count in summary.flags.most_common():
            console.print(f"flagged in {name}: {count} x {flag}", markup=False, highlight=False, soft_wrap=True)


def _chunks(data: Path) -> Iterator[list[Row]]:
    """Yields rows in chunks that end where the prompt changes."""
    chunk: list[Row] = []
    for number, row in enumerate(jsonl_rows(data), start=1):
        _check(row, f"{data}: row {number}")
        if len(chunk) >= CHUNK_ROWS and row.get("prompt") != chunk[-1].get("prompt"):
            yield chunk
            chunk = []
        chunk.append(row)
    if chunk:
        yield chunk


def _check(row: Row, place: str) -> None:
    if "completion" not in row:
        raise DataError(f"{place}: has no completion; there is: {', '.join(row) or 'nothing'}")
    for name in ("prompt", "completion"):
        if name in row and not isinstance(row[name], str) and not is_conversation(row[name]):
            raise DataError(f"{place}: {name} should be a text or a list of messages, not {str(row[name])[:60]!r}")


def _score(client: RewardClient, rewards: Sequence[str], rows: Sequence[Row]) -> ScoreResult:
    with_prompts = all("prompt" in row for row in rows)
    names = [name for name in rows[0] if name not in {"prompt", "completion"} and all(name in row for row in rows)]
    return client.score(
        rewards=rewards,
        prompts=[row["prompt"] for row in rows] if with_prompts else None,
        completions=[row["completion"] for row in rows],
        columns={name: [row[name] for row in rows] for name in names},
    )


def _write(file: TextIO, rows: Sequence[Row], result: ScoreResult) -> None:
    for index, row in enumerate(rows):
        verdicts: dict[str, dict[str, Any]] = {
            name: {
                "score": found.scores[index],
                "status": str(found.statuses[index]),
                "reason": found.reasons[index],
                "explanation": found.explanations[index],
                "parts": {part: scores[index] for part, scores in found.parts.items()},
                "flags": found.flags_of(index),
                "version": found.version,
            }
            for name, found in result.rewards.items()
        }
        file.write(json.dumps({**row, "verdicts": verdicts}, ensure_ascii=False) + "\n")
