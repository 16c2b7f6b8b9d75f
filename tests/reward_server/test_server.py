import asyncio
import math
import time
from types import SimpleNamespace
from urllib.parse import quote

import grpc
import grpc.aio
import pytest
import structlog
from pydantic import SecretStr
from small_rewards import Chars, config_of, rule, scripted
from small_server import UNLIMITED, Served, request, serving
from waiting import until

from protos.reward.v1 import reward_pb2 as pb
from reward_server import __version__, servicer
from reward_server.config import Auth, Limits
from reward_server.domain import Needs, Status, Verdict, scored
from reward_server.errors import ConfigError
from reward_server.server import RewardServer

TOKEN = Auth(token=SecretStr("s3cret"))
BEARER = (("authorization", "Bearer s3cret"),)


async def refused(awaitable):
    """Returns the status code and the words with which a call is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await awaitable
    return raised.value.code(), raised.value.details()


def hanging():
    """Returns a scorer that scores the first sample and hangs; its class notes when it has begun and when it was cancelled."""

    async def score(samples, call):
        yield 0, scored(1.0)
        kind.begun.set()
        try:
            await asyncio.sleep(3600)
        finally:
            kind.cancelled.set()

    kind = scripted(score, begun=asyncio.Event(), cancelled=asyncio.Event())
    return kind


async def test_a_batch_is_scored_by_several_rewards_in_one_call():
    async with serving({"chars": Chars}, sums={"twice": {"chars": 2}}) as served:
        response = await served.score("twice", "chars", texts=["a", "bé"])
    assert [(result.name, list(result.scores)) for result in response.results] == [
        ("twice", [2, 4]),
        ("chars", [1, 2]),
    ]
    assert response.attempt_count == 1
    assert 0 < response.server_ms < 10_000
    assert len(response.results[0].version) == 16


async def test_an_empty_batch_has_empty_answers():
    async with serving({"chars": Chars}) as served:
        response = await served.score("chars", texts=[])
        pieces = [piece async for piece in served.stub.ScoreStream(pb.ScoreStreamRequest(rewards=response_selectors()))]
    assert [(result.name, list(result.scores)) for result in response.results] == [("chars", [])]
    assert pieces == []


def response_selectors():
    return [pb.RewardSelector(name="chars")]


async def test_ten_megabytes_among_64_get_their_own_status():
    texts = ["ok"] * 64
    texts[20] = "x" * 10_000_000
    async with serving({"chars": Chars}) as served:
        (result,) = (await served.score("chars", texts=texts)).results
    assert [index for index, status in enumerate(result.statuses) if status != pb.STATUS_SCORED] == [20]
    assert result.statuses[20] == pb.STATUS_FAILED
    assert math.isnan(result.scores[20])
    assert "the completion has 10,000,000 bytes, over the server's limit of 1,048,576" in result.status_reasons[0]


async def test_nan_from_a_scorer_is_a_failed_verdict_with_words():
    async with serving({"it": rule(lambda sample: Verdict(math.nan, Status.SCORED))}) as served:
        (result,) = (await served.score("it")).results
    assert list(result.statuses) == [pb.STATUS_FAILED] * 2
    assert list(result.status_reasons) == ["the scorer returned nan, which is not a finite number"]


async def test_refusals_have_the_status_that_says_what_to_do():
    needy = rule(lambda sample: scored(0.0), needs=Needs(required_columns=frozenset({"answer"})))
    async with serving({"chars": Chars, "needy": needy}) as served:
        versioned = request("chars")
        versioned.rewards[0].expected_version = "0123456789abcdef"
        too_few_groups = request("chars", texts=["a", "b"], group_indexes=[1])
        assert (await refused(served.score("chras")))[0] is grpc.StatusCode.NOT_FOUND
        assert (await refused(served.stub.Score(versioned)))[0] is grpc.StatusCode.FAILED_PRECONDITION
        code, words = await refused(served.score("needy"))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "needs the column 'answer'" in words
        code, words = await refused(served.stub.Score(too_few_groups))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert "`group_indexes`" in words
        code, words = await refused(served.score("chars", metadata=(("reward-step", "x"),)))
        assert code is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize("method", ["Score", "ScoreStream", "ListRewards"])
async def test_bytes_that_are_no_message_are_the_callers_fault(method):
    async with serving({"chars": Chars}) as served:
        path = f"/reward.v1.RewardService/{method}"
        if method == "ScoreStream":
            call = served.channel.unary_stream(path)(b"\xff\xff\xff").read()
        else:
            call = served.channel.unary_unary(path)(b"\xff\xff\xff")
        code, words = await refused(call)
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert f"these 3 bytes are no reward.v1.{method}Request" in words


async def test_invalid_utf8_in_a_name_is_the_callers_fault():
    data = request("chars").SerializeToString().replace(b"chars", b"ch\xffrs")
    async with serving({"chars": Chars}) as served:
        code, _ = await refused(served.channel.unary_unary("/reward.v1.RewardService/Score")(data))
    assert code is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_request_over_the_limit_is_told_the_limit():
    async with serving({"chars": Chars}, limits=Limits(max_request_mb=2)) as served:
        code, words = await refused(served.score("chars", texts=["x" * 2_500_000]))
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "over the server's limit of 2,097,152: send the batch in chunks, or raise limits.max_request_mb" in words


@pytest.mark.parametrize("method", ["Score", "ScoreStream"])
@pytest.mark.parametrize("field", ["completions", "prompts"])
@pytest.mark.parametrize("column", [{"texts": [b"\xff"] * 4}, {"message_counts": [-9] * 4}])  # to read either fails too
async def test_more_samples_than_the_limit_are_refused_before_they_are_read(column, field, method):
    batch = pb.Batch(**{field: pb.TextColumn(**column)})
    asked = {"Score": pb.ScoreRequest, "ScoreStream": pb.ScoreStreamRequest}[method](
        rewards=response_selectors(), batch=batch
    )
    async with serving({"chars": Chars}, limits=Limits(max_samples=3)) as served:
        call = getattr(served.stub, method)(asked)
        code, words = await refused(call if method == "Score" else call.read())
    assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert words == (
        f"the request has 4 {field}, over the server's limit of 3: "
        "score fewer at a time, or raise limits.max_samples of the server"
    )


@pytest.mark.parametrize("character", ["x", "é", "%", "\U0001f600", "\n"])
async def test_words_that_are_too_long_for_a_status_are_cut_as_they_travel(character):
    async with serving({"chars": Chars}) as served:
        code, words = await refused(served.score(character * 20_000 + "x"))
    assert code is grpc.StatusCode.NOT_FOUND
    assert words.startswith("there is no reward ")
    assert 1_900 < len(quote(words, safe="".join(map(chr, range(0x20, 0x7F))).replace("%", ""))) <= 2_000


async def test_a_log_that_fails_still_leaves_the_caller_a_status(monkeypatch):
    def fails(event, **_):
        if event == "call refused":
            raise OSError

    async with serving({"chars": Chars}) as served:
        monkeypatch.setattr(servicer, "log", SimpleNamespace(info=fails))
        assert (await refused(served.score("chras")))[0] is grpc.StatusCode.NOT_FOUND


async def test_more_calls_than_the_limit_are_turned_away_for_now():
    kind = hanging()
    async with serving({"it": kind, "chars": Chars}, limits=Limits(max_pending_calls=1)) as served:
        running = asyncio.create_task(served.score("it", timeout_s=3))
        await kind.begun.wait()
        code, words = await refused(served.score("chars"))
        assert code is grpc.StatusCode.UNAVAILABLE
        assert "limits.max_pending_calls" in words
        running.cancel()


async def test_a_bug_is_an_internal_error_without_the_texts():
    secret = "what a person wrote"
    async with serving({"chars": Chars}) as served:
        served.server._rewards.begin = lambda *_: {}[secret]
        with structlog.testing.capture_logs() as logs:
            code, words = await refused(served.score("chars", texts=[secret]))
    assert code is grpc.StatusCode.INTERNAL
    assert words == "a bug of the server (KeyError): see its log"
    assert any(line["event"] == "call failed" for line in logs)


async def test_logs_tell_of_a_call_before_it_is_scored_and_hold_no_texts():
    kind = hanging()
    metadata = (("reward-request-id", "r1"), ("reward-experiment", "exp"), ("reward-step", "3"), *BEARER)
    async with serving({"it": kind}, auth=TOKEN) as served:
        with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as logs:
            running = asyncio.create_task(served.score("it", texts=["secret text"], metadata=metadata, timeout_s=1))
            await kind.begun.wait()
            taken = [line for line in logs if line["event"] == "call taken"]
            await running
    assert [(line["rewards"], line["samples"], line["attempt"]) for line in taken] == [(["it"], 1, 1)]
    assert (taken[0]["request_id"], taken[0]["experiment"], taken[0]["step"]) == ("r1", "exp", 3)
    assert [line["missing"] for line in logs if line["event"] == "call answered"] == [0]
    assert "secret text" not in str(logs)
    assert "s3cret" not in str(logs)


async def test_the_answer_comes_before_the_deadline_with_what_is_ready():
    kind = hanging()
    async with serving({"it": kind, "chars": Chars}) as served:
        began = time.monotonic()
        response = await served.score("it", "chars", timeout_s=0.6)
        assert time.monotonic() - began < 0.6
        await asyncio.wait_for(kind.cancelled.wait(), 2)
    late, ready = response.results
    assert list(late.statuses) == [pb.STATUS_SCORED, pb.STATUS_FAILED]
    assert late.status_reasons[0].startswith("not ready before the call's deadline, 0.5 s")
    assert list(ready.scores) == [1, 2]


async def test_a_client_that_leaves_stops_its_work():
    kind = hanging()
    async with serving({"it": kind}) as served:
        running = asyncio.create_task(served.score("it"))
        await kind.begun.wait()
        running.cancel()
        await asyncio.wait_for(kind.cancelled.wait(), 5)


async def test_a_client_that_leaves_a_stream_stops_its_work():
    kind = hanging()
    async with serving({"it": kind}) as served:
        stream = served.stub.ScoreStream(
            pb.ScoreStreamRequest(rewards=request("it").rewards, batch=request("it").batch)
        )
        assert list((await stream.read()).results[0].sample_indexes) == [0]
        stream.cancel()
        await asyncio.wait_for(kind.cancelled.wait(), 5)


async def test_a_repeat_joins_its_first_attempt_and_counts_as_one_scoring():
    go = asyncio.Event()

    async def waits(samples, call):
        await go.wait()
        for index in range(len(samples)):
            yield index, scored(float(index))

    kind = scripted(waits)
    metadata = (("reward-request-id", "r1"),)
    async with serving({"it": kind}) as served:
        first = asyncio.create_task(served.score("it", metadata=metadata))
        await until(lambda: kind.events.count("score it"))
        first.cancel()  # the connection dies
        second = asyncio.create_task(served.score("it", metadata=(*metadata, ("reward-attempt", "1"))))
        await asyncio.sleep(0.05)
        go.set()
        answer = await second
        third = await served.score("it", metadata=(*metadata, ("reward-attempt", "2")))
        code, words = await refused(served.score("it", texts=["other"], metadata=metadata))
    assert list(answer.results[0].scores) == list(third.results[0].scores) == [0, 1]
    assert (answer.attempt_count, third.attempt_count) == (2, 3)
    assert kind.events.count("score it") == 1
    assert code is grpc.StatusCode.INVALID_ARGUMENT
    assert "every batch needs an id of its own" in words


async def test_two_clients_at_once_get_their_own_answers():
    async with serving({"chars": Chars}) as served, grpc.aio.insecure_channel(served.server.target) as channel:
        other = Served(served.server, channel)
        texts = [["x" * n] * n for n in range(1, 30)]
        answers = await asyncio.gather(*((served, other)[n % 2].score("chars", texts=t) for n, t in enumerate(texts)))
    assert [list(answer.results[0].scores) for answer in answers] == [[len(t)] * len(t) for t in texts]


async def test_a_stream_gives_pieces_as_they_are_ready():
    async def slowly(samples, call):
        for index in (1, 0):
            yield index, scored(float(index))
            await asyncio.sleep(0.1)

    batch = request("slow", "chars")
    async with serving({"slow": scripted(slowly), "chars": Chars}) as served:
        stream = served.stub.ScoreStream(pb.ScoreStreamRequest(rewards=batch.rewards, batch=batch.batch), timeout=10)
        pieces = [piece async for piece in stream]
    assert len(pieces) >= 2
    seen = [
        (result.name, index, score)
        for piece in pieces
        for result in piece.results
        for index, score in zip(result.sample_indexes, result.scores, strict=True)
    ]
    assert sorted(seen) == [("chars", 0, 1), ("chars", 1, 2), ("slow", 0, 0), ("slow", 1, 1)]
    assert seen[-1][0] == "slow"
    assert {piece.attempt_count for piece in pieces} == {1}


async def test_the_list_tells_rewards_limits_and_release():
    async with serving({"chars": Chars}, sums={"twice": {"chars": 2}}, limits=Limits(max_request_mb=3)) as served:
        listing = await served.stub.ListRewards(pb.ListRewardsRequest())
        response = await served.score("chars")
    assert [(reward.name, reward.kind, reward.health) for reward in listing.rewards] == [
        ("chars", "chars", pb.HEALTH_SERVING),
        ("twice", "sum", pb.HEALTH_SERVING),
    ]
    assert not listing.rewards[0].HasField("min_score")
    assert listing.rewards[0].version == response.results[0].version
    assert (listing.max_request_bytes, listing.max_completion_bytes) == (3 << 20, 1 << 20)
    assert listing.server_version == __version__


@pytest.mark.parametrize("metadata", [(), (("authorization", "Bearer guess"),), (("authorization", "s3cret"),)])
async def test_without_the_token_nothing_is_told(metadata):
    async with serving({"chars": Chars}, auth=TOKEN) as served:
        stream = served.stub.ScoreStream(pb.ScoreStreamRequest(), metadata=metadata)
        calls = [
            served.score("chars", metadata=metadata),
            served.stub.ListRewards(pb.ListRewardsRequest(), metadata=metadata),
        ]
        for call in (*calls, stream.read()):
            assert (await refused(call))[0] is grpc.StatusCode.UNAUTHENTICATED


async def test_with_the_token_everything_works():
    async with serving({"chars": Chars}, auth=TOKEN) as served:
        assert list((await served.score("chars", metadata=BEARER)).results[0].scores) == [1, 2]
        assert (await served.stub.ListRewards(pb.ListRewardsRequest(), metadata=BEARER)).rewards


async def test_off_loopback_it_refuses_to_start_unless_told_so():
    config = config_of({"chars": Chars}, listen="0.0.0.0:0")
    with pytest.raises(ConfigError, match="can be reached from other machines"):
        async with RewardServer(config):
            raise AssertionError
    async with serving({"chars": Chars}, listen="0.0.0.0:0", insecure=True) as served:
        port = served.server.target.rpartition(":")[2]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=UNLIMITED) as channel:
            assert (await Served(served.server, channel).score("chars")).results


async def test_messages_of_megabytes_pass_both_ways():
    async with serving({"it": rule(lambda sample: scored(1.0, sample.completion))}) as served:
        text = "x" * 1_000_000
        (result,) = (await served.score("it", texts=[text] * 8)).results
    assert [len(each.text) for each in result.explanations] == [1_000_000] * 8
