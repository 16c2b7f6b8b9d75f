"""An answer that holds no score for a sample: whom that is owed to, and what finding out costs."""

import asyncio
import math
import time

import pytest
from asking_servers import endpoint, samples_of, verdicts
from fake_reward_models import NULL, REFUSED, FakeGetReward

from reward_server.domain import Blame, Call, Status
from reward_server.scorers.endpoints import remote

ODD = "<odd>"


@pytest.fixture
def host():
    with FakeGetReward() as host:
        yield host


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.005)


def odd_is(reward):
    return lambda text: reward if ODD in text else 1


def is_control(body):
    return "know" in body["query"][0]


@pytest.mark.parametrize("reward", [None, math.nan, math.inf, "0.5", True, [0.5], 10**400, 7], ids=str)
async def test_what_gets_no_score_twice_while_bland_does_broke_its_grader(host, reward):
    host.worth = odd_is(reward)
    async with endpoint(host.url, score_range=[0, 3]) as scorer:
        first, odd, last = await verdicts(scorer, samples_of("a", ODD, "b"))
        assert scorer.health().serving
    assert (first.score, last.score) == (1.0, 1.0)
    assert (odd.status, odd.blame) == (Status.FAILED, Blame.COMPLETION)
    assert odd.status_reason.endswith("; and again alone, while a bland completion was scored")
    assert [body["query"] for body in host.asked[1:]] == [["QI don't know."], [f"Q{ODD}"]]


async def test_a_refusal_of_what_got_no_score_is_its_doing_too(host):
    honest = host.rewards
    host.rewards = lambda path, body, numbers: (
        host.refused() if body["query"] == [f"Q{NULL}"] else honest(path, body, numbers)
    )
    async with endpoint(host.url) as scorer:
        _, refused = await verdicts(scorer, samples_of("a", NULL))
    assert (refused.status, refused.blame) == (Status.FAILED, Blame.COMPLETION)


async def test_what_is_scored_alone_has_that_score(host):
    honest = host.rewards
    host.rewards = lambda path, body, numbers: honest(
        path, body, numbers if len(numbers) == 1 else [None, *numbers[1:]]
    )
    async with endpoint(host.url) as scorer:
        got = await verdicts(scorer, samples_of("abc", "b"))
    assert [verdict.score for verdict in got] == [4.0, 2.0]


async def test_a_task_that_gets_no_score_with_any_completion_is_nobodys_fault(host):
    async with endpoint(host.url) as scorer:
        got = await verdicts(scorer, [*samples_of("a", prompt=NULL), *samples_of("b")])
    assert (got[0].status, got[0].blame) == (Status.FAILED, Blame.UNKNOWN)
    assert got[0].status_reason == "the reward is null, which is not a finite number"
    assert got[1].score == 2.0


async def test_a_server_that_scores_nothing_is_asked_little_more(host):
    host.worth = lambda text: None
    async with endpoint(host.url, batch=1, in_flight=2) as scorer:
        got = await verdicts(scorer, samples_of(*"a" * 50))
    assert {(verdict.status, verdict.blame) for verdict in got} == {(Status.FAILED, Blame.UNKNOWN)}
    assert len(host.asked) <= 50 + 2  # a control in each lane


async def test_a_server_that_scores_nothing_tells_nobody_whom_a_refusal_is_owed_to(host):
    host.worth = lambda text: None
    async with endpoint(host.url) as scorer:
        got = await verdicts(scorer, samples_of("a", REFUSED, "b"))
    assert {(verdict.status, verdict.blame) for verdict in got} == {(Status.FAILED, Blame.UNKNOWN)}


async def test_a_second_try_that_hangs_is_never_blamed(host):
    honest = host.answer_to

    async def answer_to(path, body):
        if body["query"] == [f"Q{NULL}"]:
            await asyncio.sleep(3600)
        return await honest(path, body)

    host.answer_to = answer_to
    async with endpoint(host.url, timeout_s=0.2) as scorer:
        good, hung = await verdicts(scorer, samples_of("a", NULL))
    assert good.score == 2.0
    assert (hung.status, hung.blame) == (Status.FAILED, Blame.UNKNOWN)


async def test_the_others_have_their_verdicts_before_it_is_tried_again(host):
    honest = host.answer_to

    async def answer_to(path, body):
        if is_control(body):
            await asyncio.sleep(3600)
        return await honest(path, body)

    host.answer_to = answer_to
    async with endpoint(host.url, batch=2, in_flight=1) as scorer:
        asked = scorer.score(samples_of(NULL, "b", "c"), Call(deadline=time.monotonic() + 60))
        assert [(await anext(asked))[0] for _ in range(2)] == [1, 2]
        await asked.aclose()
