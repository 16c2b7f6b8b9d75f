"""A real server whose rewards hang, crash or are fed nonsense: the call returns, the server lives, nothing is left."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest
from server_process import ServerProcess, wait_until_gone
from waiting import until

from trainer.client import RewardClient, Status
from trainer.errors import MissingColumn, UnknownReward

pytestmark = pytest.mark.end_to_end

REWARDS = """
import os, time

def note_pid():
    with open(__file__ + ".pids", "a") as file:
        print(os.getpid(), file=file)

def stuck(completions):
    rewards = []
    for completion in completions:
        if "hang" in completion:
            note_pid()
        while "hang" in completion:
            pass
        rewards.append(float(len(completion)))
    return rewards

def slow(completions):
    note_pid()
    time.sleep(60)
    return [1.0] * len(completions)

def not_a_number(completions):
    return [float("nan") if "nan" in completion else 1.0 for completion in completions]

def near(completions, answer):
    return [-abs(float(completion) - float(gold)) for completion, gold in zip(completions, answer)]

def with_answer(completions, answer):
    return [float(completion == reference) for completion, reference in zip(completions, answer)]
"""

WORKER_COUNT = 2

CONFIG = """
workers: {count: %d}
drain: {notice_s: 0.2, grace_s: 3}
rewards:
  stuck: {python: rewards.py:stuck}
  slow: {python: {function: rewards.py:slow, timeout_s: 120}}
  not_a_number: {python: rewards.py:not_a_number}
  near: {python: rewards.py:near, floor: -10}
  with_answer: {python: rewards.py:with_answer}
  length: {length: {unit: words, target: 3, width: 10}}
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "rewards.py").write_text(REWARDS)
    (tmp_path / "server.yaml").write_text(CONFIG % WORKER_COUNT)
    with ServerProcess(tmp_path / "server.yaml") as process:
        yield process


def noted_pids(server: ServerProcess) -> set[int]:
    """Returns the processes in which a function noted that it was about to hang."""
    return {int(pid) for pid in (server.config.parent / "rewards.py.pids").read_text().split()}


def assert_gone_and_replaced(server: ServerProcess, pids: Iterable[int]) -> None:
    """Waits until these workers are gone and there are as many as configured again, no more."""
    asyncio.run(until(lambda: not any(psutil.pid_exists(pid) for pid in pids), 15))
    asyncio.run(until(lambda: len(server.children()) == 1 + WORKER_COUNT, 15))  # the fork server and its workers


def test_after_a_function_ran_into_an_endless_loop_the_rest_is_scored_and_the_next_call_too(
    server: ServerProcess,
) -> None:
    completions = [f"fine {index}" for index in range(8)]
    completions[3] = "hang"
    with RewardClient(server.target, deadline_s=6) as client:
        began = time.monotonic()
        verdicts = client.score(rewards=["stuck"], completions=completions).rewards["stuck"]
        assert time.monotonic() - began < 6
        assert [score for index, score in enumerate(verdicts.scores) if index != 3] == [6.0] * 7
        assert verdicts.scores[3] is None
        assert verdicts.statuses[3] is Status.FAILED
        assert "stuck did not return in time and was stopped" in verdicts.reasons[3]
        again = client.score(rewards=["stuck"], completions=["fine"])
        assert again.rewards["stuck"].scores == [4.0]
    hung = noted_pids(server)
    assert len(hung) >= 2  # on the batch, and alone
    assert_gone_and_replaced(server, hung)


def test_nothing_runs_on_after_a_deadline(server: ServerProcess) -> None:
    with RewardClient(server.target, deadline_s=2) as client:
        began = time.monotonic()
        result = client.score(rewards=["slow", "length"], completions=["one two three"])
        assert time.monotonic() - began < 2
    assert result.rewards["length"].scores == [1.0]
    assert result.rewards["slow"].statuses == [Status.FAILED]
    assert_gone_and_replaced(server, noted_pids(server))


def test_sigterm_drains_within_its_grace_and_leaves_no_process(server: ServerProcess) -> None:
    def call() -> None:
        with RewardClient(server.target, deadline_s=60, on_outage="missing") as client:
            client.score(rewards=["slow"], completions=["x"])

    caller = threading.Thread(target=call)
    caller.start()
    server.wait_for(lambda log: any(line["event"] == "call taken" for line in log))
    children = server.children()
    assert children
    began = time.monotonic()
    assert server.terminate(timeout_s=30) == 0
    assert time.monotonic() - began < 3 + 0.2 + 5  # grace, notice, and time to end on a loaded machine
    assert wait_until_gone(children) == []
    caller.join(timeout=30)
    assert not caller.is_alive()


def test_sigkill_leaves_no_worker(server: ServerProcess) -> None:
    with RewardClient(server.target, deadline_s=30) as client:
        client.score(rewards=["stuck"], completions=["fine"])
    children = server.children()
    assert children
    server.kill()
    assert wait_until_gone(children) == []


def test_a_completion_of_ten_megabytes_gets_its_own_status_and_its_neighbours_are_scored(server: ServerProcess) -> None:
    completions = ["one two three"] * 64
    completions[17] = "x " * 5_000_000
    with RewardClient(server.target) as client:
        verdicts = client.score(rewards=["length"], completions=completions).rewards["length"]
    assert verdicts.scores == [None if index == 17 else 1.0 for index in range(64)]
    assert "10000000 bytes" in verdicts.reasons[17].replace(",", "").replace("_", "")


def test_lone_surrogates_are_replaced_and_counted(server: ServerProcess) -> None:
    with RewardClient(server.target) as client:
        result = client.score(rewards=["length"], completions=["a \ud800 b", "fine one two"])
    assert result.replaced_surrogate_count == 1
    assert result.rewards["length"].scores == [1.0, 1.0]


def test_an_empty_batch_has_no_verdicts(server: ServerProcess) -> None:
    with RewardClient(server.target) as client:
        assert client.score(rewards=["length"], completions=[]).rewards["length"].scores == []


def test_nan_is_a_failed_verdict(server: ServerProcess) -> None:
    with RewardClient(server.target) as client:
        verdicts = client.score(rewards=["not_a_number"], completions=["nan", "fine"]).rewards["not_a_number"]
    assert verdicts.scores == [None, 1.0]
    assert verdicts.statuses[0] is Status.FAILED
    assert "nan" in verdicts.reasons[0]
    assert not any(score is not None and math.isnan(score) for score in verdicts.scores)


def test_what_breaks_a_function_gets_its_floor_and_what_its_reference_breaks_does_not(server: ServerProcess) -> None:
    completions = ["4", "I don't know", "nan", "5", "4", "5"]
    answers = ["4", "4", "4", "4", "?", "?"]
    with RewardClient(server.target) as client:
        result = client.score(rewards=["near"], completions=completions, columns={"answer": answers})
    assert result.rewards["near"].scores == [0.0, -10.0, -10.0, -1.0, None, None]


def test_an_unknown_reward_is_named_with_those_there_are(server: ServerProcess) -> None:
    with RewardClient(server.target) as client, pytest.raises(UnknownReward, match=r"no reward 'lenght'.*length"):
        client.score(rewards=["lenght"], completions=["x"])


def test_a_missing_column_is_named_with_its_reward(server: ServerProcess) -> None:
    with RewardClient(server.target) as client, pytest.raises(MissingColumn, match=r"with_answer.*'answer'.*solution"):
        client.score(rewards=["with_answer"], completions=["x"], columns={"solution": ["y"]})


def test_two_clients_at_once_get_each_their_own(server: ServerProcess) -> None:
    results: dict[int, list[float | None]] = {}

    def call(number: int) -> None:
        with RewardClient(server.target, experiment=f"run-{number}") as client:
            for _ in range(5):
                completions = ["x" * number] * number
                results[number] = client.score(rewards=["stuck"], completions=completions).rewards["stuck"].scores

    threads = [threading.Thread(target=call, args=(number,)) for number in (3, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert results == {3: [3.0] * 3, 7: [7.0] * 7}
    assert psutil.pid_exists(server.pid)
