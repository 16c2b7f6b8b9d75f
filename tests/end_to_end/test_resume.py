"""A training run that is killed at some step and resumed, against a real reward server with a judge."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import MODEL, FakeOllama
from scripted_judges import grading
from server_process import REPOSITORY, ServerProcess, clean_environment
from tiny_policy import save_tiny_policy

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

STEPS = 9
SAVE_STEPS = 3
SEED = int(os.environ.get("KILL_SEED") or random.randrange(1000))
KILLED_AFTER = random.Random(SEED).choice([1, 2, 4, 5, 7, 8])  # calls answered; after no step with a checkpoint

PAUSE = """
import time

def pause(completions):
    time.sleep(0.2)  # so that the kill comes before the next call
    return [0.0] * len(completions)
"""

SERVER = """
secret_file: {secret}
engines: {{box: {{ollama: {{url: "{url}", model: "{model}"}}}}}}
judges: {{taste: {{engine: box, rubric: It is full of vowels.}}}}
rewards:
  taste: {{judge: taste}}
  length: {{length: {{unit: chars, target: 9, width: 9}}}}
"""

# Two of four prompts a step, so that every second step begins another epoch, with another order.
TRAIN = """
model: {{name: "{policy}", lora: {{r: 4}}, precision: fp32}}
data: {{prompts: ["Say something.", "Say it again, please.", "Once more!", "And now?"], conversational: false}}
rewards:
  server: "{target}"
  use: {{taste: 1.0, length: 0.25}}
  local: {{pause: {{python: "pause.py:pause", weight: 0}}}}
grpo:
  max_steps: {steps}
  num_generations: 4
  per_device_train_batch_size: 8
  max_completion_length: 12
  learning_rate: 1e-2
  gradient_checkpointing: false
  save_steps: {save_steps}
  use_cpu: true
run: {{folder: "{folder}", seed: 5, samples_before_after: 0}}
"""


def vowels(text: str) -> float:
    return sum(character in "aeiou" for character in text.casefold()) / max(1, len(text))


class Run:
    """A run, its judge and its server."""

    def __init__(self, folder: Path, name: str, resources: ExitStack) -> None:
        self.name, self.folder = name, folder / "runs" / name
        self._config, self._output = folder / f"{name}.yaml", folder / f"{name}.txt"
        self.judge = resources.enter_context(FakeOllama(grading(vowels)))
        server = folder / f"server-{name}.yaml"
        server.write_text(SERVER.format(secret=folder / "secret", url=self.judge.url, model=MODEL))
        self.server = resources.enter_context(ServerProcess(server))
        values = {"policy": folder / "policy", "target": self.server.target, "folder": self.folder}
        self._config.write_text(TRAIN.format(**values, steps=STEPS, save_steps=SAVE_STEPS))

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        with self._output.open("ab") as output:
            return subprocess.Popen(
                [sys.executable, "-m", "trainer", "train", "--config", str(self._config), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=clean_environment(),
            )

    def finish(self, process: subprocess.Popen[bytes]) -> None:
        try:
            assert process.wait(timeout=240) == 0, self.output
        finally:
            process.kill()

    @property
    def output(self) -> str:
        return self._output.read_text()

    @property
    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "metrics.jsonl").read_text().splitlines()]

    @property
    def rewards(self) -> list[tuple[float, ...]]:
        keys = ("step", "reward", "reward_std", "rewards/taste/mean", "rewards/length/mean", "loss", "grad_norm")
        return [tuple(row[key] for key in keys) for row in self.rows]


def test_a_run_killed_at_any_step_and_resumed_gets_the_rewards_of_an_undisturbed_one(tmp_path: Path) -> None:
    save_tiny_policy(tmp_path / "policy")
    (tmp_path / "pause.py").write_text(PAUSE)
    with ExitStack() as resources:
        whole = Run(tmp_path, "undisturbed", resources)
        killed = Run(tmp_path, f"killed-by-seed-{SEED}", resources)
        undisturbed, process = whole.start(), killed.start()
        answered = lambda log: sum(line["event"] == "call answered" for line in log) >= KILLED_AFTER  # noqa: E731
        try:
            killed.server.wait_for(answered, timeout_s=120)
        finally:
            process.kill()  # SIGKILL
            process.wait()
        calls_before = len(killed.server.events("call taken"))
        killed.finish(killed.start("--resume"))
        whole.finish(undisturbed)
        calls_after = len(killed.server.events("call taken")) - calls_before
    record = json.loads((killed.folder / "run.json").read_text())
    went_on_after = KILLED_AFTER // SAVE_STEPS * SAVE_STEPS
    assert [start["step"] for start in record["starts"]] == [0, went_on_after]
    assert [start["outcome"] for start in record["starts"]] == ["killed", "finished"]
    assert len({reward for _, reward, *_ in whole.rewards}) == STEPS
    assert killed.rewards == whole.rewards
    # Steps were taken again, and the server remembered the verdicts: the judge was not asked about them again.
    assert (calls_before, calls_after) == (KILLED_AFTER, STEPS - went_on_after)
    assert calls_before + calls_after > STEPS
    assert len(killed.judge.questions) == len(whole.judge.questions)
    assert (killed.folder / "report.html").is_file()
    weights = [run.folder / "adapter" / "adapter_model.safetensors" for run in (killed, whole)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
