"""The number of questions at a host, found from how long its answers take, with a host that is a formula."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from reward_server.engines.pool.parallelism import CLIMB_AGAIN_S, UNSTEADY, Parallelism

SECONDS = 0.1


def slots(count: int, noise: float = 0.0, seed: int = 0) -> Callable[[int], float]:
    """Returns how long an answer takes at a host with slots, by the number of questions that are there."""
    chance = random.Random(seed)
    return lambda there: SECONDS * max(1.0, there / count) * (1 + chance.uniform(-noise, noise))


class Full:
    """A host that always has as many questions as it may."""

    def __init__(self, parallelism: Parallelism, took_s: Callable[[int], float]) -> None:
        self.parallelism, self.took_s, self.now_s = parallelism, took_s, 0.0
        self.limits = [parallelism.limit]
        parallelism.answered(UNSTEADY, took_s(1), 0.0)  # the first question finds the host idle

    def answers(self, count: int) -> Full:
        for _ in range(count):
            self.parallelism.hold(self.parallelism.limit)
            took_s = self.took_s(self.parallelism.limit)
            self.now_s += took_s / self.parallelism.limit
            self.parallelism.answered(self.parallelism.mark(), took_s, self.now_s)
            if self.parallelism.limit != self.limits[-1]:
                self.limits.append(self.parallelism.limit)
        return self


@pytest.mark.parametrize("count", range(1, 17))
def test_it_settles_at_one_more_than_the_slots(count: int) -> None:
    parallelism = Parallelism(64)
    Full(parallelism, slots(count)).answers(600)
    assert parallelism.settled
    assert count <= parallelism.limit <= count + 1


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_times_that_vary_by_a_fifth_do_not_mislead_it(count: int, seed: int) -> None:
    parallelism = Parallelism(64)
    Full(parallelism, slots(count, 0.2, seed)).answers(400)
    assert parallelism.settled
    assert count <= parallelism.limit <= count + 1


def test_a_host_that_batches_gets_what_it_can_use() -> None:
    parallelism = Parallelism(64)
    host = Full(parallelism, lambda there: SECONDS * (1 + there / 16)).answers(3000)
    rate = {there: there / host.took_s(there) for there in range(1, 65)}
    assert parallelism.settled
    assert rate[parallelism.limit] >= 0.88 * max(rate.values())
    assert parallelism.limit < 60


def test_a_host_that_gets_slower_with_more_than_one_gets_one() -> None:
    parallelism = Parallelism(64)
    Full(parallelism, lambda there: SECONDS * there * (1.0 if there == 1 else 1.6)).answers(600)
    assert parallelism.limit == 1


def test_the_limit_is_never_more_than_the_most() -> None:
    parallelism = Parallelism(6)
    host = Full(parallelism, slots(32)).answers(2000)
    assert max(host.limits) == 6
    assert parallelism.limit == 6


def test_a_known_number_of_slots_is_where_it_begins() -> None:
    assert Parallelism(64, 12).limit == 12


def test_a_fixed_limit_stays() -> None:
    parallelism = Parallelism(64, 3, fixed=True)
    host = Full(parallelism, slots(16)).answers(2000)
    parallelism.busy(host.now_s)
    assert host.limits == [3]
    assert parallelism.limit == 3


def test_questions_sent_while_places_were_empty_tell_nothing() -> None:
    parallelism = Parallelism(64)
    for index in range(1000):
        parallelism.hold(parallelism.limit - 1)
        parallelism.answered(parallelism.mark(), SECONDS, index * SECONDS)
    assert parallelism.limit == 4


def test_once_settled_it_stays_there() -> None:
    parallelism = Parallelism(64)
    host = Full(parallelism, slots(4, 0.2)).answers(400)
    settled = parallelism.limit
    host.limits = [settled]
    host.answers(4000)
    assert host.limits == [settled]


def test_it_climbs_again_after_minutes() -> None:
    parallelism = Parallelism(64)
    host = Full(parallelism, slots(2)).answers(400)
    host.took_s = slots(8)
    host.now_s += CLIMB_AGAIN_S
    host.answers(800)
    assert 8 <= parallelism.limit <= 9


@pytest.mark.parametrize("count", [1, 2, 4, 8])
def test_a_climb_in_vain_goes_no_higher_than_twice_and_ends_where_it_began(count: int) -> None:
    parallelism = Parallelism(64)
    host = Full(parallelism, slots(count, 0.2)).answers(400)
    host.now_s += CLIMB_AGAIN_S
    settled = parallelism.limit
    host.limits = [settled]
    host.answers(300)
    assert max(host.limits) == 2 * settled
    assert parallelism.settled
    assert count <= parallelism.limit <= count + 1


def test_it_climbs_again_when_the_host_has_become_faster() -> None:
    parallelism = Parallelism(64)
    host = Full(parallelism, slots(2)).answers(400)
    host.took_s = slots(8)
    host.answers(800)
    assert 8 <= parallelism.limit <= 9


def test_a_busy_host_gets_half_and_many_refusals_at_once_count_as_one() -> None:
    parallelism = Parallelism(64, 16)
    for _ in range(10):
        parallelism.busy(5.0)
    assert parallelism.limit == 8


def test_after_a_refusal_it_stays_below_what_was_refused() -> None:
    parallelism = Parallelism(64, 16)
    parallelism.busy(5.0)
    host = Full(parallelism, slots(32)).answers(1000)
    assert max(host.limits) == 15


@pytest.mark.parametrize("count", [4, 8])
def test_more_than_wait_to_be_next_are_given_up_again(count: int) -> None:
    parallelism = Parallelism(64)
    host = Full(parallelism, slots(count))
    parallelism._stay(count + 4, count / SECONDS, 0.0)  # as after a search that the way to the host has misled
    host.answers(1000)
    assert parallelism.settled
    assert count <= parallelism.limit <= count + 1


def test_fewer_are_not_kept_where_they_give_fewer_answers() -> None:
    parallelism = Parallelism(64)
    batches = Full(parallelism, lambda there: SECONDS * (1 + there / 64)).answers(3000)
    assert parallelism.settled
    assert batches.limits[-1] >= 32
