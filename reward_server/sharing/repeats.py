"""Repeats of a call: one that comes while the first is still computed joins it, a later one gets its answer.

A trainer whose connection broke sends the same request again, by gRPC's retry or by its own. The work it has asked for
must not be done twice, nor thrown away because the connection is gone: so work under a request id goes on for a while
when nobody waits for it any more.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from reward_server.domain import Status
from reward_server.errors import MalformedRequest
from reward_server.scoring import RewardResult, Scoring, Selector

MAX_BYTES: Final = 64 << 20
MAX_COUNT: Final = 4096
KEEP_S: Final = 900.0
"""An answer is kept this long: longer than a client tries again."""

GRACE_S: Final = 30.0
"""Work goes on this long without anybody waiting: a client that lost its connection is back by then."""

VERDICT_BYTES: Final = 320
"""About what a verdict without words takes in memory."""


class CallKey(NamedTuple):
    """What makes two calls the same."""

    experiment: str
    request_id: str
    chunk_index: int
    rewards: tuple[Selector, ...]


@dataclass(slots=True, eq=False)
class _Shared:
    """One piece of work and its answer."""

    fingerprint: int
    work: Scoring | None  # None: only the answer is kept
    deadline: float  # of the work
    answer: Sequence[RewardResult] = ()
    answer_bytes: int = 0
    kept_until: float = 0.0
    waiting_count: int = 0
    abandoning: asyncio.TimerHandle | None = field(default=None)


class Repeats:
    """Lets calls with the same key share one piece of work.

    Args:
        max_bytes: answers are kept up to this much memory; the least recently used go first.
        max_count: and up to this many.
        keep_s: an answer is kept this long.
        grace_s: work that nobody waits for goes on this long.
    """

    def __init__(
        self,
        *,
        max_bytes: int = MAX_BYTES,
        max_count: int = MAX_COUNT,
        keep_s: float = KEEP_S,
        grace_s: float = GRACE_S,
    ) -> None:
        self._max_bytes = max_bytes
        self._max_count = max_count
        self._keep_s = keep_s
        self._grace_s = grace_s
        self._running: dict[CallKey, _Shared] = {}
        self._answered: OrderedDict[CallKey, _Shared] = OrderedDict()  # least recently used first
        self._answered_bytes = 0

    async def answer(
        self, key: CallKey, fingerprint: int, deadline: float, begin: Callable[[], Scoring], joined: Callable[[], None]
    ) -> Sequence[RewardResult]:
        """Returns the verdicts, by `deadline` at the latest (time.monotonic()'s clock).

        Args:
            key: calls with the same key share one piece of work.
            fingerprint: of the whole request.
            deadline: of this call, which may be another than that of the work it joins.
            begin: starts the work, where this call is the first.
            joined: is told where it is not.

        Raises:
            MalformedRequest: the key was used for another request.
        """
        while True:
            shared, is_first = self._find(key, fingerprint), False
            if shared is None:
                shared, is_first = self._begin(key, fingerprint, deadline, begin), True
            else:
                joined()
            if shared.work is None:
                return shared.answer
            results = await self._wait(key, shared, shared.work, deadline)
            # Work that its own, earlier deadline has cut short is no answer for a call that still has time.
            if is_first or deadline <= shared.deadline or _is_whole(results):
                return results

    def close(self) -> None:
        """Stops all work."""
        for key, shared in list(self._running.items()):
            self._stop(key, shared)

    def _find(self, key: CallKey, fingerprint: int) -> _Shared | None:
        self._drop_old()
        shared = self._running.get(key) or self._answered.get(key)
        if shared is not None and shared.fingerprint != fingerprint:
            raise MalformedRequest(
                f"the request id {key.request_id!r} was used before, for another batch (chunk {key.chunk_index} of "
                f"experiment {key.experiment!r}): every batch needs an id of its own, and only a repeat has the same"
            )
        if key in self._answered:
            self._keep(key, self._answered[key])
        return shared

    def _begin(self, key: CallKey, fingerprint: int, deadline: float, begin: Callable[[], Scoring]) -> _Shared:
        work = begin()
        shared = self._running[key] = _Shared(fingerprint, work, deadline)
        return shared

    async def _wait(self, key: CallKey, shared: _Shared, work: Scoring, deadline: float) -> Sequence[RewardResult]:
        shared.waiting_count += 1
        if shared.abandoning is not None:
            shared.abandoning.cancel()
            shared.abandoning = None
        try:
            return await work.results(deadline)
        finally:
            shared.waiting_count -= 1
            if self._running.get(key) is shared:
                self._leave(key, shared, work)

    def _leave(self, key: CallKey, shared: _Shared, work: Scoring) -> None:
        """Keeps the answer if there is one; otherwise gives the work some time when nobody waits any more."""
        if work.done:
            self._settle(key, shared, work)
        elif shared.waiting_count == 0:
            loop = asyncio.get_running_loop()
            shared.abandoning = loop.call_later(self._grace_s, self._abandon, key, shared, work)

    def _abandon(self, key: CallKey, shared: _Shared, work: Scoring) -> None:
        if work.done:
            self._settle(key, shared, work)
        else:
            self._stop(key, shared)

    def _settle(self, key: CallKey, shared: _Shared, work: Scoring) -> None:
        """Ends finished work and keeps its answer, unless something in it failed: a repeat gets another chance."""
        answer = work.results_now()
        self._stop(key, shared)
        if not _is_whole(answer):
            return
        shared.work, shared.answer, shared.answer_bytes = None, answer, _size_of(answer)
        self._answered_bytes += shared.answer_bytes
        self._keep(key, shared)
        self._drop_old()

    def _keep(self, key: CallKey, shared: _Shared) -> None:
        """Makes an answer the one to be dropped last."""
        shared.kept_until = time.monotonic() + self._keep_s
        self._answered[key] = shared
        self._answered.move_to_end(key)

    def _stop(self, key: CallKey, shared: _Shared) -> None:
        del self._running[key]
        if shared.abandoning is not None:
            shared.abandoning.cancel()
        if shared.work is not None:
            shared.work.close()

    def _drop_old(self) -> None:
        now = time.monotonic()
        while self._answered:
            key, oldest = next(iter(self._answered.items()))
            too_much = self._answered_bytes > self._max_bytes or len(self._answered) > self._max_count
            if not too_much and oldest.kept_until > now:
                return
            del self._answered[key]
            self._answered_bytes -= oldest.answer_bytes


def _is_whole(results: Sequence[RewardResult]) -> bool:
    return not any(verdict.status is Status.FAILED for result in results for verdict in result.verdicts)


def _size_of(results: Sequence[RewardResult]) -> int:
    """Returns about how much memory an answer takes, bytes."""
    return sum(
        VERDICT_BYTES + len(verdict.explanation) + len(verdict.status_reason) + 100 * len(verdict.parts)
        for result in results
        for verdict in result.verdicts
    )
