"""A SandboxFusion service, or one that speaks its HTTP interface, as the sandbox.

`POST /run_code` runs one program (github.com/bytedance/SandboxFusion, `sandbox/server/sandbox_api.py`); `GET /v1/ping`
says that it is there. How well it isolates programs is its own affair and cannot be seen from here: run it with isolation
(`sandbox.isolation: lite` in its configuration; its default for local use is `none`), and where it reaches nothing else.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final

from pydantic import AfterValidator, Field

from reward_server.domain import HEALTHY, Health
from reward_server.errors import AnswerTimedOut, EngineError, SandboxUnavailable
from reward_server.http.credentials import Secret, http_url
from reward_server.http.host import LOOK_TIMEOUT_S, Host, Reply
from reward_server.options import Options
from reward_server.sandbox.base import Job, Outcome, Result, Run, is_spent

GRACE_S: Final = 30.0
"""What a run may take at the service besides its own time: it waits for a place there, and a compiler may run."""

ATTEMPTS: Final = 3
FIRST_PAUSE_S: Final = 0.2
LANGUAGES: Final = frozenset({"python"})


class FusionOptions(Options):
    """Where the service is."""

    never_shape_a_score: ClassVar[frozenset[str]] = frozenset({"in_flight", "token_env", "token_file"})

    url: Annotated[str, AfterValidator(http_url)] = Field(description="the service's base URL")
    in_flight: int = Field(8, strict=True, ge=1, le=1024, description="runs at a time")
    token_env: str | None = Field(None, description="environment variable with a bearer token for a proxy in front")
    token_file: Path | None = Field(None, description="file with that token")


class Fusion:
    """Runs programs at the service. What it cannot run is `SandboxUnavailable`, never a failed program.

    Args:
        options: where it is.
        folder: where the path of a token's file starts.
        where: its place in the configuration, for messages.
    """

    def __init__(self, options: FusionOptions, folder: Path, where: str = "sandbox") -> None:
        label = f"sandbox {options.url}"
        secret = Secret(where, "token", options.token_env, options.token_file, folder)
        self._host = Host(label, options.url, mend="Is SandboxFusion running there?", headers=secret.bearer_header())
        self._label = label
        self._places = asyncio.Semaphore(options.in_flight)
        self._problem = "it has not been asked yet"
        self._open = False

    async def start(self) -> None:
        """Looks whether the service is there and runs a program. Where it does not, `health` says so."""
        if self._open:
            return
        self._host.open()
        self._open = True
        try:
            (result,) = await self.run(Job("print(6 * 7)", [Run()]), time.monotonic() + LOOK_TIMEOUT_S)
        except (SandboxUnavailable, TimeoutError) as error:
            self._problem = str(error) or f"{self._label}: no answer within {LOOK_TIMEOUT_S:g} s"
            return
        if result.stdout.strip() != "42":
            self._problem = f"{self._label}: print(6 * 7) wrote {result.stdout[:100]!r} and {result.stderr[:200]!r}"

    async def close(self) -> None:
        """Closes all connections."""
        self._open = False
        await self._host.close()

    def health(self) -> Health:
        """Returns what came of the last run: it may come back, so nothing is refused outright."""
        return Health(serving=False, reason=self._problem) if self._problem else HEALTHY

    def identity(self) -> Mapping[str, Any]:
        """Returns the kind: what runs programs there cannot be seen from here."""
        return {"kind": "sandboxfusion"}

    async def run(self, job: Job, deadline: float = float("inf")) -> Sequence[Result]:
        """Runs a job, as many of its runs at a time as there are places. Raises `SandboxUnavailable`, `TimeoutError`."""
        if job.language not in LANGUAGES:
            raise ValueError(f"{job.language!r} is not run here: {', '.join(sorted(LANGUAGES))}")
        outcomes: list[Result | Exception | None] = [None] * len(job.runs)
        async with asyncio.TaskGroup() as group:
            for index in range(len(job.runs)):
                group.create_task(self._guarded(job, index, deadline, outcomes))
        return _in_order(job, outcomes)

    async def _guarded(self, job: Job, index: int, deadline: float, outcomes: list[Result | Exception | None]) -> None:
        """Notes a run's result, or why there is none: one that fails must not cut off the others' connections."""
        try:
            async with self._places:
                if is_spent(job, [each for each in outcomes[:index] if isinstance(each, Result)]):
                    return
                result = await self._run(job, job.runs[index], deadline)
                if result.outcome is Outcome.TIMED_OUT:  # there it is by the clock, which a full service makes late
                    result = await self._run(job, job.runs[index], deadline)
        except SandboxUnavailable as error:
            self._problem = str(error)
            outcomes[index] = error
        except TimeoutError as error:  # the caller's time is over, of which the service knows nothing
            outcomes[index] = error
        else:
            self._problem = ""
            outcomes[index] = result

    async def _run(self, job: Job, run: Run, deadline: float) -> Result:
        pause_s = FIRST_PAUSE_S
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._once(job, run, deadline)
            except SandboxUnavailable:
                if attempt == ATTEMPTS or time.monotonic() + pause_s > deadline:
                    raise
            await asyncio.sleep(pause_s)
            pause_s *= 2
        raise AssertionError("unreachable")

    async def _once(self, job: Job, run: Run, deadline: float) -> Result:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            raise TimeoutError(f"{self._label}: no time was left")
        body = {
            "code": _sendable(f"{job.source}\n{run.tail}" if run.tail else job.source),
            "language": job.language,
            "stdin": _sendable(run.stdin),
            "run_timeout": job.limits.wall_s,
            "memory_limit_MB": job.limits.memory_mb,
        }
        most_s = job.limits.wall_s + GRACE_S
        try:
            reply = await self._host.request("POST", "/run_code", min(left_s, most_s), body)
        except EngineError as error:
            if isinstance(error, AnswerTimedOut) and left_s < most_s:
                raise TimeoutError(str(error)) from error
            raise SandboxUnavailable(str(error)) from error
        return self._read(reply)

    def _read(self, reply: Reply) -> Result:
        """Returns the result in a reply. Raises `SandboxUnavailable` where there is none."""
        try:
            said = json.loads(reply.body)
        except (ValueError, RecursionError):
            said = None
        if reply.status != HTTPStatus.OK or not isinstance(said, dict):
            raise SandboxUnavailable(f"{self._label}: status {reply.status}, {reply.text()[:200]!r}")
        ran = said.get("run_result")
        if said.get("status") not in ("Success", "Failed") or not isinstance(ran, dict):
            raise SandboxUnavailable(f"{self._label}: {said.get('status')}: {str(said.get('message'))[:200]}")
        outcome = _outcome(ran)
        if outcome is None:
            raise SandboxUnavailable(f"{self._label}: the run's status is {ran.get('status')!r}")
        code = ran.get("return_code")
        return Result(
            outcome,
            str(ran.get("stdout") or ""),
            str(ran.get("stderr") or ""),
            code if isinstance(code, int) else None,
            wall_s=float(ran.get("execution_time") or 0.0),
            own_s=float(ran.get("execution_time") or 0.0),
        )


def _in_order(job: Job, outcomes: Sequence[Result | Exception | None]) -> list[Result]:
    """Returns the results as if the runs had been run one after another. Raises what kept one of them from being run.

    Which of them ended first depends on how busy the service is, and on how many it is sent at a time.
    """
    results: list[Result] = []
    for outcome in outcomes:
        if is_spent(job, results):
            return results + [Result(Outcome.TIMED_OUT)] * (len(outcomes) - len(results))
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            results.append(outcome)
    return results


def _outcome(ran: Mapping[str, Any]) -> Outcome | None:
    """Returns how a run ended; None where the service could not run it."""
    if ran.get("status") == "TimeLimitExceeded":
        return Outcome.TIMED_OUT
    if ran.get("status") != "Finished":
        return None
    return Outcome.OK if ran.get("return_code") == 0 else Outcome.FAILED


def _sendable(text: str) -> str:
    """Returns a text that JSON carries as UTF-8: the service fails on lone surrogates."""
    return text.encode(errors="replace").decode()
