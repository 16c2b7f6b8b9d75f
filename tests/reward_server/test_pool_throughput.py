"""A pool finds what its hosts can do at a time, uses it, and keeps prompts that begin alike in the same slots."""

from __future__ import annotations

import asyncio

import pytest
import virtual_time
from memory_host import HANG, MemoryHost
from memory_pool import Batch, asking, run, run_batch, started

from reward_server.errors import HostBusy


async def batch_at(*hosts: MemoryHost, questions: int = 1, **options: object) -> tuple[Batch, list[int]]:
    """Returns what became of 512 works, and the limits that were found; each is kept to by its host."""
    async with started(*hosts, **options) as pool:
        batch = await run_batch(pool, questions=questions)
        limits = []
        for inside, host in zip(pool._hosts, hosts, strict=True):
            limits.append(inside.parallelism.limit)
            if inside.parallelism.settled:
                assert max(host.in_flight_at[-20:]) <= inside.parallelism.limit
    return batch, limits


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize("slot_count", [1, 2, 4, 8])
def test_one_host_is_kept_busy_with_at_most_one_question_more_than_its_slots(slot_count: int, noise: float) -> None:
    host = MemoryHost("host", slot_count, 0.05, noise=noise)
    batch, limits = virtual_time.run(batch_at(host))
    assert batch.rate([host]) >= 0.95 * slot_count / 0.05
    assert slot_count <= limits[0] <= slot_count + 1


@pytest.mark.parametrize("slot_count", [1, 2, 4, 8])
def test_the_way_to_the_host_is_no_slot(slot_count: int) -> None:
    host = MemoryHost("host", slot_count, 0.05, noise=0.1, way_s=0.002)
    batch, limits = virtual_time.run(batch_at(host))
    assert batch.rate([host]) >= 0.95 * slot_count / 0.05
    assert slot_count <= limits[0] <= slot_count + 1


@pytest.mark.parametrize("noise", [0.0, 0.2])
@pytest.mark.parametrize(
    "kinds", [[(1, 0.1), (4, 0.1)], [(2, 0.05), (8, 0.2)], [(4, 0.05), (4, 0.5)], [(8, 0.1)] * 3, [(1, 0.05)] * 3]
)
def test_several_hosts_of_different_speed_are_all_kept_busy(kinds: list[tuple[int, float]], noise: float) -> None:
    hosts = [MemoryHost(f"host {index}", *kind, noise=noise) for index, kind in enumerate(kinds)]
    batch, limits = virtual_time.run(batch_at(*hosts))
    assert batch.rate(hosts) >= 0.95 * sum(slots / seconds for slots, seconds in kinds)
    assert len(batch.done_s) == 512
    assert all(limit <= slots + 1 for limit, (slots, _) in zip(limits, kinds, strict=True))


def test_a_host_that_batches_without_slots_is_used_to_its_optimum() -> None:
    host = MemoryHost("host", 64, 0.05, slower=1 / 16)

    async def late_rate() -> float:
        async with started(host) as pool:
            batch = await run_batch(pool, 4096)
        return batch.rate([host], after=2048)

    best = max(count / (0.05 * (1 + (count - 1) / 16)) for count in range(1, 65))
    assert virtual_time.run(late_rate()) >= 0.85 * best


def test_a_fixed_number_in_flight_is_kept_to() -> None:
    host = MemoryHost("host", 8, 0.05)
    virtual_time.run(batch_at(host, in_flight=3))
    assert max(host.in_flight_at) == 3


@pytest.mark.parametrize("slot_count", [1, 2, 4, 8])
def test_groups_stay_in_their_slots_where_fresh_beginnings_cost_much(slot_count: int) -> None:
    host = MemoryHost("host", slot_count, 0.05, noise=0.05, fresh_s=0.1)

    async def fresh() -> int:
        async with started(host) as pool:
            await run_batch(pool)
            host.reset()
            await run_batch(pool)
            return host.fresh

    assert virtual_time.run(fresh()) <= 64 + 3 * slot_count  # of 512, in 64 groups


@pytest.mark.parametrize("slot_count", [1, 2, 4, 8])
def test_the_slots_of_a_host_are_found_where_fresh_beginnings_cost_much(slot_count: int) -> None:
    host = MemoryHost("host", slot_count, 0.05, noise=0.05, fresh_s=0.1)
    batch, limits = virtual_time.run(batch_at(host))
    assert slot_count <= limits[0] <= slot_count + 1
    assert batch.rate([host]) >= 0.75 * slot_count / (0.05 + 0.1 / 8)


def test_where_another_question_in_the_line_costs_its_prefix_there_is_none() -> None:
    """A work of four questions shares more with itself than with others: two by turns at one slot read it all again."""
    host = MemoryHost("host", 1, 0.05, fresh_s=0.2)

    async def limit() -> int:
        async with started(host) as pool:
            await run_batch(pool, 256, group=1, questions=4)
            return pool._hosts[0].parallelism.limit

    assert virtual_time.run(limit()) == 1


def test_few_works_are_spread_over_idle_places_rather_than_queued_where_their_prefix_is() -> None:
    hosts = [MemoryHost(f"host {index}", 4) for index in range(2)]

    async def elapsed() -> float:
        async with started(*hosts) as pool:
            return max((batch := await run_batch(pool, 8)).done_s) - batch.began_s

    assert virtual_time.run(elapsed()) == pytest.approx(0.1)


def test_a_work_goes_where_its_beginning_was_read() -> None:
    hosts = [MemoryHost(f"host {index}", 4, fresh_s=0.1) for index in range(2)]

    async def where() -> list[set[str]]:
        async with started(*hosts) as pool:
            return [{await run(pool, asking(name), name) for _ in range(5)} for name in ("a", "b", "c")]

    assert [len(labels) for labels in virtual_time.run(where())] == [1, 1, 1]


def test_a_host_that_dies_in_mid_batch_costs_no_verdict() -> None:
    hosts = [MemoryHost(f"host {index}", 4, 0.05) for index in range(2)]

    async def results() -> list[object]:
        async with started(*hosts) as pool:
            hosts[1].on_answer = lambda: hosts[1].go_down() if len(hosts[1].questions) == 100 else None
            return (await run_batch(pool)).results

    done = virtual_time.run(results())
    assert len(done) == 512
    assert set(done) == {"host 0", "host 1"}


def test_a_host_that_gets_ten_times_slower_costs_no_verdict_and_little_time() -> None:
    hosts = [MemoryHost(f"host {index}", 4, 0.05) for index in range(2)]

    async def batch() -> Batch:
        async with started(*hosts) as pool:
            hosts[1].on_answer = lambda: setattr(hosts[1], "seconds", 0.5) if len(hosts[1].questions) > 100 else None
            return await run_batch(pool)

    done = virtual_time.run(batch())
    assert all(isinstance(result, str) for result in done.results)
    assert done.done_s[-1] - done.began_s < 6.5  # 512 at one host alone would take 6.4 s


def test_of_three_hosts_one_dies_and_one_gets_ten_times_slower_and_no_verdict_is_lost() -> None:
    hosts = [MemoryHost(f"host {index}", 4, 0.05) for index in range(3)]

    async def batch() -> Batch:
        async with started(*hosts) as pool:
            hosts[1].on_answer = lambda: hosts[1].go_down() if len(hosts[1].questions) == 60 else None
            hosts[2].on_answer = lambda: setattr(hosts[2], "seconds", 0.5) if len(hosts[2].questions) > 60 else None
            return await run_batch(pool)

    done = virtual_time.run(batch())
    assert len(done.results) == 512
    assert set(done.results) == {"host 0", "host 1", "host 2"}


def test_a_host_that_hangs_for_some_questions_costs_no_verdict() -> None:
    hosts = [MemoryHost(f"host {index}", 4, 0.05) for index in range(2)]

    async def results() -> list[object]:
        async with started(*hosts) as pool:
            hosts[0].faults.extend([None] * 40 + [HANG] * 3)

            async def one(index: int) -> object:
                return await run(pool, asking(f"{index // 8}", timeout_s=2.0), f"{index // 8}")

            return await asyncio.gather(*(one(index) for index in range(256)))

    assert len(virtual_time.run(results())) == 256


def test_a_busy_host_gets_a_rest_and_fewer_questions_and_all_are_answered() -> None:
    host = MemoryHost("host", 8, 0.05)

    def refuse_what_is_too_much(_: object) -> HostBusy | None:
        return HostBusy("host: 503") if host.in_flight > 6 else None

    async def results() -> tuple[list[object], int]:
        async with started(host) as pool:
            host.fault_of = refuse_what_is_too_much
            batch = await run_batch(pool, patience_s=20.0)
            return batch.results, pool._hosts[0].parallelism.limit

    done, limit = virtual_time.run(results())
    assert done == ["host"] * 512
    assert limit <= 6 + 1


def test_a_busy_host_is_asked_again_after_its_rest_while_another_is_still_at_work() -> None:
    busy, slow = MemoryHost("busy", 1, 0.1), MemoryHost("slow", 1, 0.1)

    async def hosts_and_time() -> tuple[list[str], float]:
        async with started(busy, slow, in_flight=1) as pool:
            slow.seconds = 25.0
            busy.faults.append(HostBusy("busy: 503"))
            began_s = asyncio.get_running_loop().time()
            works = [run(pool, asking(name), name, patience_s=60.0) for name in "abcd"]
            done = await asyncio.gather(*works)
            return done, asyncio.get_running_loop().time() - began_s

    done, took_s = virtual_time.run(hosts_and_time())
    assert sorted(done) == ["busy", "busy", "busy", "slow"]
    assert took_s == pytest.approx(25.0, abs=1.0)
