"""Gives waiting work the places that come free at a pool's hosts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from reward_server.engines.pool.pooled_host import PooledHost
from reward_server.errors import EngineError, HostBusy, HostRefused, HostUnreachable, ModelChanged, ModelMissing
from reward_server.sharing.queue import Line, Taker, Ticket

AWAY: Final = (HostBusy, HostRefused, ModelChanged, ModelMissing)
"""What a host that can't be asked is told by; anything else means that it is not to be reached."""


ENDED_AT_ONCE: Final = 128
"""So many works are told in one turn of the event loop that there is no host for them."""


@dataclass(eq=False)
class Grant:
    """A place at a host, given to one piece of work."""

    host: PooledHost
    taker: Taker
    mark: int  # what its first answer will tell: see `Parallelism.mark`
    returned: bool = False


@dataclass
class Errand:
    """One piece of work on its way through the pool."""

    affinity: str
    deadline: Callable[[], float]
    patience_s: float
    entered_s: float
    digest: str | None  # the model that it was meant for; None = the first that it meets
    attempt: int = 0
    lost_count: int = 0  # how often the host went away under it
    avoid: set[PooledHost] = field(default_factory=set)  # where it failed: other hosts first
    queue_s: float = 0.0
    stage: str = ""  # for a message: what was being done


class Waiting(Ticket):
    """An errand in the line. `granted` becomes its place, or raises why there is none."""

    def __init__(self, errand: Errand, granted: asyncio.Future[Grant]) -> None:
        super().__init__(errand.affinity)
        self.errand = errand
        self.granted = granted


@dataclass
class Dispatch:
    """The line and who serves it. All its methods return at once."""

    hosts: Sequence[PooledHost]
    line: Line[Waiting] = field(default_factory=Line)
    out_since_s: float | None = None  # since when no host can be asked; an answer ends it
    _patience_ends_s: float = math.inf  # that of none in the line ends before this
    _soon: asyncio.Handle | None = None
    _later: asyncio.TimerHandle | None = None

    def enter(self, errand: Errand) -> Waiting:
        """Puts an errand into the line."""
        loop = asyncio.get_running_loop()
        ticket = Waiting(errand, loop.create_future())
        self.line.add(ticket, first=errand.attempt > 0 or errand.lost_count > 0)
        self._patience_ends_s = min(self._patience_ends_s, self._ends_s(ticket))
        for host in self.hosts:
            if host.trouble is not None:
                host.hurry()
        if self._soon is None:  # soon: works that come together are seen together
            self._soon = loop.call_soon(self.serve)
        return ticket

    def withdraw(self, ticket: Waiting) -> None:
        """Takes an errand out of the line, and back the place that it may just have been given."""
        self.line.discard(ticket)
        if ticket.granted.done() and not ticket.granted.cancelled() and ticket.granted.exception() is None:
            self.release(ticket.granted.result())

    def release(self, grant: Grant) -> None:
        """Takes a place back, unless that was done before, and gives it to the next."""
        if grant.returned:
            return
        grant.returned = True
        grant.host.held.remove(grant.taker)
        grant.host.free.append(grant.taker)
        self.serve()

    def serve(self) -> None:
        """Gives out all places that can be given. To be called whenever something has changed."""
        self._soon = None
        now_s = asyncio.get_running_loop().time()
        askable = [host for host in self.hosts if host.askable(now_s)]
        for host in self.hosts:
            self._drop_surplus(host, keep_any=host in askable)
        self._serve_where_read(askable)
        while self.line and (spare := [host for host in askable if len(host.held) < host.parallelism.limit]):
            spare.sort(key=lambda host: (len(host.held) / host.parallelism.limit, host.typical_s or 0.0))
            if not any(self._give(host, host.free[0] if host.free else None, askable) for host in spare):
                break
        for host in askable:
            host.parallelism.hold(len(host.held))
        self._mind_time(now_s, out=not askable)

    def outage(self) -> EngineError | None:
        """Returns why no host can be asked now; None if one can."""
        now_s = asyncio.get_running_loop().time()
        return None if any(host.askable(now_s) for host in self.hosts) else self._last_trouble()

    def knows_other(self, avoid: Collection[PooledHost]) -> bool:
        """Tells whether a host is in service that is none of these."""
        return any(host.trouble is None and host not in avoid for host in self.hosts)

    def fail_all(self, error: Callable[[Waiting], EngineError | None]) -> None:
        """Ends the waiting of each ticket that the function returns an error for."""
        for ticket in list(self.line):
            if (ended := error(ticket)) is not None:
                self._end(ticket, ended)

    def _end(self, ticket: Waiting, error: EngineError) -> None:
        self.line.discard(ticket)
        if not ticket.granted.done():
            ticket.granted.set_exception(error)

    def close(self) -> None:
        """Stops all timers."""
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()

    def _serve_where_read(self, askable: Sequence[PooledHost]) -> None:
        """Gives places to works whose beginning was read there last."""
        for host in askable:
            for taker in reversed(host.free):
                if len(host.held) < host.parallelism.limit and self.line.waits(taker.affinity):
                    self._give(host, taker, askable)

    def _give(self, host: PooledHost, taker: Taker | None, askable: Sequence[PooledHost]) -> bool:
        """Gives a place at a host to the ticket that suits it best; returns False if there is none."""

        def suits(ticket: Waiting) -> bool:
            avoid = ticket.errand.avoid
            return host not in avoid or avoid.issuperset(askable)

        place = taker or Taker()
        self._follow_oldest(host, place)
        ticket = self.line.take(place, suits)
        if ticket is None:
            if taker is None:
                self.line.forget(place)  # it was never one
            return False
        if taker is not None:
            host.free.remove(taker)
        host.held.append(place)
        ticket.granted.set_result(Grant(host, place, host.parallelism.mark()))
        return True

    def _follow_oldest(self, host: PooledHost, place: Taker) -> None:
        """Has a place that comes on top of a busy host's slots serve what the slot has read that should be free next.

        Its question will wait at the host until a slot is free: most likely that of the place held longest, and not the
        one that its own last question had.
        """
        slots = host.parallelism.slot_count
        if slots is not None and len(host.held) >= slots:
            self.line.follow(place, host.held[0])

    def _drop_surplus(self, host: PooledHost, *, keep_any: bool) -> None:
        """Forgets places that the host has no more: its limit fell, or it is out."""
        while host.free and (not keep_any or len(host.held) + len(host.free) > host.parallelism.limit):
            self.line.forget(host.free.pop(0))

    def _mind_time(self, now_s: float, *, out: bool) -> None:
        """Serves again when a busy host has had its rest; while no host can be asked, ends waiting without patience."""
        if self._later is not None:
            self._later.cancel()
            self._later = None
        ends = [host.busy_until_s for host in self.hosts if host.trouble is None and host.busy_until_s > now_s]
        if out:
            if self.out_since_s is None:
                self.out_since_s = now_s
            if now_s >= self._patience_ends_s or self._all_refuse():
                self._end_patience(now_s)
            ends.append(self._patience_ends_s)
        if min(ends, default=math.inf) < math.inf:
            self._later = asyncio.get_running_loop().call_at(min(ends), self.serve)

    def _end_patience(self, now_s: float) -> None:
        """Ends the waiting of those whose patience is at its end: some now and the rest soon, as all of them wake up."""
        ended = list(islice((ticket for ticket in self.line if self._ends_s(ticket) <= now_s), ENDED_AT_ONCE))
        for ticket in ended:
            self._end(ticket, self._last_trouble())
        if len(ended) == ENDED_AT_ONCE:
            self._patience_ends_s = now_s
        else:
            self._patience_ends_s = min(map(self._ends_s, self.line), default=math.inf)

    def _ends_s(self, ticket: Waiting) -> float:
        """Returns when a ticket has waited long enough for a host; at once where all of them would refuse it."""
        if self._all_refuse():
            return -math.inf
        return max(self.out_since_s or 0.0, ticket.errand.entered_s) + ticket.errand.patience_s

    def _all_refuse(self) -> bool:
        return all(isinstance(host.trouble, HostRefused) for host in self.hosts)

    def _last_trouble(self) -> EngineError:
        """Returns why no host can be asked."""
        troubles = [host.trouble or HostBusy(f"{host.label}: too busy") for host in self.hosts]
        why = "; ".join(str(trouble) for trouble in troubles)
        kinds = {type(trouble) for trouble in troubles}
        if len(kinds) == 1 and (kind := kinds.pop()) in AWAY:
            return kind(why)
        return HostUnreachable(why)  # whatever else keeps a host out, none of it is this work's doing
