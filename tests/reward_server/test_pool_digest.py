"""No result of a model that is not the one that was asked for: whenever the model behind the name changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
import virtual_time
from memory_host import MemoryHost
from memory_pool import MemoryPool, asking, question, run, run_batch, started

from reward_server.engines.base import Place
from reward_server.errors import ModelChanged


def changing(**options: Any) -> MemoryHost:
    return MemoryHost(**{"digest_may_change": True} | options)


def change(host: MemoryHost, digest: str = "d2") -> Callable[[], None]:
    return lambda: setattr(host, "digest", digest)


def test_the_first_look_tells_the_digest() -> None:
    async def main() -> None:
        pool = MemoryPool("box", [changing()], context_tokens=None)
        assert pool.digest is None
        await pool.start()
        assert pool.digest == "d1"
        assert pool.identity()["digest"] == "d1"
        await pool.close()

    virtual_time.run(main())


def test_a_host_of_another_digest_is_held_out_with_the_remedy() -> None:
    hosts = [MemoryHost("a", digest="d1"), MemoryHost("b", digest="d2")]

    async def main() -> str:
        async with started(*hosts) as pool:
            assert set((await run_batch(pool, 32)).results) == {"a"}
            return pool.health().reason

    reason = virtual_time.run(main())
    assert "d1" in reason
    assert "d2" in reason
    assert "on_model_change" in reason
    assert not hosts[1].questions


@pytest.mark.parametrize("when", ["long before", "just before", "during", "after the answer", "while it is looked at"])
@pytest.mark.parametrize("policy", ["refuse", "new_version"])
def test_a_result_never_counts_when_the_model_has_changed(when: str, policy: str) -> None:
    host = changing(seconds=1.0)

    async def work(place: Place) -> str:
        if when == "just before":
            host.digest = "d2"
        await place.ask(question())
        if when == "after the answer":
            host.digest = "d2"
        return "done"

    async def main() -> None:
        async with started(host, on_model_change=policy) as pool:
            await run(pool, asking())
            loop = asyncio.get_running_loop()
            if when == "long before":
                host.digest = "d2"
                await asyncio.sleep(6.0)
            elif when == "during":
                loop.call_later(0.5, change(host))
            elif when == "while it is looked at":
                host.look_s = 0.05
                loop.call_later(1.02, change(host))
            with pytest.raises(ModelChanged):
                await run(pool, work, patience_s=1.0)

    virtual_time.run(main())


def test_a_result_counts_when_the_model_changes_after_the_look_that_confirms_it() -> None:
    host = changing(seconds=1.0)

    async def main() -> str:
        async with started(host) as pool:
            looks = len(host.looks)
            result = await run(pool, asking())
            assert len(host.looks) == looks + 1
            host.digest = "d2"
            return result

    assert virtual_time.run(main()) == "host"


def test_looks_are_shared_by_the_results_that_wait_and_do_not_hammer_the_host() -> None:
    host = changing(slot_count=8, seconds=0.05)

    async def main() -> tuple[float, int]:
        async with started(host) as pool:
            batch = await run_batch(pool)
            assert batch.results == ["host"] * 512
            return batch.done_s[-1] - batch.began_s, len(host.looks)

    took_s, looks = virtual_time.run(main())
    assert looks <= took_s / 0.1 + 2
    assert took_s < 1.15 * 512 * 0.05 / 8  # waiting to be confirmed holds no place


def test_a_host_whose_model_cannot_change_is_not_looked_at_for_each_result() -> None:
    host = MemoryHost()

    async def main() -> None:
        async with started(host) as pool:
            await run(pool, asking())

    virtual_time.run(main())
    assert not host.looks


def test_a_look_that_is_old_is_repeated_before_the_host_is_asked() -> None:
    host = changing()

    async def main() -> None:
        async with started(host) as pool:
            await asyncio.sleep(10.0)
            await run(pool, asking())

    virtual_time.run(main())
    assert host.looks[0] <= host.sent_s[0]
    assert len(host.looks) == 2


def test_refusing_names_both_digests_and_ends_when_the_old_one_is_back() -> None:
    host = changing()

    async def main() -> None:
        async with started(host) as pool:
            host.digest = "d2"
            await pool.check()
            assert not pool.health().serving
            assert "d2" in pool.health().reason
            assert "d1" in pool.health().reason
            assert pool.digest == "d1"
            host.digest = "d1"
            await asyncio.sleep(6.0)
            assert await run(pool, asking()) == "host"

    virtual_time.run(main())


def test_work_goes_on_at_the_hosts_that_have_not_changed() -> None:
    hosts = [changing(label="a", slot_count=4), changing(label="b", slot_count=4)]

    async def main() -> list[Any]:
        async with started(*hosts) as pool:
            asyncio.get_running_loop().call_later(2.0, change(hosts[0]))
            batch = await run_batch(pool, 256, attempts=1)
            assert pool.digest == "d1"
            return batch.results

    results = virtual_time.run(main())
    assert set(results) == {"a", "b"}
    assert len(results) == 256


def test_a_new_version_is_served_once_no_host_has_the_old_one() -> None:
    hosts = [changing(label="a"), changing(label="b")]

    async def main() -> None:
        async with started(*hosts, on_model_change="new_version") as pool:
            hosts[0].digest = "d2"
            await asyncio.sleep(40.0)
            assert pool.digest == "d1"
            assert await run(pool, asking()) == "b"
            hosts[1].digest = "d2"
            await asyncio.sleep(40.0)
            assert pool.digest == "d2"
            assert set((await run_batch(pool, 16)).results) == {"a", "b"}

    virtual_time.run(main())


def test_a_new_model_proves_itself_before_it_is_asked() -> None:
    host = changing()

    async def main() -> None:
        async with started(host, on_model_change="new_version") as pool:
            host.digest = "d2"
            await asyncio.sleep(40.0)
            assert [asked.alternatives for asked in host.questions] == [20]
            await run(pool, asking())

    virtual_time.run(main())


def test_work_meant_for_the_old_model_is_not_done_by_the_new_one() -> None:
    """Its verdict would be stamped with a version that did not give it."""
    host = changing(seconds=1.0)

    async def main() -> None:
        async with started(host, on_model_change="new_version", in_flight=1) as pool:
            asyncio.get_running_loop().call_later(4.5, change(host))
            results = (await run_batch(pool, 16, patience_s=60.0)).results
            assert results[:4] == ["host"] * 4
            assert all(isinstance(result, ModelChanged) for result in results[4:])
            assert await run(pool, asking(), patience_s=60.0) == "host"

    virtual_time.run(main())


def test_hosts_that_start_with_two_models_agree_on_the_first_seen() -> None:
    hosts = [MemoryHost("a", digest="d1"), MemoryHost("b", digest="d2")]
    hosts[1].look_s = 0.05

    async def main() -> None:
        async with started(*hosts, on_model_change="new_version") as pool:
            await asyncio.sleep(20.0)
            assert pool.digest == "d1"
            assert set((await run_batch(pool, 16)).results) == {"a"}

    virtual_time.run(main())
