"""A place at a host while a piece of work holds it."""

from __future__ import annotations

import asyncio
import math
from dataclasses import replace

from reward_server.engines.base import Answer, Question
from reward_server.engines.pool.dispatch import Dispatch, Errand, Grant
from reward_server.errors import EngineError


class HeldPlace:
    """The `Place` of a pool: asks its host, and tells the pool how that went."""

    def __init__(self, dispatch: Dispatch, grant: Grant, errand: Errand) -> None:
        self.host = grant.host.label
        self.attempt = errand.attempt
        self.queue_ms = errand.queue_s * 1000
        self._dispatch = dispatch
        self._at = grant.host
        self._deadline = errand.deadline
        self._first_mark: int | None = grant.mark

    async def ask(self, question: Question) -> Answer:
        """Returns the answer, or raises an `EngineError`. Cancelling it cancels the generation at the host."""
        loop, parallelism = asyncio.get_running_loop(), self._at.parallelism
        mark = parallelism.mark() if self._first_mark is None else self._first_mark
        self._first_mark = None
        sent_s = loop.time()
        try:
            answer = await self._at.host.send(question, question.answer_timeout_s)
        except asyncio.CancelledError:
            if -math.inf < self._deadline() <= loop.time():  # it is that when nobody waits: then it was called off
                self._at.was_cut_short(loop.time() - sent_s, loop.time())
            raise
        except EngineError as error:
            self._at.was_asked_in_vain(error, loop.time())
            raise
        took_s, limit = loop.time() - sent_s, parallelism.limit
        self._at.answered(mark, took_s, loop.time())
        self._dispatch.out_since_s = None
        if parallelism.limit != limit:
            self._dispatch.serve()
        return answer if answer.host_ms else replace(answer, host_ms=took_s * 1000)
