"""The waiting line: nothing is lost, nothing starves, and a place stays with the prompts whose beginning it has read."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from reward_server.sharing.queue import OVERTAKINGS, Line, Taker, Ticket


def line_of(names: str) -> Line[Ticket]:
    line: Line[Ticket] = Line()
    for name in names:
        line.add(Ticket(name))
    return line


def taken(line: Line[Ticket], taker: Taker, count: int) -> str:
    tickets = [line.take(taker) for _ in range(count)]
    return "".join(ticket.affinity if ticket else "-" for ticket in tickets)


def test_one_affinity_is_first_come_first_served() -> None:
    line = line_of("aaa")
    tickets, taker = list(line), Taker()
    assert [line.take(taker) for _ in range(4)] == [*tickets, None]


def test_a_place_stays_with_its_affinity() -> None:
    assert taken(line_of("abcabcabc"), Taker(), 9) == "aaabbbccc"


def test_two_places_serve_two_affinities() -> None:
    line, first, second = line_of("ababab"), Taker(), Taker()
    assert "".join(taken(line, taker, 1) for taker in [first, second] * 3) == "ababab"


def test_a_place_without_work_helps_the_longest_queue() -> None:
    line, first, second, third = line_of("abbaaaa"), Taker(), Taker(), Taker()
    assert taken(line, first, 1) + taken(line, second, 1) + taken(line, third, 1) == "aba"


def test_a_place_that_has_gone_no_longer_serves() -> None:
    line, gone, other, last = line_of("aabb"), Taker(), Taker(), Taker()
    taken(line, gone, 1)
    taken(line, other, 1)
    line.forget(gone)
    assert taken(line, last, 1) == "a"


def test_a_place_can_follow_another() -> None:
    line, first, second = line_of("abab"), Taker(), Taker()
    taken(line, first, 1)
    line.follow(second, first)
    assert taken(line, second, 1) == "a"


def test_a_ticket_that_was_served_in_vain_goes_first() -> None:
    line = line_of("ab")
    line.add(Ticket("c"), first=True)
    assert taken(line, Taker(), 3) == "cab"


def test_a_ticket_that_does_not_suit_is_passed_over() -> None:
    line = line_of("ab")
    ticket = line.take(Taker(), lambda ticket: ticket.affinity != "a")
    assert ticket is not None
    assert ticket.affinity == "b"
    assert len(line) == 1


def test_discarding_twice_is_no_error() -> None:
    line = line_of("ab")
    first = next(iter(line))
    line.discard(first)
    line.discard(first)
    assert taken(line, Taker(), 2) == "b-"


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60),
    st.lists(st.integers(0, 3), max_size=90),
    st.sets(st.integers(0, 59)),
)
def test_each_ticket_leaves_once_and_no_place_is_sent_away_while_one_waits(
    tickets: list[tuple[str, bool]], turns: list[int], left: set[int]
) -> None:
    line: Line[Ticket] = Line()
    takers = [Taker() for _ in range(4)]
    waiting = set()
    for index, (name, first) in enumerate(tickets):
        ticket = Ticket(name)
        line.add(ticket, first=first)
        waiting.add(ticket)
        if index in left:
            line.discard(ticket)
            waiting.discard(ticket)
    for turn in turns:
        ticket = line.take(takers[turn])
        assert (ticket is None) == (not waiting)
        if ticket is not None:
            waiting.remove(ticket)
        assert set(line) == waiting
        assert len(line) == len(waiting)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcdefghij")), min_size=400, max_size=400))
def test_no_ticket_starves_however_much_comes_after_it(arrivals: list[tuple[int, str]]) -> None:
    line: Line[Ticket] = Line()
    takers = [Taker() for _ in range(3)]
    line.add(Ticket("a"))
    line.take(takers[0])  # who then works on it for ever
    oldest = Ticket("a")
    line.add(oldest)
    for index, (turn, name) in enumerate(arrivals):
        line.add(Ticket(f"{name}{index}" if turn else name))  # always something newer that nobody serves
        if line.take(takers[1 + turn % 2]) is oldest:
            return
    raise AssertionError(f"passed over {len(arrivals)} times, more than {OVERTAKINGS} by each of two places")
