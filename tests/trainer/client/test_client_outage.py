"""A server that is away: waited for, or not, and a person hears of it in words."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from fake_reward_server import FakeServer

from trainer.client import ClientOptions, Status, outage
from trainer.client.dialogue import Dialogue
from trainer.client.failures import Failure
from trainer.client.steps import Diagnose, Pause, Send
from trainer.errors import DeadlineExceeded, ServerUnreachable


@pytest.fixture
def gone(fake_server: Callable[[], FakeServer]) -> FakeServer:
    """A server that has an address and is not running."""
    server = fake_server().start()
    server.stop()
    return server


@pytest.fixture
def later() -> Iterator[Callable[[float, Callable[[], Any]], None]]:
    """Does something after some seconds, and waits for it in the end."""
    timers: list[threading.Timer] = []

    def do_later(seconds: float, act: Callable[[], Any]) -> None:
        timers.append(threading.Timer(seconds, act))
        timers[-1].start()

    yield do_later
    for timer in timers:
        timer.join()


def test_a_server_that_comes_back_is_waited_for(gone, connect, later, monkeypatch):
    monkeypatch.setattr(outage, "TELL_EVERY_S", 0.5)
    told: list[str] = []
    later(6, gone.start)

    result = connect(gone.target, progress=told.append).score(rewards=["a"], completions=["xx"])

    assert result.rewards["a"].scores == [2.0]
    assert f"reward server {gone.target} is not reachable for" in told[0]
    assert "(connection refused); waiting up to 600 s; the run goes on when it is back" in told[0]
    assert f"reward server {gone.target} is back after" in told[-1]


def test_a_short_outage_is_not_worth_a_word(gone, connect, later):
    told: list[str] = []
    later(0.3, gone.start)

    connect(gone.target, progress=told.append).score(rewards=["a"], completions=["xx"])

    assert told == []


def test_an_outage_is_logged_where_nobody_wants_to_be_told(gone, connect, later, monkeypatch, caplog):
    monkeypatch.setattr(outage, "TELL_EVERY_S", 0.1)
    later(5, gone.start)

    with caplog.at_level(logging.WARNING, "trainer.client"):
        connect(gone.target).list_rewards()

    assert "is not reachable for" in caplog.text


def test_a_server_that_dies_under_a_call_is_asked_again_when_it_is_back(server, connect, later):
    client = connect(server.target)
    client.list_rewards()
    taken = threading.Event()

    def die_meanwhile(request: Any, context: Any) -> None:
        taken.set()
        time.sleep(1)

    def kill() -> None:
        taken.wait(10)
        server.stop()

    server.script.append(die_meanwhile)
    later(0, kill)
    later(4, server.start)
    result = client.score(rewards=["a"], completions=["xx"])

    assert result.rewards["a"].scores == [2.0]
    assert result.attempt_count > 1
    assert len({metadata["reward-request-id"] for metadata in server.metadata}) == 1


def test_the_deadline_starts_anew_after_an_outage(gone, connect, later):
    later(4, gone.start)

    result = connect(gone.target, deadline_s=2).score(rewards=["a"], completions=["xx"])

    assert result.rewards["a"].scores == [2.0]


def test_waiting_ends_at_its_limit_with_the_remedy(gone, connect):
    with pytest.raises(
        ServerUnreachable,
        match=r"is not reachable for \d+ s \(connection refused\); start it with `reward-server serve .* outage_limit_s",
    ):
        connect(gone.target, outage_limit_s=1).score(rewards=["a"], completions=["xx"])


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED])
def test_the_limit_counts_from_the_failure_and_no_probe_goes_far_beyond_it(code, monkeypatch):
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    steps = Dialogue(ClientOptions("h:1", outage_limit_s=7)).list_rewards()
    answer: Any = None

    def carry_out() -> None:
        nonlocal now, answer
        while True:
            match steps.send(answer):
                case Send(rpcs):
                    now += 0 if now == 100 else rpcs[0].timeout_s  # each probe takes all the time it has
                    answer = [Failure(code, "")]
                case Pause(seconds):
                    now += seconds
                case Diagnose(failure):
                    now += 0.25
                    answer = failure

    with pytest.raises(ServerUnreachable, match=r"is not reachable for [78] s"):
        carry_out()

    assert 107 <= now <= 107.75


def test_a_run_may_stop_instead(gone, connect):
    started = time.monotonic()

    with pytest.raises(
        ServerUnreachable, match=r"is not reachable \(connection refused\); .* on_outage='wait' would wait"
    ):
        connect(gone.target, on_outage="stop").score(rewards=["a"], completions=["xx"])

    assert time.monotonic() - started < 10


def test_a_run_may_go_on_with_missing_verdicts(server, connect):
    client = connect(server.target, on_outage="missing")
    client.list_rewards()
    server.stop()

    verdicts = client.score(rewards=["a", "b"], completions=["xx", "y"]).rewards["b"]

    assert verdicts.scores == [None, None]
    assert verdicts.statuses == [Status.FAILED, Status.FAILED]
    assert f"reward server {server.target} is not reachable" in verdicts.reasons[0]
    assert verdicts.version == "b-1"


def test_a_server_that_was_never_there_gives_missing_verdicts_too(gone, connect):
    result = connect(gone.target, on_outage="missing").submit(rewards=["a"], completions=["xx"]).collect()

    assert result.missing("a").total() == 1
    assert result.rewards["a"].version == ""


def test_a_server_that_hangs_is_an_outage_not_a_slow_call(server, connect, monkeypatch):
    monkeypatch.setattr("trainer.client.dialogue.PROBE_TIMEOUT_S", 0.5)
    client = connect(server.target, on_outage="stop")
    client.list_rewards()
    server.script.append(lambda request, context: time.sleep(2))
    server.ListRewards = lambda request, context: time.sleep(2)
    server.stop()
    server.start()

    with pytest.raises(ServerUnreachable, match=r"is not reachable \(no answer within 0.5 s\)"):
        client.score(rewards=["a"], completions=["xx"], deadline_s=0.5)


def test_a_draining_server_is_waited_for(server, connect, later):
    client = connect(server.target)
    client.list_rewards()
    server.health.set("", 2)
    later(1.5, lambda: server.health.set("", 1))

    assert client.score(rewards=["a"], completions=["xx"]).rewards["a"].scores == [2.0]


def test_an_outage_between_two_answers_that_came_too_late_makes_them_no_row():
    told: list[str] = []
    call = outage.Outage(ClientOptions("h:1", progress=told.append))
    late, away = Failure(grpc.StatusCode.DEADLINE_EXCEEDED, ""), Failure(grpc.StatusCode.UNAVAILABLE, "")

    call.late(late)
    call.goes_on(away, time.monotonic())
    call.late(late)

    assert len(told) == 2
    with pytest.raises(DeadlineExceeded):
        call.late(late)


def test_health_does_not_wait(gone, connect):
    with pytest.raises(ServerUnreachable, match="connection refused"):
        connect(gone.target).health()


def test_a_name_that_does_not_resolve_is_an_outage_in_plain_words(connect):
    with pytest.raises(ServerUnreachable, match="its name cannot be resolved"):
        connect("no-such-host.invalid:8470", on_outage="stop").list_rewards()


def test_a_missing_socket_file_is_an_outage_in_plain_words(connect, tmp_path):
    with pytest.raises(ServerUnreachable, match="its socket file is not there"):
        connect(f"unix:{tmp_path}/none.sock", on_outage="stop").list_rewards()
