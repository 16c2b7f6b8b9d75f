"""`reward-server score`: a file of completions, scored in this process."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from protos.configfile import did_you_mean
from reward_server.cli.rows import VERDICTS, Row, batches, listed, read_rows, short, verdict_fields
from reward_server.cli.terminal import console, located
from reward_server.config import ServerConfig, load
from reward_server.config.checks import rewards_used
from reward_server.domain import Call, Status, Verdict
from reward_server.errors import ConfigError, MissingColumn, UnknownReward
from reward_server.rewards import Rewards
from reward_server.scoring import Selector
from reward_server.telemetry import logs

Verdicts = dict[str, Verdict]  # of one row, by reward


@dataclass(frozen=True, slots=True)
class FileScoring:
    """What the command line asks for."""

    config: Path
    data: Path
    rewards: tuple[str, ...]  # none: all of the configuration
    batch_size: int
    timeout_s: float

    def run(self, out: Path | None, *, as_json: bool) -> int:
        """Scores the file and prints the verdicts; returns 1 if one has failed.

        Raises:
            RewardServerError: the configuration, a line of the file or a reward's name is wrong.
        """
        logs.configure(level="error")
        rows = read_rows(self.data)
        config = load(self.config)
        with _json_lines(out, as_json=as_json) as stream, located(config):
            verdicts = asyncio.run(self._verdicts(config, rows, stream))
        if stream is None:
            console().print(_table(rows, verdicts))
        console(stderr=True).print(_summary(verdicts))
        failed = any(verdict.status is Status.FAILED for found in verdicts for verdict in found.values())
        return 1 if failed else 0

    async def _verdicts(self, config: ServerConfig, rows: Sequence[Row], stream: IO[str] | None) -> list[Verdicts]:
        """Returns (N,) verdicts by reward; writes each batch's to `stream` as soon as it is done."""
        verdicts: list[Verdicts] = []
        async with Rewards(config) as rewards:
            names = self.rewards or tuple(rewards.names)
            self._check_health(rewards, names)
            self._check_rows(config, rewards, names, rows)
            with _progress(len(rows) * len(names)) as advance:
                for batch in batches(rows, self.batch_size):
                    verdicts += await self._of_batch(rewards, names, [rows[index] for index in batch], advance)
                    if stream is not None:
                        stream.writelines(_line(rows[index], verdicts[index]) for index in batch)
                        stream.flush()
        return verdicts

    async def _of_batch(
        self, rewards: Rewards, names: Sequence[str], rows: Sequence[Row], advance: Callable[[], None]
    ) -> list[Verdicts]:
        found: list[Verdicts] = [{} for _ in rows]
        call = Call(deadline=time.monotonic() + self.timeout_s)
        selectors = [Selector(name) for name in names]
        async for name, index, verdict in rewards.run(selectors, [row.sample for row in rows], call):
            found[index][name] = verdict
            advance()
        return [{name: of_row[name] for name in names} for of_row in found]

    def _check_rows(self, config: ServerConfig, rewards: Rewards, names: Sequence[str], rows: Sequence[Row]) -> None:
        """Raises `MissingColumn` where no line has what a reward reads, or where lines lack a prompt that one reads."""
        needed = {info.name: info.needs for info in rewards.describe() if info.name in names}
        have = rows[0].sample.columns
        problems = [
            f"{self.data}: no row has {column!r}: the reward {name!r} needs the column{_how_else(config, name, column)}"
            f"{did_you_mean(column, have)}; the rows have: {', '.join(have) or 'no columns'}"
            for name, needs in needed.items()
            for column in sorted(needs.required_columns - have.keys())
        ]
        if reading := next((name for name, needs in needed.items() if needs.prompts_required), None):
            problems += [
                f"{self.data}:{row.line}: has no 'prompt', which the reward {reading!r} reads"
                for row in rows
                if row.sample.prompt is None
            ]
        if problems:
            raise MissingColumn(listed(self.data, problems))

    def _check_health(self, rewards: Rewards, names: Sequence[str]) -> None:
        """Raises for rewards that can't score now: better one message than the same in each line."""
        health = rewards.health()
        for name in names:
            if name not in health:
                raise UnknownReward(f"{self.config}: there is no reward {name!r}; there is: {', '.join(health)}")
        sick = [f"rewards.{name}: {health[name].reason}" for name in names if not health[name].serving]
        if sick:
            raise ConfigError(*sick)


def _how_else(config: ServerConfig, name: str, column: str) -> str:
    """Returns which option says that a column is called otherwise, where there is one."""
    reward = config.rewards[name]
    for key, value in reward.options:
        if key.endswith("_column") and value == column:
            return f" (is it called otherwise? say so in its {key})"
    found = (_how_else(config, part, column) for part in rewards_used(reward.options))
    return next(filter(None, found), "")


@contextmanager
def _json_lines(out: Path | None, *, as_json: bool) -> Iterator[IO[str] | None]:
    """Yields where JSON lines go; None if a table is to be shown instead."""
    if out is not None:
        try:
            stream = out.open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"--out: {out} can't be written: {error.strerror}") from None
        with stream:
            yield stream
    else:
        yield sys.stdout if as_json or not sys.stdout.isatty() else None


@contextmanager
def _progress(count: int) -> Iterator[Callable[[], None]]:
    """Shows a bar while it is open; yields what advances it by one verdict."""
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task("scoring", total=count)
        yield lambda: progress.advance(task)


def _line(row: Row, verdicts: Verdicts) -> str:
    """Returns the row with its verdicts as one line of JSON."""
    found = {name: verdict_fields(verdict) for name, verdict in verdicts.items()}
    return json.dumps({**row.fields, VERDICTS: found}) + "\n"


def _table(rows: Sequence[Row], verdicts: Sequence[Verdicts]) -> Table:
    table = Table("completion", *verdicts[0])
    for row, found in zip(rows, verdicts, strict=True):
        completion = row.sample.completion
        text = completion if isinstance(completion, str) else json.dumps(completion[-1:])
        table.add_row(Text(short(" ".join(text.split()))), *(Text(_cell(verdict)) for verdict in found.values()))
    return table


def _cell(verdict: Verdict) -> str:
    marks = f" [{', '.join(verdict.flags)}]" if verdict.flags else ""
    if verdict.score is None:
        return f"{verdict.status.value}: {short(verdict.status_reason)}{marks}"
    return f"{verdict.score:.4g}{marks}" + (f" ({short(verdict.explanation)})" if verdict.explanation else "")


def _summary(verdicts: Sequence[Verdicts]) -> Table:
    """Returns, by reward, how many verdicts of each status there are, the scores' mean and range, and the flags."""
    table = Table("reward", *(status.value for status in Status), "mean", "min", "max", "flags")
    for name in verdicts[0]:
        of_reward = [found[name] for found in verdicts]
        counts = [str(sum(verdict.status is status for verdict in of_reward)) for status in Status]
        scores = [verdict.score for verdict in of_reward if verdict.score is not None]
        figures = [sum(scores) / len(scores), min(scores), max(scores)] if scores else []
        shown = [f"{figure:.4g}" for figure in figures] or ["", "", ""]
        flags = Counter(flag for verdict in of_reward for flag in verdict.flags)
        table.add_row(name, *counts, *shown, ", ".join(f"{count} {flag}" for flag, count in flags.items()))
    return table
