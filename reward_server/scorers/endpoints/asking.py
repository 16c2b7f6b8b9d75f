"""Has a server score the samples of a call in batches, and finds out whom a failure is owed to.

One sample may make the server refuse a whole batch, or break over it. So where a batch fails though the server is there,
it is halved until the guilty are alone, and the others are scored. Two controls tell: the same task with a bland
completion, and where that fails too, a sample that the server has scored before, or other tasks. Only a completion that fails again,
alone, while its own task is answered with the bland one, has broken its grader. Where the task itself fails, it is the
task's doing; where nothing is answered, an outage. Time-outs and broken connections are never held against anybody: load
and dying hosts make them too.

An answer may hold no score for a single sample: NaN, null, a number out of range. It is tried in the same way, once all
others have their verdicts: bland first, then the sample alone. A server that does not score the bland one is not asked so
again in that call.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from reward_server.bland import BLAND, bland, same
from reward_server.domain import Blame, Call, Sample, Status, Verdict, abstained, failed
from reward_server.errors import (
    AnswerTimedOut,
    BadAnswer,
    EngineError,
    HostBusy,
    HostFailed,
    HostRefused,
    HostUnreachable,
    ModelChanged,
    ModelMissing,
    PromptTooLong,
)
from reward_server.scorers.base import MAX_REASON_CHARS
from reward_server.scorers.endpoints.remote import TRIES, Remote

PLAIN: Final = Sample(BLAND, "What is the capital of France?")
BEFORE_DEADLINE: Final = 0.95
"""Share of the time left that an answer may take, so that its end can still be told."""

AWAY: Final = (HostUnreachable, HostBusy, ModelMissing)
"""The server does not serve anybody: a later try may do."""
SUSPICIOUS: Final = (HostFailed, HostRefused, PromptTooLong, AnswerTimedOut, HostUnreachable)
"""What a single completion of the batch may have brought about."""
BLAMED: Final = (HostFailed, HostRefused, PromptTooLong)
"""What is the completion's doing if it happens again to it alone while the control is answered."""

AGAIN: Final = "; and again alone, while a bland completion was scored"

Part = Sequence[int]
Scored = list[tuple[int, Verdict]]


class Ask(Protocol):
    """How a scorer asks its server."""

    async def __call__(
        self, samples: Sequence[Sample], timeout_s: Callable[[], float], tries: int
    ) -> Sequence[Verdict]:
        """Returns a verdict for each sample. Raises `EngineError` where there is no answer."""


class Asking:
    """The samples of one call.

    Args:
        remote: the server.
        ask: asks it for the verdicts on some samples in one request.
        samples: all of the call's.
        call: until when.
        timeout_s: the longest time for one answer.
        plain: a sample that any such server should score.
    """

    def __init__(
        self, remote: Remote, ask: Ask, samples: Sequence[Sample], call: Call, *, timeout_s: float, plain: Sample
    ) -> None:
        self._remote, self._ask, self._samples, self._call, self._longest_s = remote, ask, samples, call, timeout_s
        self._plain = plain
        self._outage: EngineError | None = None  # why nobody is served, once that was found in this call
        self._unscored: deque[tuple[int, Verdict]] = deque()  # what an answer held no score for, to be tried again
        self._trying = True  # such a sample is: the server has scored every bland one
        self._ready: asyncio.Queue[Scored | Exception | None] = asyncio.Queue()  # None: a lane is done

    async def score(self, parts: Iterable[Part]) -> AsyncGenerator[tuple[int, Verdict], None]:
        """Yields the verdicts on the samples of these parts, each one request, as they are ready."""
        waiting = deque(parts)
        count = min(self._remote.in_flight, len(waiting))
        lanes = [asyncio.create_task(self._work_off(waiting)) for _ in range(count)]
        try:
            while count:
                outcome = await self._ready.get()
                if isinstance(outcome, Exception):
                    raise outcome
                count -= outcome is None
                for ready in outcome or ():
                    yield ready
        finally:
            for lane in lanes:
                lane.cancel()
            await asyncio.gather(*lanes, return_exceptions=True)

    async def _work_off(self, waiting: deque[Part]) -> None:
        """Has one part after another scored. Once nobody is served, those that wait are not asked about any more."""
        try:
            while waiting:
                part, outage = waiting.popleft(), self._outage
                self._ready.put_nowait(
                    await self._verdicts(part, TRIES) if outage is None else self._missing(part, outage, Blame.OUTAGE)
                )
            while self._unscored:
                self._ready.put_nowait(await self._retried(*self._unscored.popleft()))
            self._ready.put_nowait(None)
        except Exception as error:  # noqa: BLE001  # raised again where the verdicts are awaited
            self._ready.put_nowait(error)

    async def _verdicts(self, part: Part, tries: int) -> Scored:
        """Returns the verdicts on a part, halved as often as needed; samples without a score are put aside."""
        try:
            verdicts = await self._asked(self._of(part), tries)
        except EngineError as error:
            if not isinstance(error, SUSPICIOUS) or self._cut_short(error):
                return self._missing(part, error, self._owed_to(error))
            return await self._settle(part, error)
        found = list(zip(part, verdicts, strict=True))
        self._unscored.extend(ready for ready in found if _is_unscored(ready[1]))
        return [ready for ready in found if not _is_unscored(ready[1])]

    async def _retried(self, index: int, verdict: Verdict) -> Scored:
        """Returns the verdict on a sample that an answer held no score for: after one more try, if bland is scored."""
        if self._trying and await self._control(bland(self._samples[index])) is not None:
            self._trying = False
        return await self._try_alone((index,)) if self._trying else [(index, verdict)]

    async def _settle(self, part: Part, error: EngineError) -> Scored:
        """Returns the verdicts on a part that failed and may hold a completion that made it fail."""
        own = await self._control(bland(self._samples[part[0]]))
        if own is not None and not isinstance(own, PromptTooLong):
            away = own if isinstance(own, AWAY) else await self._found_elsewhere(part[0])
            if away is not None:
                return self._missing(part, error, self._found_away(away))
        if len(part) > 1:
            middle = len(part) // 2
            return [*await self._verdicts(part[:middle], 1), *await self._verdicts(part[middle:], 1)]
        if own is not None:
            return self._missing(part, error, Blame.REFERENCE if isinstance(own, BLAMED) else Blame.UNKNOWN)
        return await self._try_alone(part)

    async def _try_alone(self, part: Part) -> Scored:
        """Returns the verdict on a single sample that failed while its control was scored: after one more try."""
        try:
            (verdict,) = await self._asked(self._of(part), 1)
        except EngineError as error:
            guilty = isinstance(error, BLAMED) and not self._cut_short(error)
            return self._missing(part, error, Blame.COMPLETION if guilty else Blame.UNKNOWN)
        if _is_unscored(verdict):
            reason = verdict.status_reason[: MAX_REASON_CHARS - len(AGAIN)] + AGAIN
            verdict = replace(verdict, status_reason=reason, blame=Blame.COMPLETION)
        return [(part[0], verdict)]

    async def _found_elsewhere(self, index: int) -> EngineError | None:
        """Returns what became of other tasks than this sample's: None if any was scored."""
        error: EngineError | None = None
        for sample in self._elsewhere(index):
            error = await self._control(sample)
            if error is None:
                return None
        return error

    def _elsewhere(self, index: int) -> list[Sample]:
        """Returns what the server should score if it scores anything: a sample that it has scored, else other tasks."""
        if self._remote.witness is not None:
            return [self._remote.witness]
        suspect = _task(self._samples[index])
        others = [sample for sample in self._samples if not same(_task(sample), suspect)]
        return [bland(sample) for sample in (others[0], others[-1])] if others else [self._plain]

    async def _control(self, sample: Sample) -> EngineError | None:
        """Returns what became of a sample that should be scored: None if it was."""
        try:
            (verdict,) = await self._asked([sample], 1)
        except EngineError as error:
            return error
        return None if verdict.score is not None else BadAnswer(f"the control got no score: {verdict.status_reason}")

    async def _asked(self, samples: Sequence[Sample], tries: int) -> Sequence[Verdict]:
        verdicts = await self._ask(samples, self._timeout_s, tries)
        self._remote.answered()
        if verdicts[0].score is not None:
            self._remote.witness = samples[0]
        return verdicts

    def _found_away(self, control: EngineError) -> Blame:
        """Returns what a failure is owed to where the control failed too, and notes that nobody is served."""
        if self._cut_short(control) or not isinstance(control, (*AWAY, *SUSPICIOUS)):
            return self._owed_to(control)
        self._remote.lose(control)
        if isinstance(control, HostRefused):
            return Blame.UNKNOWN
        self._outage = control
        return Blame.OUTAGE

    def _missing(self, part: Part, error: EngineError, blame: Blame) -> Scored:
        if blame is Blame.OUTAGE and isinstance(error, AWAY):
            self._remote.lose(error)
        reason = str(error)[:MAX_REASON_CHARS]
        verdict = (abstained if isinstance(error, PromptTooLong) else failed)(reason, blame=blame)
        return [(index, verdict) for index in part]

    def _owed_to(self, error: EngineError) -> Blame:
        return Blame.OUTAGE if isinstance(error, (*AWAY, ModelChanged)) else Blame.UNKNOWN

    def _of(self, part: Part) -> list[Sample]:
        return [self._samples[index] for index in part]

    def _timeout_s(self) -> float:
        return min(self._longest_s, self._call.remaining_s() * BEFORE_DEADLINE)

    def _cut_short(self, error: EngineError) -> bool:
        """Tells whether an answer is missing because the call's own time was over."""
        return isinstance(error, AnswerTimedOut) and self._timeout_s() < self._longest_s


def _is_unscored(verdict: Verdict) -> bool:
    return verdict.status is Status.FAILED and verdict.blame is Blame.UNKNOWN


def _task(sample: Sample) -> tuple[Any, Any]:
    return sample.prompt, sample.columns
