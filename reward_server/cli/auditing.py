"""`reward-server judge audit`: a reward measured before anybody trains on it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

import rich.progress
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from reward_server.audit import conclusion
from reward_server.audit.columns import Columns
from reward_server.audit.pairs import read_pairs
from reward_server.audit.probes import PAIRS, SETS, Probe, own_probes
from reward_server.audit.ratings import Rating
from reward_server.audit.report import Report
from reward_server.audit.running import Running
from reward_server.cli.narrowing import narrowed
from reward_server.cli.terminal import console, located
from reward_server.config import ServerConfig, load
from reward_server.domain import Needs
from reward_server.errors import ConfigError
from reward_server.rewards import Rewards
from reward_server.telemetry import logs

ESTIMATE_AFTER: Final = 16
"""After so many verdicts it is said how long the rest may take."""

WORTH_SAYING_S: Final = 10.0
SECONDS_SAID_UP_TO: Final = 120

STYLES: Final = {Rating.GOOD: "green", Rating.WEAK: "yellow", Rating.BAD: "bold red", None: ""}


@dataclass(frozen=True, slots=True)
class Audit:
    """What the command line asks for."""

    config: Path
    reward: str
    data: Path | None  # people's own pairs, in place of the shipped ones
    first_label: int | None
    sets: Sequence[str]  # none: all of `SETS`
    limit: int | None  # most probes of each set
    columns: Mapping[str, str]
    out: Path
    batch_size: int
    timeout_s: float

    def run(self) -> int:
        """Measures, prints and writes the report; returns 1 for a judge that should not be trained on as it is.

        Raises:
            RewardServerError: the configuration, a line of the data, a column or the reward's name is wrong.
        """
        logs.configure(level="error")
        probes = self._probes()
        config = narrowed(load(self.config), self.reward)
        with located(config):
            report = asyncio.run(self._measured(config, probes))
        written = report.write(self.out)
        out = console()
        for part in _tables(report):
            out.print(part)
        for sentence in report.conclusion.sentences:
            out.print(Text(sentence, style=STYLES[report.conclusion.rating]), soft_wrap=True)
        console(stderr=True).print(Text(f"written: {' and '.join(map(str, written))}"), soft_wrap=True)
        return 1 if report.conclusion.rating is Rating.BAD else 0

    def _probes(self) -> dict[str, list[Probe]]:
        """Returns the probes by set, no more of each than the limit. Raises `MalformedRequest`."""
        probes = {name: list(found) for name, found in own_probes().items() if name in (self.sets or SETS)}
        for name, found in probes.items():
            probes[name] = found[: self.limit]
        if self.data is not None:
            if PAIRS not in probes:
                raise ConfigError("--data: holds pairs, and --probes leaves them out: add --probes pairs")
            probes[PAIRS] = _evenly(read_pairs(self.data, self.first_label), self.limit)
        return probes

    async def _measured(self, config: ServerConfig, probes: Mapping[str, Sequence[Probe]]) -> Report:
        chosen = [probe for found in probes.values() for probe in found]
        references = {judge.reference_column: "reference" for judge in config.judges.values() if judge.reference_column}
        fitted: list[Probe] = []

        def fit(needs: Needs) -> Sequence[Probe]:
            fitted.extend(Columns(needs, {**references, **self.columns}).fitted(chosen))
            return fitted

        with _Telling() as progress:
            running = Running(lambda: Rewards(config), self.reward, fit, self.batch_size, self.timeout_s, progress)
            session = await running.run()
        left_out = Counter(probe.set for probe in chosen) - Counter(probe.set for probe in fitted)
        made_at = datetime.now(UTC).isoformat(timespec="seconds")
        return Report(session, left_out, str(self.data or "the shipped ones"), made_at)


class _Telling:
    """Shows a bar on a terminal, and says once in a line how long it may take, terminal or not."""

    def __init__(self) -> None:
        self._err = console(stderr=True)
        columns = (
            TextColumn("verdicts"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = rich.progress.Progress(*columns, console=self._err, transient=True, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("verdicts", total=None)
        self._count = self._done = 0
        self._began = 0.0

    def __enter__(self) -> Self:
        """Shows the bar."""
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Takes the bar away."""
        self._bar.stop()

    def begin(self, count: int) -> None:
        """Starts the clock."""
        self._count, self._began = count, time.monotonic()
        self._bar.update(self._task, total=count)

    def advance(self) -> None:
        """Counts one verdict."""
        self._done += 1
        self._bar.advance(self._task)
        if self._done == ESTIMATE_AFTER:
            self._estimate()

    def _estimate(self) -> None:
        each_s = (time.monotonic() - self._began) / self._done
        rest_s = each_s * (self._count - self._done)
        if rest_s >= WORTH_SAYING_S:
            took = f"{self._count} verdicts; the first {self._done} took {each_s:.2g} s each"
            words = f"{took}, so the rest may take {_duration(rest_s)}. --limit takes fewer probes."
            self._err.print(Text(words), soft_wrap=True)


def _duration(seconds: float) -> str:
    if seconds < SECONDS_SAID_UP_TO:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def known_sets(names: Sequence[str]) -> Sequence[str]:
    """Returns the names of sets of probes as they were given. Raises `ConfigError` for one that is none."""
    for name in names:
        if name not in SETS:
            raise ConfigError(f"--probes: there is no set {name!r}: it is one of {', '.join(SETS)}")
    return names


def named_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Returns columns given as NAME=PROBE'S. Raises `ConfigError` for one that is not."""
    columns = dict(pair.partition("=")[::2] for pair in pairs)
    for name, source in columns.items():
        if not name or not source:
            raise ConfigError(f"--column: {name}={source} lacks a name: give both, as in --column solution=reference")
    return columns


def _evenly(probes: Sequence[Probe], limit: int | None) -> list[Probe]:
    """Returns at most so many of a person's probes, from all over the file: it may be sorted."""
    if limit is None or len(probes) <= limit:
        return list(probes)
    return [probes[place * len(probes) // limit] for place in range(limit)]


def _tables(report: Report) -> Iterator[Table]:
    table = Table("measure", "figure", "95 % interval", "n", "rating", title=f"Audit of {report.session.info.name}")
    for section in report.sections:
        table.add_section()
        for measure in section.measures:
            rating = Text(measure.rating.value, style=STYLES[measure.rating]) if measure.rating else Text()
            n = str(measure.estimate.n if measure.estimate else 0)
            table.add_row(
                Text(measure.title), conclusion.figure(measure), conclusion.interval(measure.estimate), n, rating
            )
    yield table
    for title, counts in (
        ("verdicts missing because", report.missing()),
        ("flag", {flag: sum(counts.values()) for flag, counts in report.flags().items()}),
        ("probes left out for lack of a column", report.left_out),
    ):
        if counts:
            table = Table(title, "count")
            for name, count in counts.items():
                table.add_row(Text(name), str(count))
            yield table
