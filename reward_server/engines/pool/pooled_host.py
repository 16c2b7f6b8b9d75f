"""One host of a pool through its life: looked at, proven by a generation, warm, ready; then lost, and back again."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, Protocol

import structlog

from reward_server.engines.base import ChatMessage
from reward_server.engines.model_host import ModelHost, Sight
from reward_server.engines.pool.looks import Looks
from reward_server.engines.pool.parallelism import Parallelism
from reward_server.engines.pool.warm_up import COLD_ANSWER_TIMEOUT_S, prove, warm
from reward_server.errors import (
    AnswerTimedOut,
    EngineError,
    HostBusy,
    HostFailed,
    HostRefused,
    HostUnreachable,
    ModelChanged,
    ModelMissing,
)
from reward_server.sharing.queue import Taker

LOOK_TIMEOUT_S: Final = 10.0
PROOF_TIMEOUT_S: Final = 30.0
"""A host that has answered before proves itself anew within this time."""
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 5.0
WAITED_FOR_PAUSE_S: Final = 1.0
"""While work waits a host that is out is looked at again at least this often."""
WATCH_S: Final = 30.0
"""A host that is ready is looked at this often, so that health and identity are true while nobody asks anything."""
FAILURES_TO_BREAK: Final = 3
"""So many failures in a row, without an answer between them, and the host has to prove itself again."""
SLOW_FACTOR: Final = 2.0
"""A question that its deadline cut short counts as a failure of the host's only if it was there so many times as long
as answers take."""
UNKNOWN_SLOTS: Final = 4
"""A host that does not say how many slots it has is warmed for so many."""
FIRST_BUSY_PAUSE_S: Final = 0.25
LONGEST_BUSY_PAUSE_S: Final = 4.0

log = structlog.get_logger(__name__)


class Warden(Protocol):
    """What a host asks of its pool, and tells it."""

    name: str

    def objection(self, host: PooledHost, digest: str | None) -> EngineError | None:
        """Returns why a host with this digest must not serve now; None if it may."""

    def work_waits(self) -> bool:
        """Tells whether any work waits for a place."""

    def changed(self) -> None:
        """Takes notice: a host is ready, or no more."""

    def answered(self) -> None:
        """Takes notice: a host has answered."""


class PooledHost:
    """A `ModelHost`, what is known of it, and how many questions it gets at a time."""

    def __init__(self, host: ModelHost, parallelism: Parallelism, warden: Warden, most: int) -> None:
        self.host = host
        self.parallelism = parallelism
        self.held: list[Taker] = []  # places that are given, the one held longest first
        self.free: list[Taker] = []  # places that were held before, the one freed last at the end
        self.trouble: EngineError | None = HostUnreachable(f"{host.label}: not checked yet")  # why it can't be asked
        self.digest: str | None = None
        self.caution = ""
        self.gives_logprobs: bool | None = None
        self.looked_s = -math.inf  # when the last look that succeeded began
        self.busy_until_s = -math.inf
        self.typical_s: float | None = None  # an answer takes
        self._warden = warden
        self._warm_count = host.slots or min(UNKNOWN_SLOTS, most)
        self._beginnings: Sequence[Sequence[ChatMessage]] = ()
        self._looks = Looks(self._look)
        self._opened = False
        self._getting_ready = False
        self._told = ""  # what the log says of its trouble
        self._told_limit = parallelism.limit if parallelism.settled else None  # a fixed one is no news
        self._answered_ever = False
        self._failures = 0
        self._busy_pause_s = FIRST_BUSY_PAUSE_S
        self._keeper: asyncio.Task[None] | None = None
        self._bringing: asyncio.Task[None] | None = None
        self._hurry = asyncio.Event()

    @property
    def label(self) -> str:
        """Returns how messages name it."""
        return self.host.label

    def askable(self, now_s: float) -> bool:
        """Tells whether it takes questions now."""
        return self.trouble is None and now_s >= self.busy_until_s

    def can_serve(self, digest: str | None) -> bool:
        """Tells whether it serves the model of a digest, or is about to."""
        return self.digest == digest and (self.trouble is None or self._getting_ready)

    # ------------------------------------------------------------------ life

    def keep(self, beginnings: Sequence[Sequence[ChatMessage]]) -> None:
        """Begins to bring the host up and to keep it so, in the background."""
        self._beginnings = beginnings
        self._keeper = asyncio.create_task(self._keep_up(), name=f"keeper of {self.label}")

    async def close(self) -> None:
        """Ends what `keep` began and closes the host."""
        for task in (self._keeper, self._bringing):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        await self._looks.close()
        if self._opened:
            self._opened = False
            await self.host.close()
        self.trouble = HostUnreachable(f"{self.label}: closed")

    async def bring_up(self) -> None:
        """Looks at the host, and gets it ready if it is not; shared by all who want it at the same time."""
        if self._bringing is None or self._bringing.done():
            self._bringing = asyncio.create_task(self._bring_up(), name=f"bringing up {self.label}")
        await asyncio.wait((self._bringing,))

    def hurry(self) -> None:
        """Has a host that is out looked at soon, as work waits for it."""
        self._hurry.set()

    async def _keep_up(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            self._hurry.clear()
            await self.bring_up()
            if self.trouble is None:
                pause_s, wait_s = FIRST_PAUSE_S, WATCH_S
            else:
                await asyncio.sleep(FIRST_PAUSE_S)  # however much work comes in
                longest_s = WAITED_FOR_PAUSE_S if self._warden.work_waits() else LONGEST_PAUSE_S
                wait_s = min(pause_s, longest_s) - FIRST_PAUSE_S
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._hurry.wait()

    async def _bring_up(self) -> None:
        try:
            if not self._opened:
                await self.host.open()
                self._opened = True
            seen = await self._looks.fresh()
            if isinstance(seen, Sight) and self.trouble is not None and self._objection_to(seen) is None:
                await self._prove_and_warm()
        except EngineError as error:
            self.lose(error)
        except Exception as error:  # a bug here must not end the watch over the host
            log.exception("check broke", engine=self._warden.name, host=self.label)
            self.lose(HostUnreachable(f"{self.label}: the check broke: {type(error).__name__}: {error}"))

    async def _prove_and_warm(self) -> None:
        """Has the host answer, and read all beginnings in every slot; then calls it ready. Raises `EngineError`."""
        digest = self.digest
        self.trouble = HostUnreachable(
            f"{self.label}: it is getting ready: its model loads, or its first answers take long"
        )
        self._getting_ready = True
        try:
            timeout_s = PROOF_TIMEOUT_S if self._answered_ever else COLD_ANSWER_TIMEOUT_S
            tells = await prove(self.host, timeout_s)
            self.gives_logprobs = self.gives_logprobs if tells is None else tells
            self._answered_ever = True
            await warm(self.host, self._beginnings, self._warm_count)
        finally:
            self._getting_ready = False
        if self.digest == digest:
            self._rise()

    # ------------------------------------------------------------------ looks

    async def look(self) -> Sight | EngineError:
        """Returns what a look that begins after now finds."""
        return await self._looks.fresh()

    async def _look(self) -> Sight | EngineError:
        """Looks once and remembers what was found."""
        began_s = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                seen = await self.host.look()
        except TimeoutError:
            return self.lose(HostUnreachable(f"{self.label}: no answer to a check within {LOOK_TIMEOUT_S:.3g} s"))
        except EngineError as error:
            return self.lose(error)
        except Exception as error:  # a bug in an adapter is one host's trouble
            log.exception("look broke", engine=self._warden.name, host=self.label)
            return self.lose(HostUnreachable(f"{self.label}: the check broke: {type(error).__name__}: {error}"))
        self.looked_s = began_s
        self.caution = seen.health.reason if seen.health.serving else ""
        before, self.digest = self.digest, seen.digest
        objection = self._objection_to(seen)
        if objection is None and self.trouble is None and before != seen.digest:
            objection = ModelChanged(f"{self.label}: its model is new ({seen.digest}) and has yet to prove itself")
        if objection is not None:
            self.lose(objection)
        return seen

    def _objection_to(self, seen: Sight) -> EngineError | None:
        if not seen.health.serving:
            return HostRefused(seen.health.reason)
        return self._warden.objection(self, seen.digest)

    # ------------------------------------------------------------------ what questions tell

    def answered(self, mark: int, took_s: float, now_s: float) -> None:
        """Notes that a question was answered."""
        self._failures = 0
        self._answered_ever = True
        self._busy_pause_s = FIRST_BUSY_PAUSE_S
        self.typical_s = took_s if self.typical_s is None else self.typical_s + 0.1 * (took_s - self.typical_s)
        self.parallelism.answered(mark, took_s, now_s)
        if self.parallelism.settled and self.parallelism.limit != self._told_limit:
            self._told_limit = self.parallelism.limit
            log.info(
                "parallelism settled",
                engine=self._warden.name,
                host=self.label,
                limit=self._told_limit,
                answers_per_s=round(self.parallelism.answers_per_s, 3),
            )

    def was_asked_in_vain(self, error: EngineError, now_s: float) -> None:
        """Notes that a question had no answer."""
        if isinstance(error, (HostUnreachable, ModelMissing, ModelChanged)):
            self.lose(error)
        elif isinstance(error, HostBusy):
            self._pause(error, now_s)
        elif isinstance(error, (HostFailed, AnswerTimedOut)):
            self._failures += 1
            if self._failures >= FAILURES_TO_BREAK and self.trouble is None:
                log.warning("breaker open", engine=self._warden.name, host=self.label, failures=self._failures)
                self.lose(
                    HostUnreachable(f"{self.label}: {self._failures} questions in a row failed, the last: {error}")
                )

    def was_cut_short(self, after_s: float, now_s: float) -> None:
        """Notes that the time for an answer was over: the host's failure only if it took unusually long."""
        unusual_s = PROOF_TIMEOUT_S if self.typical_s is None else SLOW_FACTOR * self.typical_s
        if after_s >= unusual_s:
            self.was_asked_in_vain(AnswerTimedOut(f"{self.label}: no answer within {after_s:.3g} s"), now_s)

    def lose(self, error: EngineError) -> EngineError:
        """Takes the host out of service until it has been looked at and has answered again; returns the error."""
        was_ready, self.trouble = self.trouble is None, error
        if str(error) != self._told:
            self._told = str(error)
            log.warning("host down", engine=self._warden.name, host=self.label, reason=str(error))
        if was_ready:
            self.hurry()
            self._warden.changed()
        return error

    def _rise(self) -> None:
        self.trouble, self._told = None, ""
        self._failures = 0
        self._warden.answered()
        if self.caution:
            log.warning("host up, with a caution", engine=self._warden.name, host=self.label, reason=self.caution)
        else:
            log.info("host up", engine=self._warden.name, host=self.label)
        self._warden.changed()

    def _pause(self, error: HostBusy, now_s: float) -> None:
        """Gives a busy host some rest; many refusals at once count as one."""
        if now_s < self.busy_until_s:
            return
        log.info("host busy", engine=self._warden.name, host=self.label, reason=str(error))
        self.busy_until_s = now_s + self._busy_pause_s
        self._busy_pause_s = min(2 * self._busy_pause_s, LONGEST_BUSY_PAUSE_S)
        self.parallelism.busy(now_s)
        self._warden.changed()
