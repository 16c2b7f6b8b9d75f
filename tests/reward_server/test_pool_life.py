"""A host's life in a pool: looked at, proven by a generation, warm, ready; lost; and back by the same way."""

from __future__ import annotations

import asyncio
import math
from itertools import pairwise
from typing import Any

import pytest
import virtual_time
from memory_host import HANG, MemoryHost
from memory_pool import MemoryPool, asking, run, run_batch, started

from reward_server.domain import Health
from reward_server.engines.base import ChatMessage
from reward_server.errors import HostFailed, HostRefused, HostUnreachable, ModelMissing
from reward_server.sharing.memory import VerdictMemory

RUBRIC = (ChatMessage("system", "Grade strictly."),)


def test_a_host_answers_before_it_is_ready() -> None:
    host = MemoryHost(seconds=3.0)

    async def main() -> None:
        pool = MemoryPool("box", [host], context_tokens=None)
        assert pool.gives_logprobs is None
        starting = asyncio.create_task(pool.start())
        await asyncio.sleep(2.0)
        assert not pool.health().serving
        assert "getting ready" in pool.health().reason
        await starting
        assert pool.health() == Health(serving=True)
        assert pool.gives_logprobs is True
        await pool.close()

    virtual_time.run(main())
    assert [(question.max_tokens, question.alternatives) for question in host.questions] == [(1, 20)]


def test_a_host_without_log_probabilities_is_told_apart() -> None:
    host = MemoryHost()
    host.logprobs = False

    async def main() -> bool | None:
        async with started(host) as pool:
            return pool.gives_logprobs

    assert virtual_time.run(main()) is False


def test_one_host_without_log_probabilities_among_others_is_a_caution() -> None:
    old, new = MemoryHost("old"), MemoryHost("new")
    old.logprobs = False

    async def main() -> None:
        async with started(old, new) as pool:
            assert pool.gives_logprobs is True
            assert pool.health().serving
            assert pool.health().reason.startswith("old: it tells no log-probabilities")

    virtual_time.run(main())


@pytest.mark.parametrize(("told", "expected"), [(3, 3), (None, 4)])
def test_every_slot_reads_each_beginning_before_work_comes(told: int | None, expected: int) -> None:
    host = MemoryHost(slot_count=expected, told_slots=told)

    async def main() -> None:
        pool = MemoryPool("box", [host], context_tokens=None)
        pool.keep_warm(RUBRIC)
        pool.keep_warm(list(RUBRIC))  # another judge with the same
        await pool.start()
        await pool.close()

    virtual_time.run(main())
    begun = [question for question in host.questions if tuple(question.messages[:1]) == RUBRIC]
    assert len(begun) == expected
    assert all(len(question.messages) == 2 and question.max_tokens == 1 for question in begun)
    assert {slot.read for slot in host._slots} == {"Grade strictly."}


def test_start_does_not_wait_for_ever() -> None:
    host = MemoryHost(seconds=100.0)

    async def main() -> tuple[float, Health, Health]:
        pool = MemoryPool("box", [host], context_tokens=None)
        began_s = asyncio.get_running_loop().time()
        await pool.start()
        took_s = asyncio.get_running_loop().time() - began_s
        early = pool.health()
        await asyncio.sleep(100.0)
        late = pool.health()
        await pool.close()
        return took_s, early, late

    took_s, early, late = virtual_time.run(main())
    assert took_s == pytest.approx(30.0)
    assert not early.serving
    assert late.serving


def test_a_host_that_comes_later_is_found() -> None:
    host = MemoryHost()
    host.go_down()

    async def main() -> None:
        async with started(host) as pool:
            assert pool.health() == Health(serving=False, reason="host: no connection")
            host.come_back()
            await asyncio.sleep(6.0)
            assert pool.health().serving

    virtual_time.run(main())


def test_looks_at_a_host_that_is_out_come_less_often_with_time() -> None:
    host = MemoryHost()
    host.go_down()

    async def main() -> list[float]:
        async with started(host):
            await asyncio.sleep(30.0)
        return host.looks

    looks = virtual_time.run(main())
    pauses = [round(later - earlier, 3) for earlier, later in pairwise(looks)]
    assert pauses[0] <= 1.0
    assert pauses == sorted(pauses)
    assert pauses[-1] == 5.0


def test_a_host_that_is_ready_is_looked_at_now_and_then() -> None:
    host = MemoryHost()

    async def main() -> int:
        async with started(host):
            await asyncio.sleep(301.0)
        return len(host.looks)

    assert virtual_time.run(main()) == 10
    assert not host.questions  # and is not asked to prove itself again


def test_a_host_that_cannot_serve_says_why_and_refuses_at_once() -> None:
    host = MemoryHost()
    host.health = Health(serving=False, reason="context_tokens 9000 is more than the model has")

    async def main() -> Health:
        async with started(host) as pool:
            with pytest.raises(HostRefused, match="9000"):
                await run(pool, asking(), patience_s=60.0)
            return await pool.check()

    assert virtual_time.run(main()) == host.health
    assert not host.questions


def test_a_caution_is_told_while_it_serves() -> None:
    host = MemoryHost()
    host.health = Health(serving=True, reason="the model is a small one")

    async def main() -> Health:
        async with started(host) as pool:
            return pool.health()

    assert virtual_time.run(main()) == host.health


def test_one_host_out_of_two_is_a_caution() -> None:
    hosts = [MemoryHost("a"), MemoryHost("b")]
    hosts[1].look_error = ModelMissing("b: it has no model")

    async def main() -> Health:
        async with started(*hosts) as pool:
            return pool.health()

    assert virtual_time.run(main()) == Health(serving=True, reason="b: it has no model")


def test_check_looks_anew_and_waits_for_proof() -> None:
    host = MemoryHost(seconds=1.0)
    host.look_error = ModelMissing("host: it has no model")

    async def main() -> tuple[Health, Health]:
        async with started(host) as pool:
            before = pool.health()
            host.look_error = None
            return before, await pool.check()

    before, after = virtual_time.run(main())
    assert not before.serving
    assert after.serving


def test_a_lost_host_proves_itself_and_reads_the_beginnings_again() -> None:
    host = MemoryHost(slot_count=2, told_slots=2)

    async def main() -> None:
        pool = MemoryPool("box", [host], context_tokens=None)
        pool.keep_warm(RUBRIC)
        await pool.start()
        asked = len(host.questions)
        work = asyncio.create_task(run(pool, asking(), patience_s=60.0))
        await asyncio.sleep(0.05)
        host.go_down()
        await asyncio.sleep(5.0)
        host.come_back()
        assert await work == "host"
        assert len(host.questions) == 2 * asked + 2  # all that again, and the work's question twice
        await pool.close()

    virtual_time.run(main())


def test_failures_in_a_row_open_the_breaker_until_the_host_generates_again() -> None:
    host = MemoryHost(slot_count=4)

    async def main() -> None:
        async with started(host) as pool:
            host.always = HostFailed("host: 500")
            outcomes = await asyncio.gather(
                *(run(pool, asking(), attempts=1) for _ in range(4)), return_exceptions=True
            )
            assert all(isinstance(outcome, HostFailed) for outcome in outcomes)
            assert "3 questions in a row failed" in pool.health().reason
            await asyncio.sleep(2.0)
            assert not pool.health().serving  # it can be looked at, but it does not generate
            host.always = None
            await asyncio.sleep(6.0)
            assert pool.health().serving

    virtual_time.run(main())


def test_failures_with_answers_between_them_do_not() -> None:
    host = MemoryHost()

    async def main() -> Health:
        async with started(host, in_flight=1) as pool:
            host.faults.extend([HostFailed("host: 500"), HostFailed("host: 500"), None] * 4)
            batch = await run_batch(pool, 8, attempts=3)
            assert all(result == "host" for result in batch.results[:4])
            return pool.health()

    assert virtual_time.run(main()).serving


def test_calls_that_end_early_do_not_open_the_breaker() -> None:
    host = MemoryHost(slot_count=4, seconds=1.0)

    async def main() -> Health:
        async with started(host) as pool:
            await run(pool, asking())
            await run_batch(pool, 16, within_s=0.5)
            return pool.health()

    assert virtual_time.run(main()).serving


def test_a_host_that_hangs_opens_the_breaker_by_its_callers_deadlines() -> None:
    host = MemoryHost(slot_count=4)

    async def main() -> Health:
        async with started(host) as pool:
            await run(pool, asking())
            host.always = HANG
            await run_batch(pool, 4, within_s=5.0)
            return pool.health()

    assert not virtual_time.run(main()).serving


def test_clients_that_leave_before_a_host_has_answered_any_question_say_nothing_about_it() -> None:
    host = MemoryHost("a", 4, 60.0)

    async def main() -> None:
        host.seconds = 0.1
        async with started(host, in_flight=4) as pool:
            host.seconds = 60.0
            works = [asyncio.create_task(run(pool, asking())) for _ in range(4)]
            await asyncio.sleep(1.0)
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
            assert pool.health().serving

    virtual_time.run(main())


def test_closing_ends_work_and_waiting_and_closes_every_host() -> None:
    hosts = [MemoryHost("a", 1, 60.0), MemoryHost("b", 1, 60.0)]

    async def main() -> None:
        before = asyncio.all_tasks()
        pool = MemoryPool("box", hosts, context_tokens=None)
        hosts[0].seconds = hosts[1].seconds = 0.1
        await pool.start()
        hosts[0].seconds = hosts[1].seconds = 60.0
        works = [asyncio.create_task(run(pool, asking())) for _ in range(20)]
        await asyncio.sleep(1.0)
        await pool.close()
        outcomes = await asyncio.gather(*works, return_exceptions=True)
        assert all(isinstance(outcome, HostUnreachable) and "closed" in str(outcome) for outcome in outcomes)
        with pytest.raises(HostUnreachable, match="closed"):
            await run(pool, asking())
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before

    virtual_time.run(main())
    assert [host.opened for host in hosts] == [0, 0]
    assert [host.in_flight for host in hosts] == [0, 0]


def test_questions_that_people_call_off_are_no_failures_of_the_host() -> None:
    host = MemoryHost(slot_count=4, seconds=0.05)

    async def main() -> None:
        async with started(host) as pool:
            await run(pool, asking())
            host.seconds = 1.0
            works = [asyncio.create_task(run(pool, asking())) for _ in range(8)]
            await asyncio.sleep(0.3)
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
            assert host.cancelled == 4
            assert pool.health().serving

    virtual_time.run(main())


def test_questions_that_are_let_go_by_a_memorys_waiters_are_no_failures_of_the_host() -> None:
    host = MemoryHost(slot_count=4, seconds=0.05)

    async def main() -> None:
        memory = VerdictMemory(0)
        async with started(host) as pool:

            def get(key: bytes) -> Any:
                return memory.get(key, len, lambda deadline: run(pool, asking(), deadline=deadline), math.inf)

            await run(pool, asking())
            host.seconds = 1.0
            works = [asyncio.create_task(get(bytes([index]))) for index in range(8)]
            await asyncio.sleep(0.3)
            for work in works:
                work.cancel()
            await asyncio.sleep(0.1)
            assert host.cancelled == 4
            assert pool.health().serving

    virtual_time.run(main())
