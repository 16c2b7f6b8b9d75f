"""The line in which work waits for a place at a host: the only one there is.

Each place that comes free takes one ticket. Tickets of one affinity share the beginning of their prompts, and every
slot of a host keeps the beginnings that it has read for itself: so a place stays with an affinity as long as that has
tickets, then turns to one that no place serves, and helps another place only when there is nothing else to do. No place
stands idle for the sake of affinity, and none lets the line's oldest ticket wait for ever.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, TypeVar

OVERTAKINGS: Final = 64
"""A place takes so many tickets past the line's oldest one; then it takes that."""


class Ticket:
    """One piece of work that waits."""

    def __init__(self, affinity: str) -> None:
        self.affinity = affinity


class Taker:
    """A place as the line knows it: what it took last, and how often it has passed the oldest ticket since."""

    def __init__(self) -> None:
        self.affinity: str | None = None
        self.overtakings = 0


TicketT = TypeVar("TicketT", bound=Ticket)


class Line(Generic[TicketT]):
    """First come, first served, but for affinity. Every operation takes time by the number of places, not of tickets."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[TicketT, None] = OrderedDict()  # oldest first
        self._by_affinity: OrderedDict[str, OrderedDict[TicketT, None]] = OrderedDict()  # longest waiting first
        self._takers: Counter[str] = Counter()  # how many places serve an affinity

    def __len__(self) -> int:
        return len(self._tickets)

    def __iter__(self) -> Iterator[TicketT]:
        return iter(self._tickets)

    def add(self, ticket: TicketT, *, first: bool = False) -> None:
        """Puts a ticket at the end of the line, or in front: one that had its turn before, and in vain."""
        same = self._by_affinity.setdefault(ticket.affinity, OrderedDict())
        for tickets in (self._tickets, same):
            tickets[ticket] = None
            tickets.move_to_end(ticket, last=not first)
        if first:
            self._by_affinity.move_to_end(ticket.affinity, last=False)

    def discard(self, ticket: TicketT) -> None:
        """Takes a ticket out of the line, if it is still there."""
        if ticket not in self._tickets:
            return
        del self._tickets[ticket]
        same = self._by_affinity[ticket.affinity]
        del same[ticket]
        if not same:
            del self._by_affinity[ticket.affinity]

    def waits(self, affinity: str | None) -> bool:
        """Tells whether there are tickets of an affinity."""
        return affinity in self._by_affinity

    def take(self, taker: Taker, suits: Callable[[TicketT], bool] = lambda _: True) -> TicketT | None:
        """Returns the ticket that a free place should serve next, taken out of the line; None if none suits it."""
        found = next(filter(suits, self._in_order_for(taker)), None)
        if found is None:
            return None
        taker.overtakings = 0 if found is next(iter(self._tickets)) else taker.overtakings + 1
        self._serve(taker, found.affinity)
        self.discard(found)
        return found

    def follow(self, taker: Taker, other: Taker) -> None:
        """Has a place prefer what another one serves, over what it took last itself."""
        if other.affinity is not None:
            self._serve(taker, other.affinity)

    def forget(self, taker: Taker) -> None:
        """Notes that a place no longer serves what it took last: it is gone, or it takes something else."""
        if taker.affinity is None:
            return
        self._takers[taker.affinity] -= 1
        if not self._takers[taker.affinity]:
            del self._takers[taker.affinity]
        taker.affinity = None

    def _serve(self, taker: Taker, affinity: str) -> None:
        self.forget(taker)
        taker.affinity = affinity
        self._takers[affinity] += 1

    def _in_order_for(self, taker: Taker) -> Iterator[TicketT]:
        """Yields tickets in the order in which a place prefers them, some twice."""
        if taker.overtakings >= OVERTAKINGS:
            yield from self._tickets
        if taker.affinity is not None:
            yield from self._by_affinity.get(taker.affinity, ())
        yield from self._first_of(tickets for name, tickets in self._by_affinity.items() if name not in self._takers)
        if self._by_affinity:
            yield from max(self._by_affinity.values(), key=len)
        yield from self._tickets

    def _first_of(self, groups: Iterable[OrderedDict[TicketT, None]]) -> Iterator[TicketT]:
        return (next(iter(tickets)) for tickets in groups)
