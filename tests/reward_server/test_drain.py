import asyncio
import time

import grpc
import grpc.aio
import pytest
import structlog
from grpc_health.v1 import health_pb2, health_pb2_grpc
from small_rewards import Chars, scripted
from small_server import serving

from reward_server.config import Drain
from reward_server.domain import scored


class Gate:
    """A reward that answers when it is told to, and notes when it is cancelled."""

    def __init__(self):
        self.begun, self.go, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.kind = scripted(self._score)

    async def _score(self, samples, call):
        self.begun.set()
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        for index in range(len(samples)):
            yield index, scored(1.0)


async def draining(served):
    """Tells the server to stop and returns when it has shown that it does."""
    stop = asyncio.Event()
    task = asyncio.create_task(served.server.serve_until(stop))
    await asyncio.sleep(0.02)
    stop.set()
    stub = health_pb2_grpc.HealthStub(served.channel)
    watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=5)
    while (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING:
        pass
    watch.cancel()
    return task


async def test_a_call_in_flight_finishes_and_gets_its_answer():
    gate = Gate()
    with structlog.testing.capture_logs() as logs:
        async with serving({"it": gate.kind}, drain=Drain(notice_s=0.3, grace_s=20)) as served:
            running = asyncio.create_task(served.score("it"))
            await gate.begun.wait()
            drained = await draining(served)
            await asyncio.sleep(0.5)
            gate.go.set()
            assert list((await running).results[0].scores) == [1, 1]
            began = time.monotonic()
            await drained
            assert time.monotonic() - began < 5  # it does not use up its grace
    assert [line["event"] for line in logs if line["event"] in ("serving", "draining", "stopped")] == [
        "serving",
        "draining",
        "stopped",
    ]


async def test_during_the_notice_calls_are_still_served():
    async with serving({"chars": Chars}, drain=Drain(notice_s=0.5, grace_s=5)) as served:
        drained = await draining(served)
        assert (await served.score("chars")).results
        await drained


async def test_after_the_notice_new_calls_are_unavailable():
    gate = Gate()
    async with serving({"it": gate.kind, "chars": Chars}, drain=Drain(notice_s=0.3, grace_s=20)) as served:
        running = asyncio.create_task(served.score("it"))
        await gate.begun.wait()
        drained = await draining(served)
        await asyncio.sleep(0.5)
        async with grpc.aio.insecure_channel(served.server.target) as channel:
            served.stub = type(served.stub)(channel)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await served.score("chars", timeout_s=2)
        assert raised.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        gate.go.set()
        await running
        await drained


async def test_a_call_that_outlasts_the_grace_is_cut_off_and_its_work_stopped():
    gate = Gate()
    async with serving({"it": gate.kind}, drain=Drain(notice_s=0.3, grace_s=0.2)) as served:
        running = asyncio.create_task(served.score("it", timeout_s=60, metadata=(("reward-request-id", "r1"),)))
        await gate.begun.wait()
        began = time.monotonic()
        await (await draining(served))
        assert time.monotonic() - began < 5
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await running
        assert raised.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert gate.cancelled.is_set()


async def test_those_who_watch_health_do_not_hold_up_the_end():
    async with serving({"chars": Chars}, drain=Drain(notice_s=0.3, grace_s=60)) as served:
        watch = health_pb2_grpc.HealthStub(served.channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        began = time.monotonic()
        drained = await draining(served)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await drained
        assert time.monotonic() - began < 10
        watch.cancel()


async def test_leaving_without_draining_leaves_no_task_behind():
    gate = Gate()
    before = asyncio.all_tasks()
    async with serving({"it": gate.kind}) as served:
        running = asyncio.create_task(served.score("it"))
        await gate.begun.wait()
        running.cancel()
    await asyncio.wait({running})
    assert gate.cancelled.is_set()
    left = {task for task in asyncio.all_tasks() - before if "RewardServicer" in repr(task) or "Arrivals" in repr(task)}
    assert left == set()
