import grpc
import grpc.aio
import pytest
import structlog
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from pydantic import SecretStr
from small_rewards import Chars, scripted
from small_server import serving

from reward_server import health
from reward_server.config import Auth
from reward_server.domain import HEALTHY, Health, scored
from reward_server.rewards import Rewards

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
TOKEN = Auth(token=SecretStr("s3cret"))
BEARER = (("authorization", "Bearer s3cret"),)


async def nothing(samples, call):
    for index in range(len(samples)):
        yield index, scored(1.0)


def ill():
    return scripted(nothing, said_health=Health(serving=False, reason="no connection to gpu-box: start Ollama there"))


@pytest.fixture
def quick_board(monkeypatch):
    """Lets changes show at once."""
    monkeypatch.setattr(health.HealthBoard.__init__, "__defaults__", (0.02,))


async def status_of(served, name):
    stub = health_pb2_grpc.HealthStub(served.channel)
    return (await stub.Check(health_pb2.HealthCheckRequest(service=name), timeout=5)).status


async def test_the_server_serves_though_a_reward_does_not():
    async with serving({"chars": Chars, "ill": ill()}) as served:
        names = ("", "reward.v1.RewardService", "rewards/chars", "rewards/ill")
        assert [await status_of(served, name) for name in names] == [SERVING, SERVING, SERVING, NOT_SERVING]


async def test_an_unknown_name_is_not_found():
    async with serving({"chars": Chars}) as served:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await status_of(served, "rewards/nix")
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND


async def test_health_needs_no_token():
    async with serving({"chars": Chars}, auth=TOKEN) as served:
        assert await status_of(served, "") == SERVING


@pytest.mark.usefixtures("quick_board")
async def test_a_watcher_hears_of_a_reward_that_falls_ill_and_recovers():
    kind = ill()
    kind.said_health = HEALTHY
    with structlog.testing.capture_logs() as logs:
        async with serving({"it": kind}) as served:
            watch = health_pb2_grpc.HealthStub(served.channel).Watch(
                health_pb2.HealthCheckRequest(service="rewards/it"), timeout=20
            )
            seen = [(await watch.read()).status]
            for now in (Health(serving=False, reason="model missing"), HEALTHY):
                kind.said_health = now
                seen.append((await watch.read()).status)
            watch.cancel()
    assert seen == [SERVING, NOT_SERVING, SERVING]
    told = [(line["event"], line["log_level"], line.get("reason")) for line in logs if "reward" in line]
    assert told == [("reward does not serve", "warning", "model missing"), ("reward serves", "info", "")]


@pytest.mark.usefixtures("quick_board")
async def test_a_health_that_raises_does_not_freeze_that_of_others(monkeypatch):
    kind = ill()
    kind.said_health = HEALTHY
    async with serving({"it": kind}) as served:
        real, left = Rewards.health, [3]

        def flaky(self):
            left[0] -= 1
            if left[0] >= 0:
                raise OSError
            return real(self)

        monkeypatch.setattr(Rewards, "health", flaky)
        kind.said_health = Health(serving=False, reason="model missing")
        watch = health_pb2_grpc.HealthStub(served.channel).Watch(
            health_pb2.HealthCheckRequest(service="rewards/it"), timeout=5
        )
        while (await watch.read()).status != NOT_SERVING:
            pass
        watch.cancel()


async def reflected(served, metadata=(), **question):
    stub = reflection_pb2_grpc.ServerReflectionStub(served.channel)
    asked = reflection_pb2.ServerReflectionRequest(**question)
    async for answer in stub.ServerReflectionInfo(iter([asked]), metadata=metadata, timeout=5):
        return answer
    return None


async def test_reflection_lists_the_services_and_describes_them():
    async with serving({"chars": Chars}) as served:
        answer = await reflected(served, list_services="")
        file = await reflected(served, file_containing_symbol="reward.v1.RewardService")
    names = {service.name for service in answer.list_services_response.service}
    assert {"reward.v1.RewardService", "grpc.health.v1.Health"} <= names
    described = descriptor_pb2.FileDescriptorProto.FromString(file.file_descriptor_response.file_descriptor_proto[0])
    assert "ScoreRequest" in [message.name for message in described.message_type]


async def test_reflection_wants_the_token():
    async with serving({"chars": Chars}, auth=TOKEN) as served:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await reflected(served, list_services="")
        assert await reflected(served, BEARER, list_services="")
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
