"""A host of a judge's model in memory: slots with prefix caches of their own, stated service times, and faults."""

from __future__ import annotations

import asyncio
import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from reward_server.domain import HEALTHY, Health
from reward_server.engines.base import Answer, ChatMessage, Position, Question
from reward_server.engines.model_host import ModelHost, Sight
from reward_server.errors import AnswerTimedOut, EngineError, HostUnreachable

HANG = "hang"
"""A fault: no answer at all."""


@dataclass
class Slot:
    """One question at a time is worked on here."""

    read: str = ""  # the beginning that is in its prefix cache
    used: int = 0  # when it was used last, by count
    taken: bool = False


class MemoryHost(ModelHost):
    """Answers "yes" after its service time, `slot_count` questions at a time, the others in the order they came.

    The content of a question's first message is its beginning; a slot that has not read it last takes `fresh_s` longer.

    Args:
        label: its name.
        slot_count: questions that it works on at a time.
        seconds: over each, once a slot is free; may be changed at any time, for questions that begin later.
        noise: service times vary evenly by this share, up and down.
        fresh_s: what a beginning costs that the slot has not read.
        way_s: from the pool to the host, and as long back.
        way_noise: ways vary evenly by this share, up and down.
        slower: a question takes this share longer for each one beside it, as where all are batched together.
        told_slots: what the pool is told of the number of slots.
        digest: of its model; may be changed at any time.
        digest_may_change: whether the pool is told so.
    """

    def __init__(
        self,
        label: str = "host",
        slot_count: int = 1,
        seconds: float = 0.1,
        *,
        noise: float = 0.0,
        fresh_s: float = 0.0,
        way_s: float = 0.0,
        way_noise: float = 0.0,
        slower: float = 0.0,
        told_slots: int | None = None,
        digest: str | None = "d1",
        digest_may_change: bool = False,
    ) -> None:
        super().__init__(label, told_slots)
        self.digest_may_change = digest_may_change
        self.slot_count, self.seconds, self.noise = slot_count, seconds, noise
        self.fresh_s, self.way_s, self.slower, self.digest = fresh_s, way_s, slower, digest
        self.way_noise = way_noise
        self.health: Health = HEALTHY
        self.logprobs = True
        self.look_s = 0.0
        self.look_error: EngineError | None = None
        self.faults: deque[EngineError | str | None] = deque()  # of the next questions, None for a good answer
        self.always: EngineError | str | None = None  # of all after those
        self.fault_of: Callable[[Question], EngineError | str | None] = lambda _: None
        self.on_answer: Callable[[], None] = lambda: None  # called when a question has been answered
        self.opened = 0
        self.reset()
        self._slots = [Slot() for _ in range(slot_count)]
        self._waiting: deque[asyncio.Future[Slot]] = deque()
        self._down = False
        self._serving: set[asyncio.Task[Answer]] = set()
        self._chance = random.Random(label)

    def reset(self) -> None:
        """Forgets what was counted."""
        self.questions: list[Question] = []
        self.sent_s: list[float] = []  # when each was sent
        self.in_flight_at: list[int] = []  # and how many were here then, it included
        self.in_flight = 0
        self.here_at: list[tuple[float, int]] = []  # how many were at the host itself when one came, and when that was
        self.here = 0
        self.fresh = 0  # questions whose beginning had to be read
        self.looks: list[float] = []  # when each began
        self.cancelled = 0

    async def open(self) -> None:
        self.opened += 1

    async def close(self) -> None:
        self.opened -= 1

    async def look(self) -> Sight:
        self.looks.append(asyncio.get_running_loop().time())
        await asyncio.sleep(self.look_s)
        self._require_up()
        if self.look_error is not None:
            raise self.look_error
        return Sight(self.digest, self.health)

    async def send(self, question: Question, timeout_s: float) -> Answer:
        self._require_up()
        self.questions.append(question)
        self.in_flight += 1
        self.sent_s.append(asyncio.get_running_loop().time())
        self.in_flight_at.append(self.in_flight)
        task = asyncio.create_task(self._serve(question))
        self._serving.add(task)
        try:
            async with asyncio.timeout(timeout_s):
                return await task
        except TimeoutError:
            raise AnswerTimedOut(f"{self.label}: no answer within {timeout_s:.3g} s") from None
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if this is not None and not this.cancelling():
                raise HostUnreachable(f"{self.label}: the connection broke") from None
            self.cancelled += 1
            raise
        finally:
            self._serving.discard(task)
            self.in_flight -= 1

    async def count_tokens(self, messages: list[ChatMessage]) -> int | None:
        return sum(len(message.content.split()) for message in messages)

    def go_down(self) -> None:
        """Breaks all connections; nobody gets a new one."""
        self._down = True
        for task in list(self._serving):
            task.cancel()

    def come_back(self) -> None:
        self._down = False
        for slot in self._slots:
            slot.read = ""

    def _require_up(self) -> None:
        if self._down:
            raise HostUnreachable(f"{self.label}: no connection")

    async def _serve(self, question: Question) -> Answer:
        fault = self.fault_of(question) or (self.faults.popleft() if self.faults else self.always)
        if fault == HANG:
            await asyncio.sleep(math.inf)
        if isinstance(fault, EngineError):
            raise fault
        await asyncio.sleep(self._way_s())
        self.here += 1
        self.here_at.append((asyncio.get_running_loop().time(), self.here))
        try:
            slot = await self._slot(question.messages[0].content)
            try:
                await asyncio.sleep(self._service_s(slot, question))
            finally:
                self._free(slot)
        finally:
            self.here -= 1
        await asyncio.sleep(self._way_s())
        self.on_answer()
        positions = (Position("yes", {"yes": -0.1, "no": -2.3}),) if self.logprobs and question.alternatives else ()
        return Answer("yes", "stop", 10, 1, positions=positions)

    async def _slot(self, beginning: str) -> Slot:
        """Returns a slot as llama.cpp chooses it: that which has read the beginning, else the one longest unused."""
        free = [slot for slot in self._slots if not slot.taken]
        if free:
            slot = min(free, key=lambda slot: (slot.read != beginning, slot.used))
            slot.taken = True
            return slot
        turn: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._free(turn.result())
            raise

    def _free(self, slot: Slot) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(slot)
                return
        slot.taken = False

    def _way_s(self) -> float:
        return self.way_s * (1 + self._chance.uniform(-self.way_noise, self.way_noise))

    def _service_s(self, slot: Slot, question: Question) -> float:
        beginning, slot.used = question.messages[0].content, len(self.questions)
        fresh, slot.read = slot.read != beginning, beginning
        self.fresh += fresh
        busy = sum(other.taken for other in self._slots) - 1
        seconds = self.seconds * (1 + self._chance.uniform(-self.noise, self.noise)) * (1 + self.slower * busy)
        return seconds + self.fresh_s * fresh
