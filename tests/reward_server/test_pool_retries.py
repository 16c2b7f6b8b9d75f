"""What a pool tries again, where, how often; and how long work waits for a place: deadlines, patience, cancelling."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
import virtual_time
from memory_host import HANG, MemoryHost
from memory_pool import asking, question, run, run_batch, started

from reward_server.engines.base import Place
from reward_server.engines.pool.dispatch import Dispatch, Waiting
from reward_server.errors import (
    AnswerTimedOut,
    BadAnswer,
    EngineError,
    HostBusy,
    HostFailed,
    HostRefused,
    HostUnreachable,
    ModelMissing,
    PromptTooLong,
)
from reward_server.sharing.queue import Ticket


def failing(errors: list[EngineError]) -> Any:
    """Returns work that has its answer and finds it no use, as often as there are errors; then it tells its attempt."""

    async def work(place: Place) -> int:
        await place.ask(question())
        if errors:
            raise errors.pop(0)
        return place.attempt

    return work


def test_an_answer_of_no_use_is_asked_for_again_and_the_work_knows_it() -> None:
    async def main() -> int:
        async with started(MemoryHost()) as pool:
            return await run(pool, failing([BadAnswer("no"), BadAnswer("no")]), attempts=3)

    assert virtual_time.run(main()) == 2


@pytest.mark.parametrize("kind", [BadAnswer, HostFailed, AnswerTimedOut])
def test_attempts_are_bounded_and_told(kind: type[EngineError]) -> None:
    host = MemoryHost()

    async def main() -> EngineError:
        async with started(host) as pool:
            with pytest.raises(kind, match="third") as caught:
                await run(pool, failing([kind("first"), kind("second"), kind("third")]), attempts=3)
            return caught.value

    assert virtual_time.run(main()).attempts == 3
    assert len(host.questions) == 3


@pytest.mark.parametrize("kind", [PromptTooLong, HostRefused])
def test_what_no_other_try_can_mend_is_raised_at_once(kind: type[EngineError]) -> None:
    host = MemoryHost()

    async def main() -> EngineError:
        async with started(host) as pool:
            host.faults.append(kind("host: no"))
            with pytest.raises(kind) as caught:
                await run(pool, asking(), attempts=5)
            return caught.value

    assert virtual_time.run(main()).attempts == 0
    assert len(host.questions) == 1


@pytest.mark.parametrize("fault", [HostFailed("500"), HANG])
def test_after_a_failure_another_host_is_preferred(fault: Any) -> None:
    hosts = [MemoryHost("a"), MemoryHost("b")]

    async def main() -> str:
        async with started(*hosts) as pool:
            first = await run(pool, asking(timeout_s=5.0))
            sticky, other = hosts if first == "a" else hosts[::-1]
            sticky.always = fault
            result = await run(pool, asking(timeout_s=5.0))
            assert result == other.label
            assert len(sticky.questions) == 2
            return str(result)

    virtual_time.run(main())


def test_the_only_host_is_asked_again_after_a_failure() -> None:
    host = MemoryHost()

    async def main() -> str:
        async with started(host) as pool:
            host.faults.append(HostFailed("500"))
            return await run(pool, asking())

    assert virtual_time.run(main()) == "host"


@pytest.mark.parametrize("kind", [HostUnreachable, HostBusy, ModelMissing])
def test_a_host_that_is_away_costs_no_attempt(kind: type[EngineError]) -> None:
    hosts = [MemoryHost("a"), MemoryHost("b")]

    async def main() -> int:
        async with started(*hosts) as pool:
            for host in hosts:
                host.faults.append(kind("away"))
            return await run(pool, failing([]), attempts=1, patience_s=20.0)

    assert virtual_time.run(main()) == 0


def test_patience_ends_with_the_reason() -> None:
    host = MemoryHost()

    async def main() -> float:
        async with started(host) as pool:
            host.go_down()
            began_s = asyncio.get_running_loop().time()
            with pytest.raises(HostUnreachable, match="no connection"):
                await run(pool, asking(), patience_s=20.0)
            return asyncio.get_running_loop().time() - began_s

    assert virtual_time.run(main()) == pytest.approx(20.0, abs=0.1)


def test_a_host_that_is_gone_costs_a_batch_one_wait() -> None:
    host = MemoryHost(slot_count=2)

    async def main() -> float:
        async with started(host) as pool:
            host.on_answer = host.go_down
            batch = await run_batch(pool, 100, patience_s=20.0)
            assert sum(isinstance(result, HostUnreachable) for result in batch.results) >= 98
            return asyncio.get_running_loop().time() - batch.began_s

    assert virtual_time.run(main()) < 25.0


def test_the_only_host_down_for_two_minutes_costs_no_verdict() -> None:
    host = MemoryHost(slot_count=4)

    async def main() -> list[Any]:
        async with started(host) as pool:
            batch = asyncio.create_task(run_batch(pool, 256, patience_s=180.0, attempts=1))
            await asyncio.sleep(2.0)
            host.go_down()
            await asyncio.sleep(120.0)
            host.come_back()
            return (await batch).results

    assert virtual_time.run(main()) == ["host"] * 256


def test_patience_is_for_hosts_that_are_away_and_not_for_a_long_line() -> None:
    host = MemoryHost(seconds=10.0)

    async def main() -> list[Any]:
        async with started(host, in_flight=1) as pool:
            return (await run_batch(pool, 20, patience_s=1.0)).results

    assert virtual_time.run(main()) == ["host"] * 20


def test_no_patience_at_all_fails_at_once() -> None:
    host = MemoryHost()
    host.go_down()

    async def main() -> None:
        async with started(host) as pool:
            with pytest.raises(HostUnreachable):
                await run(pool, asking(), patience_s=0.0)

    virtual_time.run(main())


def test_work_under_which_hosts_keep_dying_is_given_up() -> None:
    hosts = [MemoryHost(f"host {index}") for index in range(3)]

    async def main() -> None:
        async with started(*hosts) as pool:
            for host in hosts:
                host.fault_of = lambda asked: HostUnreachable("died") if asked.messages[0].content == "poison" else None
            with pytest.raises(HostFailed, match="4 times a host went away under it, the last: died") as caught:
                await run(pool, asking("poison"), patience_s=600.0)
            assert caught.value.attempts == 0, "its neighbours saw the same: nobody is suspected"
            await asyncio.sleep(10.0)
            assert await run(pool, asking("harmless"))

    virtual_time.run(main())


@pytest.mark.parametrize("fault", [None, HANG])
def test_the_deadline_holds_in_the_line_and_at_the_host(fault: Any) -> None:
    host = MemoryHost(seconds=60.0)

    async def main() -> None:
        host.seconds = 0.1
        async with started(host, in_flight=1) as pool:
            host.seconds, host.always = 60.0, fault
            began_s = asyncio.get_running_loop().time()
            outcomes = (await run_batch(pool, 3, within_s=5.0, patience_s=60.0)).results
            assert asyncio.get_running_loop().time() - began_s == pytest.approx(5.0)
            assert all(isinstance(outcome, AnswerTimedOut) for outcome in outcomes)
            assert {"place" in str(outcome) for outcome in outcomes} == {True, False}
            assert host.in_flight == 0

    virtual_time.run(main())


def test_a_deadline_that_passes_while_no_host_is_there_tells_of_the_outage() -> None:
    host = MemoryHost()

    async def main() -> None:
        async with started(host) as pool:
            host.go_down()
            (outcome,) = (await run_batch(pool, 1, within_s=5.0, patience_s=60.0)).results
            assert isinstance(outcome, HostUnreachable)
            assert "no connection" in str(outcome)

    virtual_time.run(main())


def test_a_deadline_that_moves_is_kept_to() -> None:
    host = MemoryHost(seconds=3.0)

    async def main() -> None:
        async with started(host) as pool:
            until = asyncio.get_running_loop().time() + 1.0

            def deadline() -> float:
                return until

            work = asyncio.create_task(run(pool, asking(), deadline=deadline))
            await asyncio.sleep(0.5)
            until += 9.0
            assert await work == "host"

    virtual_time.run(main())


def test_cancelling_reaches_the_host_and_frees_the_place() -> None:
    host = MemoryHost(seconds=60.0)

    async def main() -> None:
        host.seconds = 0.1
        async with started(host, in_flight=1) as pool:
            host.seconds = 60.0
            works = [asyncio.create_task(run(pool, asking())) for _ in range(3)]
            await asyncio.sleep(1.0)
            host.seconds = 0.1
            works[1].cancel()  # waits in the line
            works[0].cancel()  # is at the host
            outcomes = await asyncio.gather(*works, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError, asyncio.CancelledError, str]
            assert host.cancelled == 1
            assert len(host.questions) == 2

    virtual_time.run(main())


def test_work_cancelled_at_the_moment_it_gets_its_place_gives_it_back() -> None:
    host = MemoryHost()

    async def main() -> None:
        async with started(host, in_flight=1) as pool:
            first = asyncio.create_task(run(pool, asking()))
            second = asyncio.create_task(run(pool, asking()))
            await asyncio.sleep(0.05)
            host.on_answer = lambda: asyncio.get_running_loop().call_soon(second.cancel)
            await asyncio.gather(first, second, return_exceptions=True)
            host.on_answer = lambda: None
            assert await run(pool, asking()) == "host"
            assert pool._hosts[0].held == []

    virtual_time.run(main())


def test_work_that_raises_something_of_its_own_frees_its_place() -> None:
    async def broken(_: Place) -> None:
        raise ZeroDivisionError

    async def main() -> None:
        async with started(MemoryHost(), in_flight=1) as pool:
            with pytest.raises(ZeroDivisionError):
                await run(pool, broken)
            assert await run(pool, asking()) == "host"

    virtual_time.run(main())


def test_the_wait_in_the_line_and_the_time_at_the_host_are_told() -> None:
    told = []

    async def work(place: Place) -> None:
        told.append((place.queue_ms, (await place.ask(question())).host_ms))

    async def main() -> None:
        async with started(MemoryHost(seconds=0.25), in_flight=1) as pool:
            await asyncio.gather(run(pool, work), run(pool, work))

    virtual_time.run(main())
    assert told == [(pytest.approx(0.0, abs=1e-3), pytest.approx(250.0)), (pytest.approx(250.0), pytest.approx(250.0))]


def test_tokens_are_counted_by_a_host_that_is_ready() -> None:
    host = MemoryHost()

    async def main() -> tuple[int | None, int | None]:
        async with started(host) as pool:
            counted = await pool.count_tokens(question("one two").messages)
            host.go_down()
            await pool.check()
            return counted, await pool.count_tokens(question("one two").messages)

    assert virtual_time.run(main()) == (3, None)


@pytest.mark.parametrize("fault", [BadAnswer("no grade"), HostFailed("500"), HostRefused("401")])
def test_a_host_that_is_of_no_use_costs_a_batch_no_work_while_another_is_well(fault: EngineError) -> None:
    """It may be much faster at that, so that almost all works come to it first."""
    sick, well = MemoryHost("sick", slot_count=4, seconds=0.001), MemoryHost("well", slot_count=2, seconds=0.1)

    async def main() -> list[Any]:
        async with started(sick, well) as pool:
            sick.always = fault
            batch = await run_batch(pool, 64)
            return batch.results

    assert virtual_time.run(main()) == ["well"] * 64


@pytest.mark.parametrize("attempts", [2, 3])
def test_every_attempt_is_at_another_host_as_long_as_there_is_one(attempts: int) -> None:
    hosts = [MemoryHost(name) for name in "abc"]

    async def main() -> None:
        async with started(*hosts) as pool:
            for host in hosts:
                host.always = BadAnswer("no grade")
            with pytest.raises(BadAnswer):
                await run(pool, asking(), attempts=attempts)

    virtual_time.run(main())
    assert sorted(len(host.questions) for host in hosts) == [0] * (3 - attempts) + [1] * attempts


def test_what_every_host_refuses_is_refused_by_each_once() -> None:
    hosts = [MemoryHost("a"), MemoryHost("b")]

    async def main() -> None:
        async with started(*hosts) as pool:
            for host in hosts:
                host.always = HostRefused("bad schema")
            with pytest.raises(HostRefused):
                await run(pool, asking(), attempts=1)

    virtual_time.run(main())
    assert [len(host.questions) for host in hosts] == [1, 1]


def test_a_host_that_goes_costs_a_long_line_no_more_than_a_look_or_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that it was asked breaks at once; to look through the line for each would hold up the event loop."""
    looks = Counter[Ticket]()
    ends_s = Dispatch._ends_s

    def counted(dispatch: Dispatch, ticket: Waiting) -> float:
        looks[ticket] += 1
        return ends_s(dispatch, ticket)

    monkeypatch.setattr(Dispatch, "_ends_s", counted)
    host = MemoryHost(slot_count=64, told_slots=64)

    async def main() -> list[Any]:
        async with started(host, in_flight=64) as pool:
            works = [asyncio.create_task(run(pool, asking(), patience_s=5.0)) for _ in range(1000)]
            await asyncio.sleep(0.05)
            host.go_down()
            return await asyncio.gather(*works, return_exceptions=True)

    assert all(isinstance(result, HostUnreachable) for result in virtual_time.run(main()))
    assert looks.total() < 20 * 1000
