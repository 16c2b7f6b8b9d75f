"""Training runs as people start them, against reward servers that are killed, come late, or are not needed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from server_process import REPOSITORY, ServerProcess, clean_environment, free_port
from tiny_policy import save_tiny_policy

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

STEPS = 6

REWARDS = """
import time

def vowels(completions, prompts):
    time.sleep({pause_s})
    return [sum(c in "aeiou" for c in text) / (1 + len(text)) + 0.01 * len(prompt) for text, prompt in zip(completions, prompts)]

def length(completions, prompts=None):
    return [len(text) / 7 for text in completions]
"""

TRAIN = """
model: {{name: "{model}", lora: null, precision: fp32}}
data: {{prompts: ["Say something.", "Say it again, please.", "Once more!", "And now?"], conversational: false}}
rewards:
{rewards}
grpo:
  max_steps: {steps}
  num_generations: 4
  per_device_train_batch_size: 8
  max_completion_length: 12
  learning_rate: 1e-3
  use_cpu: true
run: {{folder: "{folder}", seed: 5, samples_before_after: 0}}
"""

REMOTE = """  server: "{target}"
  use: {{vowels: 1.0, length: 0.25}}
  deadline_s: {deadline_s}
  outage_limit_s: 180
"""

LOCAL = """  local:
    vowels: {python: "rewards.py:vowels", weight: 1.0}
    length: {python: "rewards.py:length", weight: 0.25}
"""


class Workshop:
    """A folder with a policy, reward functions, a server's configuration and any number of runs."""

    def __init__(self, folder: Path, pause_s: float = 0.0) -> None:
        self.folder = folder
        save_tiny_policy(folder / "policy")
        (folder / "rewards.py").write_text(REWARDS.format(pause_s=pause_s))
        self.server = folder / "server.yaml"
        self.server.write_text(
            "rewards:\n  vowels: {python: rewards.py:vowels}\n  length: {python: rewards.py:length}\n"
        )

    def start(self, name: str, rewards: str) -> subprocess.Popen[str]:
        """Starts a training run."""
        config = self.folder / f"{name}.yaml"
        config.write_text(
            TRAIN.format(model=self.folder / "policy", rewards=rewards, steps=STEPS, folder=self.folder / "runs" / name)
        )
        return subprocess.Popen(
            [sys.executable, "-m", "trainer", "train", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=REPOSITORY,
            env=clean_environment(),
        )

    def finish(self, name: str, process: subprocess.Popen[str], timeout_s: float = 240) -> str:
        """Waits for a run and returns what it printed."""
        try:
            output, _ = process.communicate(timeout=timeout_s)
        finally:
            process.kill()
        assert process.returncode == 0, f"{name}:\n{output}"
        return output

    def run(self, name: str, rewards: str) -> str:
        return self.finish(name, self.start(name, rewards))

    def steps(self, name: str) -> list[dict[str, Any]]:
        """Returns what a run has logged, step by step."""
        (metrics,) = (self.folder / "runs").glob(f"{name}*/metrics.jsonl")
        return [json.loads(line) for line in metrics.read_text().splitlines()]

    def rewards(self, name: str) -> list[tuple[float, ...]]:
        """Returns the rewards of each step."""
        keys = ("reward", "reward_std", "rewards/vowels/mean", "rewards/vowels/std", "rewards/length/mean")
        return [tuple(step[key] for key in keys) for step in self.steps(name)]


def remote(target: str, deadline_s: float = 60) -> str:
    return REMOTE.format(target=target, deadline_s=deadline_s)


def test_remote_rewards_are_step_for_step_those_of_the_same_functions_run_locally(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    workshop.run("locally", LOCAL)
    with ServerProcess(workshop.server) as server:
        workshop.run("remotely", remote(server.target))
        calls = server.events("call taken")
    assert len(workshop.rewards("locally")) == STEPS
    assert len({reward for reward, *_ in workshop.rewards("locally")}) > 1
    assert workshop.rewards("remotely") == workshop.rewards("locally")
    assert [call["rewards"] for call in calls] == [["length", "vowels"]] * STEPS  # both in one call per batch


def test_a_run_outlives_its_server_being_killed_in_mid_call_and_its_rewards_are_the_same(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, pause_s=1.0)
    workshop.run("undisturbed", LOCAL)
    with ServerProcess(workshop.server, port=free_port()) as server:
        process = workshop.start("disturbed", remote(server.target))
        server.wait_for(lambda log: sum(line["event"] == "call taken" for line in log) == 3, timeout_s=120)
        assert len(server.events("call answered")) == 2  # the third was taken, and is not answered yet
        killed = server.events("call taken")[2]["request_id"]
        server.kill()
        time.sleep(10)
        server.start()
        workshop.finish("disturbed", process)
        attempts = [call["attempt"] for call in server.events("call taken") if call["request_id"] == killed]
    assert max(attempts) > 1
    assert workshop.rewards("disturbed") == workshop.rewards("undisturbed")
    assert max(step["reward_server/attempts"] for step in workshop.steps("disturbed")) > 1


def test_a_run_waits_for_a_server_that_is_down_for_a_minute(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, pause_s=0.5)
    workshop.run("undisturbed", LOCAL)
    with ServerProcess(workshop.server, port=free_port()) as server:
        process = workshop.start("waiting", remote(server.target, deadline_s=20))  # shorter than the outage
        server.wait_for(lambda log: sum(line["event"] == "call taken" for line in log) == 2, timeout_s=120)
        server.kill()
        time.sleep(60)
        server.start()
        output = workshop.finish("waiting", process)
    assert workshop.rewards("waiting") == workshop.rewards("undisturbed")
    assert "is not reachable for" in output
    assert "the run goes on when it is back" in output


def test_a_run_may_stop_when_its_server_is_gone_and_keeps_what_it_has_learned(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path, pause_s=0.5)
    with ServerProcess(workshop.server) as server:
        process = workshop.start("stopping", remote(server.target, deadline_s=10) + "  on_outage: stop\n")
        server.wait_for(lambda log: sum(line["event"] == "call answered" for line in log) == 2, timeout_s=120)
        server.kill()
        output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "is not reachable" in output
    assert "Traceback" not in output
    assert len(workshop.steps("stopping")) >= 1
    (folder,) = (tmp_path / "runs").glob("stopping*")
    assert list(folder.rglob("*.safetensors"))


def test_a_local_target_starts_a_server_of_its_own_and_ends_it_with_the_run(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    workshop.run("own", remote(f"local:{workshop.server}"))
    assert len(workshop.rewards("own")) == STEPS
