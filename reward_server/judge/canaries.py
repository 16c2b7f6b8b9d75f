"""Canaries: completions of known worth that a judge is given again and again, to notice when it is no longer sound.

They are scored past the memory, one group at a time, so that they never hold up more than a group's questions do. What
they find changes no score: it is logged once, when it begins, when it changes and when it is over, and told in the
judge's health.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Protocol

import structlog
from pydantic import ValidationError

from reward_server.domain import Call, Sample, Verdict
from reward_server.errors import ConfigError
from reward_server.judge.alarms import Alarm, Round, alarms
from reward_server.judge.methods.base import Method
from reward_server.judge.options import JudgeOptions
from reward_server.judge.rubric import Canary, Rubric

log = structlog.get_logger(__name__)


class Judging(Protocol):
    """What canaries need of a judge."""

    name: str
    score_range: tuple[float, float]

    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, all that shapes a score."""

    @property
    def method(self) -> Method:
        """Returns what it grades by."""

    def score(self, samples: Sequence[Sample], call: Call, *, fresh: bool) -> AsyncGenerator[tuple[int, Verdict], None]:
        """Yields each sample's index and verdict; fresh: asked now, and not remembered."""


class Canaries:
    """Scores a judge's canaries in the background. Use `start` and `close`.

    Args:
        judge: who is watched.
        canaries: what it is given.
        reference_column: where the judge looks for a canary's reference.
        every_s: the pause between two rounds; 0 = there are none.
        timeout_s: a group that takes longer is missing.
    """

    def __init__(
        self,
        judge: Judging,
        canaries: Sequence[Canary],
        *,
        reference_column: str | None,
        every_s: float,
        timeout_s: float,
    ) -> None:
        self._judge = judge
        self._canaries = canaries
        self._samples = [sample_of(canary, reference_column) for canary in canaries]
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._first: dict[tuple[str, int], float] = {}  # by judge's identity and canary: the first grade that it got
        self._alarms: frozenset[Alarm] = frozenset()
        self._task: asyncio.Task[None] | None = None

    @property
    def caution(self) -> str:
        """Returns what is wrong with the judge by the last round; empty where nothing is."""
        return "; ".join(f"canaries: {words}" for words in sorted(alarm.words for alarm in self._alarms))

    async def start(self) -> None:
        """Begins the rounds, the first one now."""
        if self._every_s > 0 and self._canaries:
            self._task = asyncio.create_task(self._rounds())

    async def close(self) -> None:
        """Ends them."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def round(self) -> None:
        """Scores every canary once, and raises or ends alarms."""
        result, first = await self._scored()
        self._tell(frozenset(alarms(self._canaries, result, first, compares=self._judge.method.compares)))

    async def _rounds(self) -> None:
        while True:
            try:
                await self.round()
            except Exception:  # a bug in one round must not end the watch; the log has it whole
                log.exception("canaries could not be scored", judge=self._judge.name)
            await asyncio.sleep(self._every_s)

    async def _scored(self) -> tuple[Round, Mapping[int, float]]:
        """Returns a round, and by canary the first grade of the judge as it now is: with another model it is another."""
        low, high = self._judge.score_range
        grades: dict[int, float] = {}
        first: dict[int, float] = {}
        reasons = dict.fromkeys(range(len(self._samples)), "no verdict came")
        for members in _by_prompt(self._canaries):
            call = Call(deadline=time.monotonic() + self._timeout_s)
            samples = [self._samples[member] for member in members]
            async with aclosing(self._judge.score(samples, call, fresh=True)) as judged:
                async for position, verdict in judged:
                    member = members[position]
                    reasons[member] = verdict.status_reason
                    if verdict.score is not None:
                        grades[member] = (verdict.score - low) / (high - low)
                        first[member] = self._first.setdefault((self._identity(), member), grades[member])
        return Round(grades, {index: reason for index, reason in reasons.items() if index not in grades}), first

    def _identity(self) -> str:
        said = json.dumps(self._judge.identity(), sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()

    def _tell(self, found: frozenset[Alarm]) -> None:
        """Logs what is new, and what is over; keeps the latest figures."""
        new, over = found - self._alarms, bool(self._alarms) and not found
        self._alarms = found
        for alarm in sorted(new, key=lambda each: each.kind):
            log.warning("a judge's canaries raise an alarm", judge=self._judge.name, alarm=alarm.kind, what=alarm.words)
        if over:
            log.info("a judge's canaries are well again", judge=self._judge.name)


def sample_of(canary: Canary, reference_column: str | None) -> Sample:
    """Returns a canary as a trainer would send it."""
    columns: dict[str, Any] = dict(canary.columns)
    if reference_column is not None and canary.reference is not None:
        columns[reference_column] = canary.reference
    return Sample(canary.completion, canary.prompt, columns)


def canaries_of(name: str, options: JudgeOptions, rubric: Rubric, folder: Path) -> tuple[Canary, ...]:
    """Returns a judge's canaries: its rubric's, and those of its file.

    Raises:
        ConfigError: the file can't be used, or canaries are to be scored and there are none. Messages begin with the key.
    """
    found = rubric.canaries
    if options.canaries_file is not None:
        try:
            found += read_canaries(folder / options.canaries_file)
        except ConfigError as error:
            key = f"judges.{name}.canaries_file"
            raise ConfigError(*(f"{key}: {problem}" for problem in error.problems)) from None
    if options.canary_every_s > 0 and not found:
        raise ConfigError(
            f"judges.{name}.canary_every_s: there are no canaries to score: give the rubric some, or a canaries_file"
        )
    return found


def read_canaries(path: Path) -> tuple[Canary, ...]:
    """Returns the canaries of a file: JSON lines of prompt, completion and good, perhaps reference and columns.

    Raises:
        ConfigError: it can't be read, or lines of it are no canaries; one problem for each.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8: {error}") from error
    found, problems = [], []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            found.append(Canary.model_validate_json(line))
        except ValidationError as error:
            problems += [f"{path}, line {number}: {_said(problem)}" for problem in error.errors()]
    if not found and not problems:
        problems.append(f'{path} is empty: give lines such as {{"prompt": "…", "completion": "…", "good": true}}')
    if problems:
        raise ConfigError(*problems)
    return tuple(found)


def _by_prompt(canaries: Sequence[Canary]) -> list[list[int]]:
    """Returns the canaries' numbers, those of one prompt together: a method that compares needs them so."""
    groups: dict[str, list[int]] = {}
    for index, canary in enumerate(canaries):
        groups.setdefault(canary.prompt, []).append(index)
    return list(groups.values())


def _said(problem: Mapping[str, Any]) -> str:
    """Returns what is wrong with a line, without quoting it."""
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])
