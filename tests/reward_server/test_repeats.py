import asyncio
import time

import pytest
from small_rewards import rewards_of, scripted
from waiting import until

from reward_server.domain import Call, Sample, failed, scored
from reward_server.errors import MalformedRequest
from reward_server.scoring import Selector
from reward_server.sharing.repeats import VERDICT_BYTES, CallKey, Repeats

SAMPLES = [Sample("a"), Sample("b")]


class Bench:
    """A reward whose scoring a test holds back, and calls of it."""

    def __init__(self, **repeats):
        self.begun = 0
        self.cancelled = asyncio.Event()
        self.go = asyncio.Event()
        self.verdict = scored(1.0)
        self.joined = 0
        self.repeats = Repeats(**repeats)
        self.rewards = rewards_of({"it": scripted(self._score)})

    async def __aenter__(self):
        await self.rewards.__aenter__()
        return self

    async def __aexit__(self, *error):
        self.repeats.close()
        await self.rewards.__aexit__(*error)

    async def _score(self, samples, call):
        self.begun += 1
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        for index in range(len(samples)):
            yield index, self.verdict

    async def call(self, request_id="r1", *, fingerprint=7, deadline_s=5.0, chunk=0, experiment="e", rewards=("it",)):
        call = Call(deadline=time.monotonic() + deadline_s)
        selectors = tuple(Selector(name) for name in rewards)

        def joined():
            self.joined += 1

        results = await self.repeats.answer(
            CallKey(experiment, request_id, chunk, selectors),
            fingerprint,
            call.deadline,
            begin=lambda: self.rewards.begin(selectors, SAMPLES, call),
            joined=joined,
        )
        return [verdict.score for verdict in results[0].verdicts]

    async def started(self, **options):
        """Returns a call that runs."""
        task = asyncio.create_task(self.call(**options))
        before = self.begun
        await until(lambda: self.begun > before)
        return task


async def test_a_repeat_joins_the_call_that_runs():
    async with Bench() as bench:
        calls = [await bench.started(), asyncio.create_task(bench.call()), asyncio.create_task(bench.call())]
        await asyncio.sleep(0.01)
        bench.go.set()
        assert await asyncio.gather(*calls) == [[1, 1]] * 3
        assert (bench.begun, bench.joined) == (1, 2)


async def test_a_repeat_after_the_end_gets_the_answer():
    async with Bench() as bench:
        bench.go.set()
        assert await bench.call() == await bench.call() == [1, 1]
        assert (bench.begun, bench.joined) == (1, 1)


@pytest.mark.parametrize("other", [{"request_id": "r2"}, {"chunk": 1}, {"experiment": "f"}])
async def test_another_call_is_no_repeat(other):
    async with Bench() as bench:
        bench.go.set()
        await bench.call()
        await bench.call(**other)
        assert bench.begun == 2


@pytest.mark.parametrize("running", [True, False])
async def test_the_same_id_with_other_content_is_refused(running):
    async with Bench() as bench:
        if not running:
            bench.go.set()
        first = await bench.started()
        if not running:
            await first
        with pytest.raises(MalformedRequest, match="'r1' was used before, for another batch"):
            await bench.call(fingerprint=8)
        bench.go.set()
        await first


async def test_a_client_that_comes_back_finds_its_work_going_on():
    async with Bench() as bench:
        first = await bench.started()
        first.cancel()
        await asyncio.wait({first})
        again = asyncio.create_task(bench.call())
        await asyncio.sleep(0.01)
        bench.go.set()
        assert await again == [1, 1]
        assert bench.begun == 1


async def test_work_that_ends_while_nobody_waits_is_the_answer_of_who_comes_back():
    async with Bench() as bench:
        first = await bench.started()
        first.cancel()
        bench.go.set()
        await asyncio.sleep(0.02)
        assert await bench.call() == [1, 1]
        assert bench.begun == 1


async def test_work_that_nobody_comes_back_for_is_stopped():
    async with Bench(grace_s=0.05) as bench:
        first = await bench.started()
        first.cancel()
        await asyncio.wait_for(bench.cancelled.wait(), 2)
        bench.go.set()
        assert await bench.call() == [1, 1]
        assert bench.begun == 2


async def test_one_client_leaving_disturbs_no_other():
    async with Bench(grace_s=0.0) as bench:
        first = await bench.started()
        second = asyncio.create_task(bench.call())
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0.02)
        bench.go.set()
        assert await second == [1, 1]
        assert bench.begun == 1


async def test_who_joins_answers_by_his_own_deadline():
    async with Bench() as bench:
        first = await bench.started()
        began = time.monotonic()
        assert await bench.call(deadline_s=0.1) == [None, None]
        assert time.monotonic() - began < 2
        bench.go.set()
        assert await first == [1, 1]


async def test_who_has_more_time_than_the_work_he_joined_tries_again():
    async with Bench() as bench:
        first = await bench.started(deadline_s=0.1)
        second = asyncio.create_task(bench.call(deadline_s=5))
        assert await first == [None, None]
        bench.go.set()
        assert await second == [1, 1]
        assert bench.begun == 2


async def test_an_answer_with_failures_is_not_kept():
    async with Bench() as bench:
        bench.go.set()
        bench.verdict = failed("dead host")
        assert await bench.call() == [None, None]
        bench.verdict = scored(1.0)
        assert await bench.call() == [1, 1]


async def test_answers_are_kept_for_a_time():
    async with Bench(keep_s=0.05) as bench:
        bench.go.set()
        await bench.call()
        await asyncio.sleep(0.1)
        await bench.call()
        assert bench.begun == 2


@pytest.mark.parametrize("limit", [{"max_count": 2}, {"max_bytes": 2 * len(SAMPLES) * VERDICT_BYTES}])
async def test_memory_is_bounded_and_what_was_used_last_stays(limit):
    async with Bench(**limit) as bench:
        bench.go.set()
        for request_id in ("r1", "r2", "r1", "r3"):  # r2 is the least recently used
            await bench.call(request_id)
        assert bench.begun == 3
        await bench.call("r1")
        assert bench.begun == 3
        await bench.call("r2")
        assert bench.begun == 4


async def test_closing_stops_the_work():
    async with Bench() as bench:
        first = await bench.started()
        bench.repeats.close()
        await asyncio.wait_for(bench.cancelled.wait(), 2)
        assert await first == [None, None]


async def test_a_refused_call_leaves_nothing_behind():
    async with Bench() as bench:
        for _ in range(2):
            with pytest.raises(Exception, match="no reward 'nix'"):
                await bench.call(rewards=("nix",))
        assert bench.joined == 0
