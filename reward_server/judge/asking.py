"""Gets units read: out of the memory, or by asking the engine; and keeps the account of what was asked."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, field

from reward_server.domain import Cost
from reward_server.engines.base import Answer, Engine, Place, Question
from reward_server.errors import (
    AnswerTimedOut,
    BadAnswer,
    EngineError,
    HostFailed,
    HostRefused,
    HostUnreachable,
    ModelChanged,
    PromptTooLong,
)
from reward_server.judge.fit import Fit
from reward_server.judge.methods.base import Miss, Reading, Unit
from reward_server.sharing.memory import VerdictMemory


@dataclass(slots=True)
class Meter:
    """What it took to get a unit read. It stays at nothing where the memory knew, or somebody else was asking."""

    cost: Cost = field(default_factory=Cost)
    queue_ms: float = 0.0
    last_asked: float | None = None  # on time.monotonic()'s clock
    last_answered: float | None = None
    failed_at: set[str] = field(default_factory=set)  # hosts that gave no grade, or broke
    read_at: str | None = None  # the host that did

    @property
    def total(self) -> Cost:
        """Returns the cost, waiting included."""
        return self.cost + Cost(queue_ms=self.queue_ms)


@dataclass(frozen=True, slots=True)
class Read:
    """A unit and what it was read as."""

    unit: Unit
    reading: Reading | Miss
    meter: Meter


class MeteredPlace:
    """A place whose questions are counted, and whose answers had room to be given."""

    def __init__(self, place: Place, meter: Meter) -> None:
        self.host = place.host
        self.attempt = place.attempt
        self.queue_ms = place.queue_ms
        self._place = place
        self._meter = meter
        meter.queue_ms = place.queue_ms  # it counts all of the work's places

    async def ask(self, question: Question) -> Answer:
        """Returns the answer; see `Place.ask`. Raises `PromptTooLong` for one that the context's end cut off."""
        self._meter.last_asked = time.monotonic()
        try:
            answer = await self._place.ask(question)
        except EngineError:
            self._meter.cost += Cost(judge_call_count=1)
            raise
        self._meter.last_answered = time.monotonic()
        self._meter.cost += Cost(0.0, 1, answer.host_ms, answer.prompt_token_count, answer.decoded_token_count)
        if answer.finish == "length" and 0 < answer.decoded_token_count < question.max_tokens:
            read = answer.prompt_token_count
            raise PromptTooLong(
                f"the context ended after {answer.decoded_token_count} tokens of an answer to a prompt of {read}",
                read or None,
                read + answer.decoded_token_count if read else None,
            )
        return answer


class Asking:
    """The questions of one call to one judge.

    Args:
        engine: whom to ask.
        memory: what was read before, and what is being asked now.
        fit: checks prompts before they are sent.
        shape: a hash of what shapes a reading besides the unit and the engine: part of the memory's keys.
        deadline: when to give up, on `time.monotonic()`'s clock.
        patience_s: how long to wait while no host can be asked.
        attempts: see `Engine.run`.
        max_open: units that are asked at a time, so that other calls take turns.
    """

    def __init__(
        self,
        engine: Engine,
        memory: VerdictMemory,
        fit: Fit,
        shape: bytes,
        *,
        deadline: float,
        patience_s: float,
        attempts: int,
        max_open: int,
    ) -> None:
        self._engine = engine
        self._memory = memory
        self._fit = fit
        self._identity = dict(engine.identity())  # of the model that this call is about
        self._key = hashlib.sha256(shape + json.dumps(self._identity, sort_keys=True).encode()).digest()
        self._deadline = deadline
        self._patience_s = patience_s
        self._attempts = attempts
        self._max_open = max_open
        self._turns = asyncio.Semaphore(max_open)
        self._alone = asyncio.Lock()

    async def read(self, unit: Unit) -> Read:
        """Returns what a unit is read as, or why it is not."""
        meter = Meter()
        async with self._turns:
            return await self._read(unit, meter, self._kept(unit, meter))

    async def read_now(self, unit: Unit, at: Collection[str] | None = None, *, alone: bool = False) -> Read:
        """Returns what a unit is read as now, whatever the memory knows of better days.

        Args:
            unit: what to ask.
            at: hosts of which one is to answer it; None = any.
            alone: whoever asks has all turns: see `alone`.
        """
        meter = Meter()
        async with nullcontext() if alone else self._turns:
            return await self._read(unit, meter, self._asked(unit, meter, lambda: self._deadline, at))

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Waits until nothing of the call is being asked, and keeps it so, but for what is asked inside."""
        async with self._alone:
            taken = 0
            try:
                while taken < self._max_open:
                    await self._turns.acquire()
                    taken += 1
                yield
            finally:
                for _ in range(taken):
                    self._turns.release()

    async def _read(self, unit: Unit, meter: Meter, asked: Awaitable[Reading]) -> Read:
        try:
            reading = await asked
        except Exception as error:  # noqa: BLE001  # whatever it is, it is this unit's miss, never a dead call
            reading = Miss(error)
        return Read(unit, reading, meter)

    async def _kept(self, unit: Unit, meter: Meter) -> Reading:
        key = hashlib.sha256(self._key + unit.key).digest()
        try:
            return await self._memory.get(
                key, self._size_of, lambda deadline: self._asked(unit, meter, deadline), self._deadline
            )
        except AnswerTimedOut as error:  # of a question that others still wait for, the engine has not told why
            if (health := self._engine.health()).serving:
                raise
            raise HostUnreachable(health.reason) from error

    async def _asked(
        self, unit: Unit, meter: Meter, deadline: Callable[[], float], at: Collection[str] | None = None
    ) -> Reading:
        async def work(place: Place) -> Reading:
            if at is not None and place.host not in at:
                raise HostRefused(f"{place.host}: this is to be asked elsewhere")  # then it gets another, once each
            try:
                reading = await unit.read(MeteredPlace(place, meter))
            except (BadAnswer, HostFailed):
                meter.failed_at.add(place.host)
                raise
            meter.read_at = place.host
            return reading

        await self._checked(unit, deadline)
        reading = await self._engine.run(
            work,
            affinity=unit.affinity,
            deadline=deadline,
            patience_s=self._patience_s,
            attempts=self._attempts,
        )
        now = self._engine.identity()
        if any(was is not None and now.get(key) != was for key, was in self._identity.items()):
            raise ModelChanged("the judge's model changed while this was asked")
        return reading

    async def _checked(self, unit: Unit, deadline: Callable[[], float]) -> None:
        """Raises `PromptTooLong` where the unit surely does not fit; that may take a count at the host."""
        try:
            async with asyncio.timeout_at(deadline() if deadline() < math.inf else None):
                await self._fit.check(unit)
        except TimeoutError as error:
            raise AnswerTimedOut("its tokens were being counted when the call's time was over") from error

    def _size_of(self, reading: Reading) -> int:
        """Returns about how many bytes a reading takes: too many to be kept if its model was not known at first."""
        return 2 * len(repr(reading)) if self._engine.identity() == self._identity else sys.maxsize
