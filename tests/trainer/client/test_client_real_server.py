"""The client and the real server: what a person's function gives through it, killed and restarted under a call."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from server_process import ServerProcess, free_port

from trainer.client import RewardClient, Status
from trainer.errors import NotAllowed

pytestmark = pytest.mark.end_to_end

CONFIG = """\
limits: {max_request_mb: 1, max_completion_kb: 64}
rewards:
  brevity: {length: {unit: words, target: 3, width: 10}}
  slow: {python: {function: "slow.py:slow_reward", timeout_s: 60}}
"""

SLOW = """\
import time

def slow_reward(completions, wait_s):
    time.sleep(max(wait_s))
    return [float(len(text)) for text in completions]
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (tmp_path / "server.yaml").write_text(CONFIG)
    (tmp_path / "slow.py").write_text(SLOW)
    with ServerProcess(tmp_path / "server.yaml", port=free_port()) as process:
        yield process


def test_a_server_killed_under_a_call_and_restarted_answers_the_same_call(server):
    completions = [f"{'x' * number}" for number in range(16)]

    def kill_and_restart() -> None:
        server.wait_for(lambda log: any(line["event"] == "call taken" for line in log))
        server.kill()
        server.start()

    with RewardClient(server.target) as client:
        killer = threading.Thread(target=kill_and_restart)
        killer.start()
        result = client.score(rewards=["slow"], completions=completions, columns={"wait_s": [3.0] * 16})
        killer.join()

    assert result.rewards["slow"].scores == [float(number) for number in range(16)]
    assert result.attempt_count > 1
    assert len({line["request_id"] for line in server.events("call taken")}) == 1


def test_a_large_batch_is_scored_in_chunks_and_one_completion_over_the_limit_fails_alone(server):
    words = [("word " * (number % 9 + 1)).strip() for number in range(2000)]
    completions = [f"{text}{' ' * 1000}" for text in words]
    completions[77] = "x" * 100_000

    with RewardClient(server.target) as client:
        result = client.score(
            rewards=["brevity"], prompts=[f"p{number // 8}" for number in range(2000)], completions=completions
        )

    verdicts = result.rewards["brevity"]
    assert result.chunk_count == 3
    assert verdicts.statuses[77] is Status.FAILED
    assert [round(score, 6) for score in verdicts.scores if score is not None] == [
        round(1 - abs(number % 9 + 1 - 3) / 10, 6) for number in range(2000) if number != 77
    ]


def test_a_conversation_arrives_as_one(server):
    talk = [{"role": "assistant", "content": "one two three"}]

    with RewardClient(server.target) as client:
        assert client.score(rewards=["brevity"], completions=[talk, "one"]).rewards["brevity"].scores == [1.0, 0.8]


def test_a_server_with_a_token_wants_it(tmp_path):
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "server.yaml").write_text(
        f"auth: {{token_file: token}}\n{CONFIG.splitlines()[1]}\n{CONFIG.splitlines()[2]}\n"
    )
    with ServerProcess(tmp_path / "server.yaml") as server:
        with RewardClient(server.target, token_file=str(tmp_path / "token")) as client:
            assert client.score(rewards=["brevity"], completions=["a b c"]).rewards["brevity"].scores == [1.0]
        with (
            RewardClient(server.target) as client,
            pytest.raises(NotAllowed, match="give the server's token as token="),
        ):
            client.score(rewards=["brevity"], completions=["a b c"])
