"""Runs a completion's program against tests, in a sandbox.

    rewards:
      solves: {code: {tests_column: tests, timeout_s: 4}}
      strict: {code: {tests_column: test_list, score: all}}

The score is the fraction of tests passed, or with `score: all` 1 for all of them and else 0. A completion without a
program passes none. What forms tests may have: `reward_server.scorers.code.cases`.

Columns: the tests, and where they are named the setup and the function's name. Range: 0 to 1. Cost class: compute.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar, Final, TypeVar

from pydantic import Field

from reward_server.domain import (
    HEALTHY,
    Blame,
    Call,
    CostClass,
    Health,
    Needs,
    Sample,
    Verdict,
    abstained,
    failed,
    scored,
)
from reward_server.errors import ConfigError, SandboxUnavailable
from reward_server.options import Options, Seconds
from reward_server.sandbox.base import Job, Limits, Outcome, Result, Run, Sandbox
from reward_server.sandbox.fusion import FusionOptions
from reward_server.sandbox.sandboxes import SandboxChoice
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.code.cases import Case, Unreadable, read
from reward_server.scorers.code.comparing import Compare
from reward_server.scorers.code.finding import Where, program_in
from reward_server.scorers.code.programs import explanation_of, run_of, told
from reward_server.scorers.texts import NOT_A_TEXT

LONG_CHARS: Final = 50_000
"""What is longer is searched and parsed in a thread, so that the event loop has its turns."""

TESTS_FACTOR: Final = 10
"""Tests take so much longer than other texts: they are parsed, and written anew without what they expect."""

NO_TIME: Final = "there was no time left to run its tests"
NO_PROGRAM: Final = scored(0.0, "there is no program in it")

T = TypeVar("T")


class Score(Enum):
    """What the score is."""

    FRACTION = "fraction"  # of the tests passed
    ALL = "all"  # 1 if all are passed, else 0


class CodeOptions(Options):
    """Where the tests are, and what a program may use."""

    tests_column: str = Field("tests", description="column with the tests")
    setup_column: str | None = Field(None, description="column with code that runs before each assertion")
    entry_point_column: str | None = Field(None, description="column with the function's name, for check(candidate)")
    program: Where = Field(
        Where.LAST_BLOCK,
        description="where the program is: last_block, first_block, all_blocks (the whole text where there is no block), "
        "fenced (the last block or nothing) or whole",
    )
    score: Score = Field(Score.FRACTION, description="fraction of the tests passed, or 1 for all of them")
    compare: Compare = Field(Compare.LINES, description="how output is compared: lines, tokens or exact")
    max_tests: int = Field(64, strict=True, ge=1, le=10_000, description="the first so many tests are run")
    timeout_s: Seconds = Field(5.0, le=600, description="seconds of one test; then the program has failed it")
    total_s: Seconds = Field(20.0, description="seconds of all tests together; then the program has failed the rest")
    memory_mb: int = Field(512, strict=True, ge=32, le=65_536, description="MiB that a program may take")
    sandbox: SandboxChoice = Field(
        "bubblewrap", description="what runs programs: bubblewrap, its options, or a SandboxFusion service"
    )


class Code:
    """Scores programs by their tests."""

    kind: ClassVar[str] = "code"
    Options = CodeOptions
    score_range: tuple[float, float] | None = (0.0, 1.0)
    cost_class = CostClass.COMPUTE
    compares: ClassVar[bool] = False

    def __init__(self, options: CodeOptions, context: ScorerContext) -> None:
        self._options = options
        if context.sandboxes is None:
            raise ConfigError(f"rewards.{context.reward_name}.code: there is no sandbox in this place")
        self._sandbox: Sandbox = context.sandboxes.get(options.sandbox, f"rewards.{context.reward_name}.code.sandbox")
        self._asks = context.asks_hosts or not isinstance(options.sandbox, FusionOptions)
        columns = (options.tests_column, options.setup_column, options.entry_point_column)
        self.needs = Needs(frozenset(column for column in columns if column is not None))
        self._alone = asyncio.Lock()  # one suspect at a time
        self._limits = Limits(wall_s=options.timeout_s, cpu_s=options.timeout_s, memory_mb=options.memory_mb)

    async def start(self) -> None:
        """Starts the sandbox, which proves that it holds; where it does not, `health` says so."""
        if self._asks:
            await self._sandbox.start()

    async def close(self) -> None:
        """Closes nothing: sandboxes are the server's."""

    def identity(self) -> Mapping[str, Any]:
        """Returns what the sandbox runs programs with."""
        return {"sandbox": self._sandbox.identity()}

    def health(self) -> Health:
        """Returns whether the sandbox holds."""
        return self._sandbox.health() if self._asks else HEALTHY

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields each program's verdict as its tests have run."""
        running = [asyncio.create_task(self._verdict(index, sample, call)) for index, sample in enumerate(samples)]
        try:
            for ready in asyncio.as_completed(running):
                yield await ready
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _verdict(self, index: int, sample: Sample, call: Call) -> tuple[int, Verdict]:
        try:
            size = TESTS_FACTOR * sum(map(_size, sample.columns.values()))
            cases = (await _aside(size, self._cases, sample))[: self._options.max_tests]
        except Unreadable as error:
            reason = f"the tests in the column {self._options.tests_column!r} cannot be read: {error}"
            return index, abstained(reason, blame=Blame.REFERENCE)
        text = sample.completion
        if not isinstance(text, str):
            return index, NOT_A_TEXT
        program = await _aside(len(text), program_in, text, self._options.program)
        if program is None:
            return index, NO_PROGRAM
        return index, await self._tested(program, cases, call)

    def _cases(self, sample: Sample) -> list[Case]:
        options, columns = self._options, sample.columns
        setup = columns[options.setup_column] if options.setup_column else ""
        entry_point = columns[options.entry_point_column] if options.entry_point_column else ""
        if isinstance(setup, Sequence) and not isinstance(setup, str):
            setup = "\n".join(map(str, setup))  # MBPP has a list of imports
        return read(columns[options.tests_column], setup=setup or "", entry_point=entry_point or "")

    async def _tested(self, program: str, cases: Sequence[Case], call: Call) -> Verdict:
        mark = f"-- {secrets.token_hex(16)} --"
        job = Job(program, [run_of(case, mark) for case in cases], limits=self._limits, total_s=self._options.total_s)
        try:
            results = await self._results(job, call)
        except SandboxUnavailable as error:
            return failed(str(error), blame=Blame.OUTAGE)
        except TimeoutError:
            return failed(NO_TIME)
        if isinstance(results, Verdict):
            return results
        size = sum(len(result.stdout) for result in results)
        return await _aside(size, self._scored, cases, results, mark)

    async def _results(self, job: Job, call: Call) -> Sequence[Result] | Verdict:
        """Returns what came of the runs, or why nothing did; raises what the sandbox raises.

        A sandbox is killed by chance, or by a program that has found out how. So one that was killed is tried again, and if
        that was killed too, once more alone; then a program that does nothing shows whether sandboxes live.
        """
        for _ in range(2):
            if not _killed(results := await self._sandbox.run(job, call.deadline)):
                return results
            if call.remaining_s() <= 0:
                return failed(NO_TIME)
        async with self._alone:
            if not _killed(results := await self._sandbox.run(job, call.deadline)):
                return results
            if call.remaining_s() <= 0:
                return failed(NO_TIME)
            control = await self._sandbox.run(Job("pass", [Run()], limits=self._limits), call.deadline)
        if control[0].outcome is Outcome.OK:
            return failed(
                "its sandbox was killed three times, the last time alone, and another program's was not",
                blame=Blame.COMPLETION,
            )
        return failed("its sandbox was killed three times, and so was that of a program that does nothing")

    def _scored(self, cases: Sequence[Case], results: Sequence[Result], mark: str) -> Verdict:
        found = [told(case, result, mark, self._options.compare) for case, result in zip(cases, results, strict=True)]
        passed = sum(each.passed for each in found)
        fraction = passed / len(cases)
        score = fraction if self._options.score is Score.FRACTION else float(passed == len(cases))
        return scored(score, explanation_of(cases, found), parts={"tests_passed": fraction})


def _killed(results: Sequence[Result]) -> bool:
    return any(result.outcome is Outcome.KILLED for result in results)


def _size(value: Any) -> int:
    """Returns how many characters the tests in a column have, as far as they are quickly counted."""
    if isinstance(value, str):
        return len(value)
    return sum(len(each) for each in value if isinstance(each, str)) if isinstance(value, list | tuple) else LONG_CHARS


async def _aside(chars: int, function: Callable[..., T], *arguments: Any) -> T:
    """Returns what a function of text returns, computed in a thread where the text is long."""
    return await asyncio.to_thread(function, *arguments) if chars > LONG_CHARS else function(*arguments)
