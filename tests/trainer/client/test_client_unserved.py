"""A server that lives, but cannot serve a reward, since the host of its judge is away: waited for, or not, in words."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from fake_reward_server import FakeServer, unserved, verdicts
from grpc import StatusCode

from protos.reward.v1 import reward_pb2 as pb
from trainer.client import Blame, ClientOptions, Status
from trainer.client.dialogue import Dialogue
from trainer.client.steps import Method, Pause, Send
from trainer.errors import RewardUnavailable, ServerUnreachable

AWAY = "the judge's host is not reachable"
MEND = "mend what stands behind it, `reward-server check` on the server's side says more"


@pytest.fixture
def hasty(monkeypatch):
    """Makes the client ask again soon."""
    monkeypatch.setattr("trainer.client.dialogue.PROBE_PAUSE_S", 0.02)
    monkeypatch.setattr("trainer.client.unserved.FIRST_PAUSE_S", 0.02)


def back_after(server: FakeServer, list_count: int) -> None:
    """Lets the server serve all again once it was asked so often what it offers."""
    server.before_listing = lambda _: server.away.clear() if server.list_count >= list_count else None


@pytest.mark.usefixtures("hasty")
def test_a_reward_that_is_served_again_is_waited_for_and_its_scores_are_whole(server, connect):
    server.away["b"] = AWAY
    back_after(server, 4)
    told: list[str] = []

    result = connect(server.target, progress=told.append).score(rewards=["a", "b"], completions=["xx", "y"])

    assert result.rewards["a"].scores == result.rewards["b"].scores == [2.0, 1.0]
    assert result.rewards["b"].blames == [Blame.UNKNOWN, Blame.UNKNOWN]
    assert len(server.requests) == 2
    assert server.requests[0] == server.requests[1]
    assert len({metadata["reward-request-id"] for metadata in server.metadata}) == 1
    assert [metadata["reward-attempt"] for metadata in server.metadata] == ["0", "1"]
    assert told == [
        f"reward 'b' cannot be served ({AWAY}); waiting up to 600 s; the run goes on when it is back ({MEND})",
        "reward 'b' is served again after 0 s",
    ]


@pytest.mark.usefixtures("hasty")
def test_it_is_waited_for_as_long_as_single_verdicts_are_lacking(server, connect):
    def lacking(*scores: float | None) -> Callable[..., pb.ScoreResponse]:
        blames = [pb.BLAME_OUTAGE if score is None else pb.BLAME_UNSPECIFIED for score in scores]
        reasons = [AWAY if score is None else "" for score in scores]
        return lambda *_: pb.ScoreResponse(results=[verdicts("a", list(scores), reasons, blames=blames)])

    server.script += [lacking(None, None, None), lacking(1.0, None, 3.0)]

    result = connect(server.target).score(rewards=["a"], completions=["x", "xx", "xxx"])

    assert result.rewards["a"].scores == [1.0, 2.0, 3.0]
    assert len(server.requests) == 3


@pytest.mark.usefixtures("hasty")
def test_only_the_chunks_that_lack_verdicts_are_sent_again(server, connect):
    server.max_request_bytes = 1500
    client = connect(server.target)
    client.list_rewards()

    def second_lacks(request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse | None:
        if request.chunk_index != 1:
            return None
        return pb.ScoreResponse(results=[unserved("a", len(request.batch.completions.texts), AWAY)])

    chunk_count = 3
    server.script += [second_lacks] * chunk_count
    result = client.score(rewards=["a"], completions=["x" * 400] * 8, groups=range(8))

    assert result.chunk_count == chunk_count
    assert [request.chunk_index for request in server.requests[chunk_count:]] == [1]
    assert result.rewards["a"].scores == [400.0] * 8


@pytest.mark.usefixtures("hasty")
def test_waiting_for_a_reward_ends_at_its_limit_with_reason_and_remedy(server, connect):
    server.away["b"] = AWAY

    with pytest.raises(
        RewardUnavailable,
        match=rf"reward server {server.target}: reward 'b' cannot be served for 1 s \({AWAY}\); mend what stands behind "
        "it, .*; outage_limit_s says how long to wait",
    ):
        connect(server.target, outage_limit_s=1).score(rewards=["a", "b"], completions=["xx"])

    assert len(server.requests) == 1


def test_a_run_may_stop_instead(server, connect):
    server.away |= {"a": AWAY, "b": AWAY}

    with pytest.raises(
        RewardUnavailable,
        match=rf"rewards 'a', 'b' cannot be served \({AWAY}\); .*; on_outage='wait' would wait for it",
    ):
        connect(server.target, on_outage="stop").score(rewards=["a", "b"], completions=["xx"])

    assert len(server.requests) == 1


def test_a_run_may_go_on_with_missing_verdicts(server, connect):
    server.away["b"] = AWAY

    result = connect(server.target, on_outage="missing").score(rewards=["a", "b"], completions=["xx"])

    assert result.rewards["a"].scores == [2.0]
    assert result.rewards["b"].statuses == [Status.FAILED]
    assert result.rewards["b"].reasons == [AWAY]
    assert result.rewards["b"].blames == [Blame.OUTAGE]
    assert len(server.requests) == 1


@pytest.mark.usefixtures("hasty")
def test_a_server_that_goes_away_meanwhile_is_waited_for_too(server, connect):
    server.away["b"] = AWAY

    def go_away(context: Any) -> None:
        if server.list_count == 2:  # after the one before the batch
            server.away.clear()
            context.abort(StatusCode.CANCELLED, "as scripted")

    server.before_listing = go_away

    assert connect(server.target).score(rewards=["b"], completions=["xx"]).rewards["b"].scores == [2.0]


@pytest.mark.usefixtures("hasty")
def test_a_server_that_does_not_come_back_from_that_is_an_error(server, connect):
    server.away["b"] = AWAY
    client = connect(server.target, outage_limit_s=1)
    client.list_rewards()
    stopping = threading.Thread(target=server.stop)
    server.before_listing = lambda context: (stopping.start(), time.sleep(1))

    with pytest.raises(ServerUnreachable):
        client.score(rewards=["b"], completions=["xx"])
    stopping.join()


@pytest.mark.usefixtures("hasty")
def test_a_judge_that_comes_back_as_another_is_asked_as_it_is_now(server, connect):
    server.max_request_bytes = 1500
    client = connect(server.target)
    client.list_rewards()
    chunk_count = 3

    def answer(request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse | None:
        version = next(reward.version for reward in server.rewards if reward.name == "a")
        if request.rewards[0].expected_version not in ("", version):
            context.abort(StatusCode.FAILED_PRECONDITION, "another version")
        if len(server.requests) > chunk_count:
            return None
        server.away["a"] = AWAY
        return None

    def come_back(context: Any) -> None:
        server.away.clear()
        server.reward("a", version="a-2")

    server.script += [answer] * 20
    server.before_listing = come_back
    result = client.score(rewards=["a"], completions=["x" * 400] * 8, groups=range(8))

    assert result.rewards["a"].version == "a-2"
    assert result.rewards["a"].scores == [400.0] * 8
    assert len({metadata["reward-request-id"] for metadata in server.metadata}) == 2


class ScriptedServer:
    """A server and a clock, without a port or a wait: what one dialogue hears of a host that is away until `back_at`."""

    def __init__(self, back_at: float, *, says_serving: bool) -> None:
        self.now = 0.0
        self.asked_at: list[float] = []
        self.told_at: list[float] = []
        self._back_at = back_at
        self._says_serving = says_serving

    def carry_out(self, steps: Any) -> Any:
        answer: Any = None
        try:
            while True:
                match steps.send(answer):
                    case Send((rpc,)) if rpc.method is Method.LIST_REWARDS:
                        answer = [self._listing()]
                    case Send((_,)):
                        answer = [self._score()]
                    case Pause(seconds):
                        self.now += seconds
                        answer = None
        except StopIteration as done:
            return done.value

    def _listing(self) -> pb.ListRewardsResponse:
        serving = self._says_serving or self.now >= self._back_at
        health = pb.HEALTH_SERVING if serving else pb.HEALTH_NOT_SERVING
        return pb.ListRewardsResponse(rewards=[pb.Reward(name="a", version="a-1", health=health)])

    def _score(self) -> pb.ScoreResponse:
        self.asked_at.append(self.now)
        there = self.now >= self._back_at
        return pb.ScoreResponse(results=[verdicts("a", [1.0], [""]) if there else unserved("a", 1, AWAY)])


@pytest.fixture
def scripted(monkeypatch):
    def make(back_at: float, *, says_serving: bool) -> ScriptedServer:
        made = ScriptedServer(back_at, says_serving=says_serving)
        monkeypatch.setattr(time, "monotonic", lambda: made.now)
        return made

    return make


def score(server: ScriptedServer, **options: Any) -> Any:
    from trainer.client.batch import Batch

    told = lambda _: server.told_at.append(server.now)  # noqa: E731  # one line
    return server.carry_out(Dialogue(ClientOptions("h:1", progress=told, **options)).score(Batch(["a"], ["x"])))


def test_two_minutes_without_the_only_host_cost_few_questions_and_end_soon_after(scripted):
    server = scripted(120.0, says_serving=False)

    assert score(server).rewards["a"].scores == [1.0]

    assert server.asked_at[-1] <= 130
    assert len(server.asked_at) <= 6
    assert max(later - sooner for sooner, later in zip(server.told_at, server.told_at[1:], strict=False)) <= 10


def test_a_server_that_wrongly_says_that_it_serves_is_asked_less_and_less_often(scripted):
    server = scripted(120.0, says_serving=True)

    assert score(server).rewards["a"].scores == [1.0]

    pauses = [later - sooner for sooner, later in zip(server.asked_at, server.asked_at[1:], strict=False)]
    assert pauses == sorted(pauses)
    assert len(pauses) <= 10
    assert max(pauses) <= 31


@pytest.mark.parametrize("says_serving", [True, False])
def test_a_reward_that_is_never_served_ends_the_run_at_its_limit(scripted, says_serving):
    server = scripted(float("inf"), says_serving=says_serving)

    with pytest.raises(RewardUnavailable, match="cannot be served for 300 s"):
        score(server, outage_limit_s=300)

    assert server.now == pytest.approx(300, abs=1)
