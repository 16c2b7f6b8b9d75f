"""A training run whose judge loses its only host in mid-run, while the reward server itself lives on."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import MODEL, FakeOllama
from scripted_judges import grading
from server_process import REPOSITORY, ServerProcess, clean_environment
from tiny_policy import save_tiny_policy

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

STEPS = 5
AWAY_S = 6.0
"""Stands in for two minutes: some times what a judge waits for a host before it answers without."""

SERVER = """
secret_file: judge-secret
engines: {{box: {{ollama: {{url: "{url}", model: "{model}"}}}}}}
judges:
  taste:
    engine: box
    rubric: It is full of vowels.
    timeout_s: 1
rewards:
  taste: {{judge: taste}}
  length: {{length: {{unit: chars, target: 9, width: 9}}}}
"""

TRAIN = """
model: {{name: "{policy}", lora: null, precision: fp32}}
data: {{prompts: ["Say something.", "Say it again, please.", "Once more!", "And now?"], conversational: false}}
rewards:
  server: "{target}"
  use: {{taste: 1.0, length: 0.25}}
  missing: raise
{more}
grpo:
  max_steps: {steps}
  num_generations: 4
  per_device_train_batch_size: 8
  max_completion_length: 12
  learning_rate: 1e-3
  use_cpu: true
run: {{folder: "{folder}", seed: 5, samples_before_after: 0}}
"""


class Run:
    """A training run as a process of its own, what it prints, and what it has logged."""

    def __init__(self, folder: Path, name: str, target: str, more: str = "") -> None:
        self._folder = folder / "runs" / name
        self._output = folder / f"{name}.txt"
        config = folder / f"{name}.yaml"
        policy = folder / "policy"
        text = TRAIN.format(policy=policy, target=target, more=more, steps=STEPS, folder=self._folder)
        config.write_text(text)
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trainer", "train", "--config", str(config)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=clean_environment(),
            )

    @property
    def output(self) -> str:
        return self._output.read_text()

    def wait_for(self, words: str, timeout_s: float = 120) -> None:
        """Waits until the run has printed these words."""
        until = time.monotonic() + timeout_s
        while words not in self.output:
            assert self._process.poll() is None, self.output
            assert time.monotonic() < until, self.output
            time.sleep(0.05)

    def end(self, timeout_s: float = 240) -> int:
        """Waits for its end and returns the exit status."""
        try:
            return self._process.wait(timeout_s)
        finally:
            self._process.kill()
            self._process.wait()

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self._folder / "metrics.jsonl").read_text().splitlines()]

    @property
    def rewards(self) -> list[tuple[float, ...]]:
        """Returns the rewards of each step."""
        keys = ("reward", "reward_std", "rewards/taste/mean", "rewards/taste/std", "rewards/length/mean")
        return [tuple(step[key] for key in keys) for step in self.steps]


def vowels(text: str) -> float:
    return sum(character in "aeiou" for character in text.casefold()) / max(1, len(text))


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    save_tiny_policy(tmp_path / "policy")
    return tmp_path


def configured(folder: Path, name: str, ollama: FakeOllama) -> Path:
    path = folder / f"server-{name}.yaml"
    path.write_text(SERVER.format(url=ollama.url, model=MODEL))
    return path


def undisturbed(folder: Path) -> Run:
    with FakeOllama(grading(vowels)) as ollama, ServerProcess(configured(folder, "whole", ollama)) as server:
        run = Run(folder, "undisturbed", server.target)
        assert run.end() == 0, run.output
    return run


def taken(count: int) -> Any:
    return lambda log: sum(line["event"] == "call taken" for line in log) >= count


def test_a_run_waits_for_its_judges_only_host_and_its_rewards_are_the_same(workshop: Path) -> None:
    whole = undisturbed(workshop)
    with (
        FakeOllama(grading(vowels), seconds=0.05) as ollama,
        ServerProcess(configured(workshop, "disturbed", ollama)) as server,
    ):
        run = Run(workshop, "disturbed", server.target)
        server.wait_for(taken(3), timeout_s=120)
        ollama.stop()
        run.wait_for("reward 'taste' cannot be served")
        time.sleep(AWAY_S)
        ollama.start()
        assert run.end() == 0, run.output
        calls = server.events("call taken")
    assert len({reward for reward, *_ in whole.rewards}) == STEPS
    assert run.rewards == whole.rewards
    assert "reward 'taste' is served again after" in run.output
    assert "the run goes on when it is back" in run.output
    ids = [call["request_id"] for call in calls]
    assert len(ids) > len(set(ids)) == STEPS  # sent again under the same id
    assert max(step["rewards/taste/missing"] for step in run.steps) == 0


def test_a_run_may_stop_when_its_judges_only_host_is_gone(workshop: Path) -> None:
    with FakeOllama(grading(vowels)) as ollama, ServerProcess(configured(workshop, "stopping", ollama)) as server:
        run = Run(workshop, "stopping", server.target, more="  on_outage: stop")
        server.wait_for(taken(2), timeout_s=120)
        ollama.stop()
        assert run.end() != 0
    assert "reward 'taste' cannot be served" in run.output
    assert "on_outage='wait' would wait for it" in run.output
    assert "Traceback" not in run.output
