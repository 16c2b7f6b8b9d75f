"""One suite for the blocking and the asyncio client, over a real port."""

from __future__ import annotations

import json
import time

import grpc
import pytest
from fake_reward_server import decoded, fails

from protos.reward.v1 import reward_pb2 as pb
from trainer.client import Health, Status
from trainer.client.channel import RETRIED, service_config
from trainer.client.failures import ERROR_OF
from trainer.errors import (
    DeadlineExceeded,
    NotAllowed,
    NotServed,
    RequestRefused,
    RewardError,
    ServerBroke,
    TooLarge,
    UnknownReward,
)

Code = grpc.StatusCode


def test_several_rewards_are_scored_in_one_call(server, connect):
    result = connect(server.target).score(rewards=["b", "a"], prompts=["p", "p"], completions=["one", "three"])

    assert list(result.rewards) == ["b", "a"]
    assert result.rewards["a"].scores == result.rewards["b"].scores == [3.0, 5.0]
    assert result.rewards["a"].version == "a-1"
    assert (result.attempt_count, result.chunk_count, result.server_ms) == (1, 1, 1.5)
    assert result.wall_ms > 0
    assert len(server.requests) == 1


def test_who_asks_travels_as_metadata(server, connect):
    connect(server.target, token="secret", experiment="e1", run_id="r1").score(rewards=["a"], completions=["x"], step=7)

    (metadata,) = server.metadata
    assert metadata["authorization"] == "Bearer secret"
    assert metadata["reward-experiment"] == "e1"
    assert metadata["reward-run-id"] == "r1"
    assert metadata["reward-step"] == "7"
    assert metadata["reward-attempt"] == "0"
    assert len(metadata["reward-request-id"]) == 32


def test_the_catalogue_is_asked_for_once(server, connect):
    client = connect(server.target)

    for _ in range(3):
        client.score(rewards=["a"], completions=["x"])

    assert server.list_count == 1
    assert list(client.catalog.rewards) == ["a", "b"]


def test_a_submitted_batch_is_on_its_way_before_it_is_collected(server, connect):
    client = connect(server.target)

    first = client.submit(rewards=["a"], completions=["xx"])
    second = client.submit(rewards=["a"], completions=["xxx"])

    assert second.collect().rewards["a"].scores == [3.0]
    assert first.collect().rewards["a"].scores == first.collect().rewards["a"].scores == [2.0]


def test_an_empty_batch_has_no_verdicts_and_costs_no_call(server, connect):
    client = connect(server.target)

    assert client.score(rewards=["a"], completions=[]).rewards["a"].scores == []
    assert client.submit(rewards=["a"], completions=[]).collect().attempt_count == 0
    assert server.requests == []


@pytest.mark.parametrize("code", [Code.UNAVAILABLE, Code.CANCELLED])
def test_a_passing_failure_is_tried_again_with_the_same_request_id(server, connect, code):
    server.script += [fails(code), fails(code)]

    result = connect(server.target).score(rewards=["a"], completions=["xx"])

    assert result.rewards["a"].scores == [2.0]
    assert len(server.requests) == 3
    assert len({metadata["reward-request-id"] for metadata in server.metadata}) == 1
    assert server.metadata[-1]["grpc-previous-rpc-attempts"] == "2"


def test_a_request_of_megabytes_is_tried_again_too(server, connect):
    server.max_completion_bytes = 8 << 20
    server.script += [fails(Code.UNAVAILABLE)]

    result = connect(server.target).score(rewards=["a"], completions=["x" * (5 << 20)])

    assert result.rewards["a"].scores == [float(5 << 20)]
    assert len(server.requests) == 2


def test_what_grpc_gives_up_on_is_sent_again_as_a_further_attempt(server, connect):
    server.script += [fails(Code.UNAVAILABLE)] * 5

    result = connect(server.target).score(rewards=["a"], completions=["xx"])

    assert result.attempt_count == 2
    assert [metadata["reward-attempt"] for metadata in server.metadata] == ["0"] * 5 + ["1"]
    assert len({metadata["reward-request-id"] for metadata in server.metadata}) == 1


@pytest.mark.parametrize(
    ("code", "error", "words"),
    [
        (Code.UNKNOWN, ServerBroke, "as scripted; see the server's log"),
        (Code.INTERNAL, ServerBroke, "as scripted"),
        (Code.INVALID_ARGUMENT, RequestRefused, "as scripted"),
        (Code.NOT_FOUND, UnknownReward, "as scripted"),
        (Code.FAILED_PRECONDITION, NotServed, "as scripted; see what is served"),
        (Code.UNAUTHENTICATED, NotAllowed, "as scripted; give the server's token as token= or token_file="),
        (Code.RESOURCE_EXHAUSTED, TooLarge, "as scripted"),
    ],
)
def test_a_refusal_is_an_error_at_once_with_the_servers_own_words(server, connect, code, error, words):
    server.script += [fails(code)]

    with pytest.raises(error, match=f"reward server {server.target}: {words}"):
        connect(server.target).score(rewards=["a"], completions=["xx"])

    assert len(server.requests) == 1


def test_every_status_code_has_its_error():
    assert set(ERROR_OF) == set(Code) - {Code.OK}
    assert all(issubclass(error, RewardError) for error in ERROR_OF.values())


def test_only_lost_connections_are_retried_by_grpc():
    (method,) = json.loads(service_config())["methodConfig"]

    assert set(method["retryPolicy"]["retryableStatusCodes"]) == set(RETRIED) == {"UNAVAILABLE", "CANCELLED"}
    assert method["retryPolicy"]["maxAttempts"] == 5


def test_a_reward_that_the_server_got_meanwhile_is_found(server, connect):
    client = connect(server.target)
    client.list_rewards()
    server.reward("new")

    assert client.score(rewards=["new"], completions=["xx"]).rewards["new"].scores == [2.0]


def test_a_column_that_a_reward_needs_since_a_restart_is_sent(server, connect):
    client = connect(server.target)
    client.score(rewards=["a"], completions=["x"], columns={"answer": ["1"]})
    server.reward("a", version="a-2", required_columns=["answer"])
    server.script += [fails(Code.INVALID_ARGUMENT, "reward 'a' needs the column 'answer'")]

    client.score(rewards=["a"], completions=["x"], columns={"answer": ["1"]})

    assert [[column.name for column in request.batch.columns] for request in server.requests] == [[], [], ["answer"]]
    assert len({metadata["reward-request-id"] for metadata in server.metadata[1:]}) == 2


def test_verdicts_of_a_version_that_reads_more_than_was_sent_are_not_taken(server, connect):
    client = connect(server.target)
    client.score(rewards=["a"], completions=["x"], columns={"hint": ["1"]})
    server.reward("a", version="a-2", optional_columns=["hint"])

    result = client.score(rewards=["a"], completions=["x"], columns={"hint": ["1"]})

    assert result.rewards["a"].version == "a-2"
    assert [column.name for column in server.requests[-1].batch.columns] == ["hint"]
    assert len(server.requests) == 3


def test_verdicts_of_a_version_with_the_same_needs_are_taken(server, connect):
    client = connect(server.target)
    client.score(rewards=["a"], completions=["x"])
    server.reward("a", version="a-2")

    assert client.score(rewards=["a"], completions=["x"]).rewards["a"].version == "a-2"
    assert len(server.requests) == 2


def test_chunks_are_sent_under_one_request_id_and_merged_in_order(server, connect):
    server.max_request_bytes = 3000
    completions = ["x" * (100 + number) for number in range(64)]

    result = connect(server.target).score(
        rewards=["a", "b"], prompts=[f"p{number // 8}" for number in range(64)], completions=completions
    )

    assert result.rewards["b"].scores == [float(len(text)) for text in completions]
    assert result.chunk_count == len(server.requests) > 1
    assert sorted(request.chunk_index for request in server.requests) == list(range(result.chunk_count))
    assert len({metadata["reward-request-id"] for metadata in server.metadata}) == 1
    assert all(len(decoded(request.batch.completions)) % 8 == 0 for request in server.requests)


def test_only_the_chunk_that_failed_is_sent_again(server, connect):
    server.max_request_bytes = 1500
    client = connect(server.target)
    client.list_rewards()

    def fail_second(request: pb.ScoreRequest, context: grpc.ServicerContext) -> None:
        if request.chunk_index == 1 and dict(context.invocation_metadata())["reward-attempt"] == "0":
            context.abort(Code.UNAVAILABLE, "gone")

    server.script += [fail_second] * 50
    result = client.score(rewards=["a"], completions=["x" * 400] * 8, groups=range(8))

    sent = [
        (request.chunk_index, m["reward-attempt"]) for request, m in zip(server.requests, server.metadata, strict=True)
    ]
    assert result.rewards["a"].scores == [400.0] * 8
    assert result.attempt_count == 2
    assert {index for index, attempt in sent if attempt == "1"} == {1}


def test_chunks_never_mix_versions(server, connect):
    server.max_request_bytes = 1500
    client = connect(server.target)
    client.list_rewards()

    def change_then_check(request: pb.ScoreRequest, context: grpc.ServicerContext) -> None:
        if request.chunk_index == 2:
            server.reward("a", version="a-2")
        expected = request.rewards[0].expected_version
        if expected != next(reward.version for reward in server.rewards if reward.name == "a"):
            context.abort(Code.FAILED_PRECONDITION, f"not {expected}")

    server.script += [change_then_check] * 100
    result = client.score(rewards=["a"], completions=["x" * 400] * 16, groups=range(16))

    assert result.rewards["a"].version == "a-2"
    last = server.metadata[-1]["reward-request-id"]
    whole = [r for r, m in zip(server.requests, server.metadata, strict=True) if m["reward-request-id"] == last]
    assert {request.rewards[0].expected_version for request in whole} == {"a-2"}
    assert len(whole) == result.chunk_count


def test_a_configuration_that_never_settles_is_an_error(server, connect):
    client = connect(server.target)

    def change(request: pb.ScoreRequest, context: grpc.ServicerContext) -> None:
        server.reward("a", version=f"a-{len(server.requests)}x")
        context.abort(Code.FAILED_PRECONDITION, "not that version")

    server.script += [change] * 20
    with pytest.raises(
        NotServed, match="changed 4 times during one call; if several servers stand behind this address"
    ):
        client.score(rewards=["a"], completions=["x"])


def test_a_completion_of_ten_megabytes_fails_alone(server, connect):
    completions = ["fine"] * 63
    completions.insert(10, "x" * (10 << 20))

    verdicts = connect(server.target).score(rewards=["a"], completions=completions).rewards["a"]

    assert verdicts.statuses[10] is Status.FAILED
    assert "the completion has 10485760 bytes, over the server's limit of 1048576" in verdicts.reasons[10]
    assert verdicts.scores[:10] + verdicts.scores[11:] == [4.0] * 63
    assert len(decoded(server.requests[0].batch.completions)) == 63


def stalls(request: pb.ScoreRequest, context: grpc.ServicerContext) -> None:
    """A behaviour that takes longer than `deadline_s=0.5` allows."""
    time.sleep(2)


def test_a_server_that_lives_but_did_not_answer_in_time_is_asked_once_more(server, connect):
    server.script += [stalls]
    told: list[str] = []

    result = connect(server.target, progress=told.append).score(rewards=["a"], completions=["x"], deadline_s=0.5)

    assert result.rewards["a"].scores == [1.0]
    assert server.requests[0] == server.requests[1]
    assert len({metadata["reward-request-id"] for metadata in server.metadata}) == 1
    assert told == [
        f"reward server {server.target} lives, but did not answer in time (no answer within 0.5 s); it is asked once more"
    ]


def test_only_the_chunk_that_was_too_slow_is_asked_for_once_more(server, connect):
    server.max_request_bytes = 1500
    client = connect(server.target)
    client.list_rewards()

    def stall_second(request: pb.ScoreRequest, context: grpc.ServicerContext) -> None:
        if request.chunk_index == 1 and dict(context.invocation_metadata())["reward-attempt"] == "0":
            time.sleep(2)

    server.script += [stall_second] * 50
    client.score(rewards=["a"], completions=["x" * 400] * 8, groups=range(8), deadline_s=1)

    sent = zip(server.requests, server.metadata, strict=True)
    assert [request.chunk_index for request, metadata in sent if metadata["reward-attempt"] == "1"] == [1]


def test_a_server_that_is_too_slow_twice_in_a_row_is_an_error(server, connect):
    server.script += [stalls] * 3

    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.5 s; it lives, but is too slow: raise deadline_s"):
        connect(server.target, deadline_s=60).score(rewards=["a"], completions=["x"], deadline_s=0.5)

    assert len(server.requests) == 2


def test_a_server_that_is_too_slow_stops_a_run_that_does_not_wait(server, connect):
    server.script += [stalls]

    with pytest.raises(DeadlineExceeded, match="it lives, but is too slow"):
        connect(server.target, on_outage="stop").score(rewards=["a"], completions=["x"], deadline_s=0.5)

    assert len(server.requests) == 1


def test_verdicts_of_a_server_that_is_too_slow_may_be_missing(server, connect):
    server.script += [stalls]

    verdicts = connect(server.target, on_outage="missing").score(rewards=["a"], completions=["x"], deadline_s=0.5)

    assert verdicts.rewards["a"].statuses == [Status.FAILED]
    assert "no answer within 0.5 s; it lives, but is too slow" in verdicts.rewards["a"].reasons[0]
    assert len(server.requests) == 1


def test_an_answer_for_other_samples_is_an_error(server, connect):
    server.script += [lambda request, context: pb.ScoreResponse(results=[pb.RewardVerdicts(name="a", scores=[1.0])])]

    with pytest.raises(ServerBroke, match="1 scores and 0 statuses for 2 samples"):
        connect(server.target).score(rewards=["a"], completions=["x", "y"])


def test_health_is_that_of_the_server_or_of_one_reward(server, connect):
    client = connect(server.target)

    server.health.set("rewards/a", 2)

    assert client.health() is Health.SERVING
    assert client.health("a") is Health.NOT_SERVING
    assert client.health("nope") is Health.UNKNOWN
