"""Has work done at a pool's hosts: waits for a place, asks, confirms, and tries again where that can help.

The ways of an error (see `reward_server.errors`):

    HostUnreachable, HostBusy, ModelMissing, ModelChanged   the host is out for now; the work re-enters the line, at no cost
    HostFailed, AnswerTimedOut, BadAnswer                   one attempt; hosts where it has not failed yet are preferred
    HostRefused                                             another host, once each, at no cost: it may be that one's fault
    PromptTooLong                                           raised at once: no other try can do better
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Final

from reward_server.engines.base import T, Work
from reward_server.engines.pool.dispatch import Dispatch, Errand, Grant
from reward_server.engines.pool.expiry import expiring
from reward_server.engines.pool.held_place import HeldPlace
from reward_server.engines.pool.pooled_host import PooledHost
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
)

FRESH_S: Final = 5.0
"""Where the model may change, a host that was looked at longer ago is looked at before it is asked."""
LOSSES: Final = 4
"""A work under which a host went away so many times, each time proven well before, may well be what ends it."""


class Errands:
    """All work of one pool.

    Args:
        name: the engine's name in the configuration.
        dispatch: where places come from.
        is_served: whether a digest is the one that the pool serves.
    """

    def __init__(self, name: str, dispatch: Dispatch, is_served: Callable[[str], bool]) -> None:
        self._name = name
        self._dispatch = dispatch
        self._is_served = is_served
        self._closed = False
        self._works: set[asyncio.Task[Any]] = set()

    def open(self) -> None:
        """Takes work from now on."""
        self._closed = False

    async def close(self) -> None:
        """Takes no more work, and ends what there is: it fails."""
        self._closed = True
        self._dispatch.fail_all(lambda _: self._closing())
        for work in self._works:
            work.cancel()
        await asyncio.gather(*self._works, return_exceptions=True)

    async def run(self, work: Work[T], errand: Errand, attempts: int) -> T:
        """Returns what the work returns; see `Engine.run`."""
        if self._closed:
            raise self._closing()
        try:
            async with expiring(errand.deadline):
                return await self._until_done(work, errand, attempts)
        except TimeoutError:
            late = AnswerTimedOut(f"engine `{self._name}`: {errand.stage} when the call's time was over")
            failure = self._dispatch.outage() or late
            failure.attempts = errand.attempt
            raise failure from None
        except EngineError as error:
            error.attempts = errand.attempt
            raise

    async def _until_done(self, work: Work[T], errand: Errand, attempts: int) -> T:
        """Has the work done, again and again where that can help."""
        while True:
            grant = await self._place_for(errand)
            try:
                return await self._unless_closed(self._at_place(work, grant, errand))
            except (HostUnreachable, HostBusy, ModelMissing, ModelChanged) as error:
                errand.lost_count += isinstance(error, HostUnreachable)
                if self._closed or self._is_outdated(errand):
                    raise
                if errand.lost_count >= LOSSES:  # no outage: to wait and ask again would only end more hosts
                    raise HostFailed(
                        f"{errand.lost_count} times a host went away under it, the last: {error}"
                    ) from error
            except (HostFailed, AnswerTimedOut, BadAnswer):
                errand.attempt += 1
                if errand.attempt >= attempts:
                    raise
                errand.avoid.add(grant.host)
            except HostRefused:
                if grant.host in errand.avoid or not self._dispatch.knows_other({*errand.avoid, grant.host}):
                    raise
                errand.avoid.add(grant.host)
            finally:
                self._dispatch.release(grant)

    async def _place_for(self, errand: Errand) -> Grant:
        """Waits for a place. Raises an `EngineError` where patience or the pool comes to its end first."""
        loop = asyncio.get_running_loop()
        entered_s, errand.stage = loop.time(), "it waited for a place at a host"
        ticket = self._dispatch.enter(errand)
        try:
            return await ticket.granted
        except asyncio.CancelledError:
            self._dispatch.withdraw(ticket)
            raise
        finally:
            errand.queue_s += loop.time() - entered_s

    async def _at_place(self, work: Work[T], grant: Grant, errand: Errand) -> T:
        """Does the work at its place, gives the place back, and returns what came of it once that is confirmed."""
        host, errand.stage = grant.host, f"{grant.host.label} was looked at"
        if host.host.digest_may_change and asyncio.get_running_loop().time() - host.looked_s > FRESH_S:
            await self._see_same(host, host.digest)
        if errand.digest is None:
            errand.digest = host.digest
        errand.stage = f"{host.label} was working on it"
        result = await work(HeldPlace(self._dispatch, grant, errand))
        if host.host.digest_may_change:
            self._dispatch.release(grant)
            errand.stage = f"{host.label} was looked at once more"
            await self._see_same(host, errand.digest)
        return result

    async def _see_same(self, host: PooledHost, digest: str | None) -> None:
        """Looks at a host, beginning after now. Raises an `EngineError` unless its model is the one expected."""
        seen = await host.look()
        if isinstance(seen, EngineError):
            raise type(seen)(*seen.args)
        if seen.digest != digest:
            raise ModelChanged(f"{host.label}: its model changed from {digest} to {seen.digest} while it was asked")

    async def _unless_closed(self, doing: Coroutine[Any, Any, T]) -> T:
        """Awaits as a task that `close` ends. Raises `HostUnreachable` when it does."""
        task = asyncio.create_task(doing)
        self._works.add(task)
        task.add_done_callback(self._works.discard)
        try:
            return await task
        except asyncio.CancelledError:
            this = asyncio.current_task()
            if self._closed and this is not None and not this.cancelling():
                raise self._closing() from None
            raise

    def _closing(self) -> HostUnreachable:
        return HostUnreachable(f"engine `{self._name}` is closed")

    def _is_outdated(self, errand: Errand) -> bool:
        return errand.digest is not None and not self._is_served(errand.digest)
