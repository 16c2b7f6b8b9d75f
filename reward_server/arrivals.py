"""The verdicts of one reward on one call's samples, as they come."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from dataclasses import replace
from itertools import repeat
from typing import TYPE_CHECKING, Any, Final

import structlog

from reward_server.domain import Blame, Call, Sample, Status, Verdict, failed, scored
from reward_server.floor import floored
from reward_server.scorers.base import MAX_REASON_CHARS
from reward_server.telemetry.logs import about

if TYPE_CHECKING:
    from reward_server.reward import Reward

LATE: Final = "not ready before the call's deadline"
CLOSED: Final = "its call was closed before this was ready"

ROUNDING: Final = 1e-9
"""A score may be outside its range by this share of the range's greater end: arithmetic rounds."""

Bounds = tuple[float, float]
ANY_SCORE: Final[Bounds] = (-sys.float_info.max, sys.float_info.max)
"""Between these is every finite number, and no other."""

_SCORED: Final = Status.SCORED  # an enum's members are slow to look up

log = structlog.get_logger(__name__)


class Arrivals:
    """The verdicts of one reward on a scoring's samples, as they come."""

    def __init__(self, reward: Reward, count: int, changed: asyncio.Event) -> None:
        self.reward = reward
        self.version = reward.version()
        self.order: list[int] = []  # indexes in the order of arrival
        self.done = asyncio.Event()
        self._bounds = _bounds(reward.scorer.score_range)
        self.task: asyncio.Task[None] | None = None
        self._began = time.perf_counter()
        self._total_ms: float | None = None
        self._slots: list[Verdict | None] = [None] * count
        self._changed = changed
        if count == 0:
            self.done.set()

    @property
    def total_ms(self) -> float:
        """Returns the time from the start to the last verdict, or to now where that has not come."""
        return (time.perf_counter() - self._began) * 1e3 if self._total_ms is None else self._total_ms

    def put(self, index: int, verdict: Verdict) -> None:
        """Takes a verdict. Raises `ValueError` for an index that is out of range or that came before.

        Of an index that comes twice nobody knows which verdict is right: it is failed, for all who have not read it.
        """
        if not 0 <= index < len(self._slots):
            raise ValueError(f"it yielded the index {index!r}, but the samples are 0 to {len(self._slots) - 1}")
        if self._slots[index] is not None:
            self._slots[index] = failed(self._blame(f"it yielded the index {index} twice"))
            raise ValueError(f"it yielded the index {index} twice")
        self._slots[index] = sound(verdict, self.reward.floor, self._bounds)
        self.order.append(index)
        _pulse(self._changed)

    def put_all(self, verdicts: Sequence[Verdict]) -> None:
        """Takes the verdicts on all samples at once, and ends."""
        self._slots[:] = map(sound, verdicts, repeat(self.reward.floor), repeat(self._bounds))
        self.order.extend(range(len(verdicts)))
        self._end()

    def fail_rest(self, reason: str) -> None:
        """Makes what has not come failed, ends, and stops the task that computes it."""
        for index, verdict in enumerate(self._slots):
            if verdict is None:
                self._slots[index] = failed(reason)
                self.order.append(index)
        if not self.done.is_set():
            self._end()
        if self.task is not None and self.task is not asyncio.current_task():
            self.task.cancel()

    def verdict(self, index: int) -> Verdict:
        """Returns the verdict on a sample, a failed one where none has come yet."""
        return self._slots[index] or failed(LATE)

    def verdicts(self) -> list[Verdict]:
        """Returns the verdicts on all samples as they are now."""
        return [verdict or failed(LATE) for verdict in self._slots]

    async def follow(self) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields indexes and verdicts: those that are there, then those that come."""
        position = 0
        while True:
            while position < len(self.order):
                index = self.order[position]
                position += 1
                yield index, self.verdict(index)
            if self.done.is_set():
                return
            await self._changed.wait()

    async def follow_some(self, indexes: Sequence[int]) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields the verdicts on these samples: those that are there, then those that come."""
        waiting = list(indexes)
        while waiting:
            ready = [index for index in waiting if self._slots[index] is not None]
            waiting = [index for index in waiting if self._slots[index] is None]
            for index in ready:
                yield index, self.verdict(index)
            if not ready:  # otherwise more may have come meanwhile
                await self._changed.wait()

    async def fill(self, samples: Sequence[Sample], call: Call) -> None:
        """Takes the verdicts from the scorer until it ends, in whatever way it ends. Never raises but to be cancelled."""
        try:
            await self._take(self.reward.scorer.score(samples, call))
            fault = "it yielded no verdict on this sample"
        except asyncio.CancelledError:
            self.fail_rest(CLOSED)
            raise
        except Exception as error:  # noqa: BLE001  # a scorer's bug is failed verdicts, never a dead call
            log.warning("scorer failed", reward=self.reward.name, kind=self.reward.kind, **about(error))
            fault = f"{type(error).__name__}: {error}"[:MAX_REASON_CHARS]
        self.fail_rest(self._blame(fault))

    async def _take(self, stream: AsyncIterator[tuple[int, Verdict]]) -> None:
        try:
            async for index, verdict in stream:
                if self.done.is_set():  # it was told to stop and did not listen
                    break
                if self.reward.version() != self.version:  # nothing that comes now is of any use
                    break
                self.put(index, verdict)
        finally:
            if isinstance(stream, AsyncGenerator):  # another iterator has nothing to close
                await stream.aclose()

    def _disown_if_changed(self) -> None:
        """Makes all verdicts failed if the reward is no longer what it was at the start of the call.

        Some were given by one judge's model and some by another, and the answer can name only one version.
        """
        now = self._version_now()
        if now == self.version:
            return
        log.warning("reward changed during a call", reward=self.reward.name, was=self.version, now=now)
        reason = f"the judge's model changed during this call: {self.reward.name!r} was at version {self.version}"
        self._slots = [failed(f"{reason} and is at {now}", blame=Blame.OUTAGE)] * len(self._slots)

    def _version_now(self) -> str:
        try:
            return self.reward.version()
        except Exception as error:  # noqa: BLE001  # a scorer's bug must not keep a call from its end
            return f"none ({type(error).__name__}: {error})"[:MAX_REASON_CHARS]

    def _blame(self, fault: str) -> str:
        return f"the scorer of {self.reward.name!r} (kind {self.reward.kind!r}) failed: {fault}"

    def _end(self) -> None:
        self._disown_if_changed()
        self._total_ms = self.total_ms
        self.done.set()
        _pulse(self._changed)


def sound(verdict: Any, floor: float | None, bounds: Bounds = ANY_SCORE) -> Verdict:
    """Returns the verdict as it counts.

    What is none (not a finite score, one out of the reward's range, not a verdict at all) has failed. Where the completion
    has broken its grader, it is scored at the floor, if there is one.
    """
    if not isinstance(verdict, Verdict):
        return failed(f"the scorer returned a {type(verdict).__name__}, not a verdict")
    score = verdict.score
    if verdict.status is _SCORED and type(score) is float and bounds[0] <= score <= bounds[1] and not verdict.flags:
        return verdict
    if wrong := _wrong(verdict):
        return failed(f"the scorer returned a verdict of {wrong}"[:MAX_REASON_CHARS])
    if verdict.status is not _SCORED:
        return floored(replace(verdict, score=None), floor)
    return _within(_sound_score(verdict), bounds)


def _wrong(verdict: Any) -> str:
    """Returns what of a verdict, its score apart, is not of its type: plug-ins need not keep to them."""
    if not isinstance(verdict.status, Status) or not isinstance(verdict.status_reason, str):
        return f"status {verdict.status!r} and reason {verdict.status_reason!r}"
    if not isinstance(verdict.blame, Blame):
        return f"blame {verdict.blame!r}"
    if not isinstance(verdict.flags, tuple) or not all(isinstance(flag, str) for flag in verdict.flags):
        return f"flags {verdict.flags!r}"
    return ""


def _sound_score(verdict: Verdict) -> Verdict:
    score: Any = verdict.score
    try:
        whole = scored(score, verdict.explanation, parts=verdict.parts, cost=verdict.cost, flags=verdict.flags)
    except (TypeError, ValueError):
        return failed(f"the scorer said that there is a score, but gave a {type(score).__name__}")
    return whole if verdict.ceiling is None else replace(whole, ceiling=verdict.ceiling)


def _bounds(score_range: Bounds | None) -> Bounds:
    """Returns between what a score must lie: in the range, and finite whatever that is."""
    low, high = score_range or ANY_SCORE
    return max(low, ANY_SCORE[0]), min(high, ANY_SCORE[1])


def _within(verdict: Verdict, bounds: Bounds) -> Verdict:
    """Returns the verdict; a score out of its range is its scorer's bug, and never taken for a score."""
    score, (low, high) = verdict.score, bounds
    if score is None or low <= score <= high:
        return verdict
    nearest = low if score < low else high
    if math.isclose(score, nearest, rel_tol=ROUNDING, abs_tol=ROUNDING * max(abs(low), abs(high))):
        return replace(verdict, score=nearest)
    return failed(
        f"the scorer gave {score!r}, outside its range {low:g} to {high:g}",
        verdict.explanation,
        parts=verdict.parts,
        cost=verdict.cost,
        flags=verdict.flags,
    )


def _pulse(event: asyncio.Event) -> None:
    """Wakes all who wait now."""
    event.set()
    event.clear()
