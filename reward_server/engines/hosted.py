"""What all built-in engines do alike: turns at the host, time limits, and what is known of the host's health."""

from __future__ import annotations

import abc
import asyncio
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import structlog

from reward_server.domain import Health
from reward_server.engines.base import Answer, Question
from reward_server.errors import AnswerTimedOut, EngineError, HostRefused, HostUnreachable, ModelMissing

CHECK_TIMEOUT_S: Final = 10.0
RECHECK_SICK_S: Final = 5.0
"""A host that could not serve is asked again this often."""
RECHECK_WELL_S: Final = 30.0
"""And one that could, so that health and identity are true while nobody asks anything."""

NOT_CHECKED: Final = Health(serving=False, reason="not checked yet")

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Said:
    """A whole answer as the host gave it."""

    text: str
    finish: str  # "stop" or "length"
    prompt_token_count: int
    decoded_token_count: int


class HostedEngine(abc.ABC):
    """An engine in front of one host. A kind of engine implements `_open`, `_close`, `_look` and `_send`.

    No question is sent before a look at the host has succeeded: an answer whose model nobody has identified would be a
    score under the wrong version. A host that was lost is looked at again first.
    """

    kind: ClassVar[str]
    context_tokens: int | None = None
    fresh_s: ClassVar[float] = math.inf
    """A look that is older is repeated before the next question; the watch repeats it in any case."""

    def __init__(self, name: str, label: str, in_flight: int, context_tokens: int | None = None) -> None:
        self.name = name
        self.label = label  # how messages name it
        self.context_tokens = context_tokens
        self._in_flight = in_flight
        self._turns = asyncio.Semaphore(in_flight)  # asyncio's own is first come, first served
        self._health = NOT_CHECKED
        self._unknown: EngineError | None = HostUnreachable(
            f"{label}: {NOT_CHECKED.reason}"
        )  # why, until a look succeeds
        self._looked = -math.inf  # when a look last succeeded
        self._looking: asyncio.Task[None] | None = None  # shared by all who need to know now
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Opens the way to the host, asks it a first time whether it can serve, and keeps an eye on it from then on."""
        await self._open()
        await self.check()
        self._watch = asyncio.create_task(self._keep_checking(), name=f"watch of engine {self.name}")

    async def close(self) -> None:
        """Ends what `start` began. Questions still open fail."""
        tasks = [task for task in (self._watch, self._looking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watch = self._looking = None
        await self._close()

    async def ask(self, question: Question, timeout_s: float) -> Answer:
        """Returns the answer or raises an `EngineError` within `timeout_s`; see `engines.base.Engine.ask`."""
        asked = time.monotonic()
        if self._unknown is not None or asked - self._looked > self.fresh_s:
            await self._look_first(timeout_s)
        async with self._turn(timeout_s - (time.monotonic() - asked)):
            self._require_known()  # it may have been lost while this waited
            sent = time.monotonic()
            try:
                said = await self._send(question, min(timeout_s - (sent - asked), question.answer_timeout_s))
            except (HostUnreachable, ModelMissing) as error:
                self._lose(error)
                raise
        return Answer(
            said.text,
            said.finish,
            said.prompt_token_count,
            said.decoded_token_count,
            queue_ms=(sent - asked) * 1000,
            host_ms=(time.monotonic() - sent) * 1000,
        )

    async def check(self) -> Health:
        """Asks the host whether it can serve the configured model at the configured context, and remembers it."""
        await asyncio.wait((self._shared_look(),))
        return self._health

    def health(self) -> Health:
        """Returns what is known now; asks nobody."""
        return self._health

    @abc.abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, what shapes an answer."""

    @abc.abstractmethod
    async def _open(self) -> None:
        """Opens connections or starts processes. An unreachable host is no error."""

    @abc.abstractmethod
    async def _close(self) -> None:
        """Closes them."""

    @abc.abstractmethod
    async def _look(self) -> Health:
        """Finds out whether the host can serve, and what `identity` tells of its model.

        May raise an `EngineError`: its message becomes the reason.
        """

    @abc.abstractmethod
    async def _send(self, question: Question, timeout_s: float) -> Said:
        """Gets one question answered now. Raises an `EngineError`, within `timeout_s`."""

    def _shared_look(self) -> asyncio.Task[None]:
        """Returns the look under way; starts one if there is none."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_now(), name=f"look at engine {self.name}")
        return self._looking

    async def _look_now(self) -> None:
        """Looks at the host and remembers what was found; never raises."""
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                health = await self._look()
        except TimeoutError:
            self._lose(HostUnreachable(f"{self.label}: no answer to a check within {CHECK_TIMEOUT_S:.3g} s"))
        except EngineError as error:
            self._lose(error)
        except Exception as error:  # a bug here must not end the watch over the host
            log.exception("check broke", engine=self.name)
            self._lose(HostUnreachable(f"{self.label}: the check broke: {type(error).__name__}: {error}"))
        else:
            self._unknown, self._looked = None, time.monotonic()
            self._found(health)

    async def _look_first(self, timeout_s: float) -> None:
        """Looks at the host before a question. Raises an `EngineError` where it cannot be asked."""
        looking = self._shared_look()
        await asyncio.wait((looking,), timeout=None if timeout_s == math.inf else max(0.0, timeout_s))
        if not looking.done():
            raise AnswerTimedOut(f"{self.label}: no answer to a check within {timeout_s:.3g} s")
        self._require_known()

    def _require_known(self) -> None:
        """Raises why the host cannot be asked: what the last look ran into, or found."""
        if self._unknown is not None:
            raise type(self._unknown)(str(self._unknown))
        if not self._health.serving:
            raise HostRefused(self._health.reason)

    def _lose(self, error: EngineError) -> None:
        """Remembers that nothing is known of the host until the next look."""
        self._unknown = error
        self._found(Health(serving=False, reason=str(error)))

    @asynccontextmanager
    async def _turn(self, timeout_s: float) -> AsyncIterator[None]:
        """Waits for a turn at the host and holds it. Raises `AnswerTimedOut` if none comes up in time."""
        try:
            async with asyncio.timeout(None if timeout_s == float("inf") else timeout_s):
                await self._turns.acquire()
        except TimeoutError as error:
            raise AnswerTimedOut(
                f"{self.label}: no turn within {timeout_s:.3g} s; all {self._in_flight} places at the host "
                "were taken by other questions"
            ) from error
        try:
            yield
        finally:
            self._turns.release()

    async def _keep_checking(self) -> None:
        """Checks the host again and again, more often while it cannot serve."""
        while True:
            await asyncio.sleep(RECHECK_WELL_S if self._health.serving else RECHECK_SICK_S)
            await self.check()

    def _found(self, health: Health) -> None:
        """Remembers the host's health, and logs where it changed."""
        if health != self._health:
            if not health.serving:
                log.warning("engine cannot serve", engine=self.name, reason=health.reason)
            elif health.reason:
                log.warning("engine serves with a caution", engine=self.name, reason=health.reason)
            else:
                log.info("engine ready", engine=self.name)
        self._health = health
