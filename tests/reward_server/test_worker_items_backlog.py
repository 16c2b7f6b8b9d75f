"""Chunks are as large as does good: all workers have some, and none holds up those who wait for its worker."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.errors import WorkTimedOut
from reward_server.workers.backlog import Backlog
from reward_server.workers.items import ItemJob


def backlog(count, lanes=2, chunk=16, remaining_s=lambda: math.inf, **options):
    job = ItemJob(len, (), None, "mine", options.pop("timeout_s", 1.0), **options)
    return Backlog(bytearray(count), job, lanes, chunk, remaining_s)


def taken(waiting):
    """Returns the chunks in which all that waits is taken out."""
    chunks = []
    while indexes := waiting.next(others=False, free=True):
        chunks.append(indexes)
    return chunks


@given(count=st.integers(0, 300), lanes=st.integers(1, 16), chunk=st.integers(1, 40), pace_s=st.floats(0, 0.1))
def test_every_item_is_taken_once_in_order(count, lanes, chunk, pace_s):
    waiting = backlog(count, lanes, chunk)
    waiting.pace_s = pace_s
    chunks = taken(waiting)
    assert [index for indexes in chunks for index in indexes] == list(range(count))
    assert all(len(indexes) <= chunk for indexes in chunks)


def test_few_items_are_spread_over_all_workers():
    assert len(taken(backlog(8, lanes=8))) == 8


def test_a_chunk_of_slow_items_is_small():
    waiting = backlog(1000)
    waiting.note_pace(50_000_000, 10)
    assert len(waiting.next(others=True, free=True)) == 4


def test_only_of_quick_chunks_a_worker_has_several_at_a_time():
    waiting = backlog(1000)
    assert waiting.ahead() == 1
    waiting.note_pace(16_000, 16)
    assert waiting.ahead() > 1
    waiting.note_pace(10**9, 1)
    assert waiting.ahead() == 1


def test_what_is_done_meanwhile_is_not_taken():
    waiting = backlog(20)
    for index in range(0, 20, 2):
        waiting.done[index] = 1
    assert [index for indexes in taken(waiting) for index in indexes] == list(range(1, 20, 2))


def test_what_was_done_already_comes_before_all_and_single_items_behind_all():
    waiting = backlog(10)
    waiting.next(others=False, free=True)
    waiting.put_lost(0, single=True)
    waiting.put_again([1])
    waiting.put_back([2])
    assert waiting.next(others=True, free=False) == [1]
    assert waiting.next(others=True, free=False)[0] == 2
    assert taken(waiting)[-1] == [0]
    assert waiting.runs_by_itself([0])


def test_a_suspect_waits_until_nothing_else_is_under_way():
    waiting = backlog(1)
    waiting.next(others=False, free=True)
    assert waiting.put_suspect(0)
    assert not waiting.ripe(others=True)
    assert waiting.next(others=True, free=True) == []
    assert waiting.next(others=False, free=True) == [0]
    assert not waiting.put_suspect(0)


def test_an_item_is_lost_a_few_times_only():
    waiting = backlog(1)
    assert [waiting.put_lost(0, single=True) for _ in range(3)] == [True, True, False]


def test_second_attempts_have_twice_the_time_up_to_the_whole():
    waiting, stopped = backlog(1, first_timeout_s=0.3), WorkTimedOut("late")
    limits_s = [waiting.limit_s(0)]
    while waiting.put_stopped(0, stopped):
        assert waiting.out_of_time(0) is None
        limits_s.append(waiting.limit_s(0))
    assert limits_s == [0.3, 0.6, 1.0]


@pytest.mark.parametrize(("remaining_s", "limit_s"), [(0.2, None), (0.5, 0.45), (5.0, 0.6)])
def test_second_attempts_fit_into_what_is_left_or_are_not_made(remaining_s, limit_s):
    waiting, stopped = backlog(1, first_timeout_s=0.3, remaining_s=lambda: remaining_s), WorkTimedOut("late")
    waiting.put_stopped(0, stopped)
    waiting.next(others=False, free=True)
    assert waiting.out_of_time(0) is (stopped if limit_s is None else None)
    if limit_s is not None:
        assert waiting.limit_s(0) == pytest.approx(limit_s)
