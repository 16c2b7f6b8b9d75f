"""A reward that no later try can serve: calls for it are refused, and everything else says so."""

import grpc
import pytest
from small_rewards import Chars, rule, scripted
from small_server import serving

from reward_server.domain import HEALTHY, Health, scored

BROKEN = Health(serving=False, reason="the sandbox does not hold: user namespaces are forbidden", refuses=True)


async def nothing(samples, call):
    for index, _ in enumerate(samples):
        yield index, scored(1.0)


async def test_a_call_for_it_is_refused_with_the_reason():
    async with serving({"code": scripted(nothing, said_health=BROKEN), "chars": Chars}) as served:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.score("chars", "code")
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "'code' cannot be served: the sandbox does not hold" in refused.value.details()


async def test_other_rewards_are_served():
    async with serving({"code": scripted(nothing, said_health=BROKEN), "chars": Chars}) as served:
        answer = await served.score("chars")
    assert list(answer.results[0].scores) == [1.0, 2.0]


async def test_a_reward_made_of_it_is_refused_too():
    parts = {"code": scripted(nothing, said_health=BROKEN), "chars": Chars}
    async with serving(parts, sums={"all": {"chars": 1.0, "code": 1.0}}) as served:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.score("all")
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_one_that_is_merely_away_is_no_reason_to_refuse():
    away = Health(serving=False, reason="no host")
    async with serving({"judged": scripted(nothing, said_health=away)}) as served:
        assert list((await served.score("judged")).results[0].scores) == [1.0, 1.0]


async def test_one_that_serves_again_is_asked_again():
    kind = scripted(nothing, said_health=BROKEN)
    async with serving({"code": kind}) as served:
        with pytest.raises(grpc.aio.AioRpcError):
            await served.score("code")
        kind.said_health = HEALTHY
        assert list((await served.score("code")).results[0].scores) == [1.0, 1.0]


def test_a_rule_refuses_nothing():
    assert not rule(lambda sample: scored(1.0))(None, None).health().refuses
