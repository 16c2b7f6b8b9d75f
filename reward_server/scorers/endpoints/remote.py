"""A server that is asked over HTTP: tried again where that can help, and watched so that its health is known."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, ClassVar, Final

import structlog

from reward_server.domain import HEALTHY, CostClass, Health, Sample
from reward_server.errors import EngineError, HostBusy, HostFailed, HostUnreachable, ModelMissing
from reward_server.http.complaints import Addressee, Complaint, complaint_of, error_for
from reward_server.http.host import LOOK_TIMEOUT_S, Host, Reply
from reward_server.scorers.base import ScorerContext

TRIES: Final = 3
FIRST_PAUSE_S: Final = 0.2
JITTER: Final = 0.5
"""A pause is longer or shorter by up to this share, so that many do not come back at once."""
AGAIN: Final = (HostUnreachable, HostBusy, HostFailed)
"""What another try may mend."""
SEEN_BY_LOOKING: Final = (HostUnreachable, HostBusy, ModelMissing)
"""Troubles that a look at the server tells too. The others end when a question is answered."""

WATCH_S: Final = 10.0
"""A server that is there is looked at this often, so that health and identity are true while nobody asks anything."""
SOONEST_LOOK_S: Final = 0.5
LATEST_LOOK_S: Final = 5.0
"""One that is away is looked at between so soon and so late."""

Refusal = Callable[[Addressee, int, Complaint], EngineError]
"""Makes the error that an answer means whose status is none of success."""

_log = structlog.get_logger(__name__)


class Remote:
    """One server, for one reward. Everything happens on one event loop.

    Args:
        host: how it is reached.
        to: how messages name it.
        in_flight: so many requests are there at a time; others wait in the order that they came.
        look: asks it, at no cost, whether it serves. Raises `EngineError`.
        refusal: reads its errors.
    """

    def __init__(
        self,
        host: Host,
        to: Addressee,
        in_flight: int,
        look: Callable[[], Awaitable[None]],
        refusal: Refusal = error_for,
    ) -> None:
        self.trouble: EngineError | None = None  # why it does not serve, as far as is known
        self.witness: Sample | None = None  # one that it has scored
        self._host, self._to, self._look, self._refusal = host, to, look, refusal
        self.in_flight = in_flight
        self._places = asyncio.Semaphore(in_flight)
        self._hurry = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None

    async def open(self, *, asks: bool = True) -> None:
        """Makes the client, looks once, and watches from then on. A server that is away is no error.

        Args:
            asks: False where nobody is to be asked: then nothing is known against the server.
        """
        self._host.open()
        if not asks:
            return
        await self.look_now()
        self._watch = asyncio.create_task(self._keep_watch(), name=f"watch over {self._to.label}")

    async def close(self) -> None:
        """Closes all connections."""
        watch, self._watch = self._watch, None
        if watch is not None:
            watch.cancel()
            await asyncio.wait((watch,))
        await self._host.close()

    def health(self) -> Health:
        """Returns whether it served when it was asked last."""
        if self.trouble is None:
            return HEALTHY
        return Health(serving=False, reason=str(self.trouble).encode(errors="replace").decode())

    async def get(self, path: str) -> Reply:
        """Returns the reply to a request that costs the server nothing, whatever its status. Raises `EngineError`."""
        return await self._host.request("GET", path, LOOK_TIMEOUT_S)

    async def post(self, path: str, body: Any, timeout_s: Callable[[], float], tries: int = TRIES) -> Reply:
        """Returns the reply to a request, of status 200.

        Cancelling it closes the connection.

        Args:
            path: behind the server's URL.
            body: becomes JSON.
            timeout_s: how long one try that begins now may take.
            tries: how often it is tried where that may help.

        Raises:
            EngineError: the last try's.
        """
        pause_s = FIRST_PAUSE_S
        for left in range(tries - 1, -1, -1):
            try:
                async with self._places:
                    reply = await self._once(path, body, timeout_s())
            except AGAIN:
                if left == 0 or timeout_s() <= 2 * pause_s:
                    raise
                await asyncio.sleep(pause_s * random.uniform(1 - JITTER, 1 + JITTER))  # noqa: S311  # no secret
                pause_s *= 2
            else:
                return reply
        raise AssertionError("a loop that returns or raises")

    async def _once(self, path: str, body: Any, timeout_s: float) -> Reply:
        reply = await self._host.request("POST", path, timeout_s, body)
        if reply.status != HTTPStatus.OK:
            raise self._refusal(self._to, reply.status, complaint_of(reply))
        return reply

    def answered(self) -> None:
        """Notes that a question was answered."""
        if self.trouble is not None:
            _log.info("reward's server up", server=self._to.label)
        self.trouble = None

    def lose(self, error: EngineError) -> None:
        """Notes that it does not serve."""
        if str(error) != str(self.trouble):
            _log.warning("reward's server down", server=self._to.label, reason=str(error))
        self.trouble = error
        self._hurry.set()

    async def look_now(self) -> None:
        """Looks at the server and remembers what was found."""
        try:
            await self._look()
        except EngineError as error:
            self.lose(error)
        except Exception as error:  # noqa: BLE001  # a bug here must not end the watch
            _log.exception("look broke", server=self._to.label)
            self.lose(HostUnreachable(f"{self._to.label}: the check broke: {type(error).__name__}: {error}"))
        else:
            if isinstance(self.trouble, SEEN_BY_LOOKING):
                self.answered()

    async def _keep_watch(self) -> None:
        pause_s = SOONEST_LOOK_S
        while True:
            self._hurry.clear()
            if isinstance(self.trouble, SEEN_BY_LOOKING):
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, LATEST_LOOK_S)
            else:
                pause_s = SOONEST_LOOK_S
                with suppress(TimeoutError):
                    async with asyncio.timeout(WATCH_S):
                        await self._hurry.wait()
                        continue  # it was lost meanwhile: look soon, not now
            await self.look_now()


class RemoteScorer:
    """What scorers that ask a server share: it is opened once, and closed, and its health is theirs."""

    cost_class = CostClass.JUDGE
    compares: ClassVar[bool] = False

    def __init__(self, to: Addressee, context: ScorerContext) -> None:
        self._to = to
        self._asks_hosts = context.asks_hosts
        self._started: Remote | None = None

    async def _open(self, remote: Remote) -> None:
        self._started = remote
        await remote.open(asks=self._asks_hosts)

    async def close(self) -> None:
        """Closes the connections."""
        if self._started is not None:
            await self._started.close()

    @property
    def _remote(self) -> Remote:
        if self._started is None:
            raise HostUnreachable(f"{self._to.label}: not started")
        return self._started

    def health(self) -> Health:
        """Returns whether the server answered when it was asked last."""
        return self._remote.health()
