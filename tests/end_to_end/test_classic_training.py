"""A run with the classic reward functions on a server has the rewards, step for step, of one that runs them itself.

Both as real processes, started from the command line as people start them, with one seed.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from server_process import REPOSITORY, ServerProcess, clean_environment
from tiny_policy import save_tiny_policy

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(300)]

CLASSIC = REPOSITORY / "examples" / "classic_rewards.py"
FUNCTIONS = {  # the reward's name -> function of the classic file, weight
    "length": ("length_reward", 0.25),
    "format": ("format_reward", 1.0),
    "combined": ("combined_reward", 0.5),
    "accuracy": ("accuracy_reward", 0.5),
    "style": ("style_reward", 0.5),
    "judged": ("judge_reward", 0.1),
}
WITH_CLOCKS = ("versions", "time", "wall_s", "per_second", "tokens_per", "reward_server/", "/missing")
"""Metrics that are a time, or that only a server's rewards have."""


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_policy(tmp_path_factory.mktemp("policy"))


def write_config(folder: Path, policy: Path, rewards: dict[str, Any], **grpo: Any) -> Path:
    folder.mkdir(exist_ok=True)
    questions = [f"Explain question number {number} in plain words." for number in range(8)]
    settings = {
        "model": {"name": str(policy), "precision": "fp32", "lora": None},
        "data": {"prompts": questions, "conversational": False},
        "rewards": rewards,
        "grpo": {
            "max_steps": 6,
            "per_device_train_batch_size": 16,
            "num_generations": 8,
            "max_completion_length": 24,
            "learning_rate": 5e-3,
            "gradient_checkpointing": False,
            "save_strategy": "no",
            **grpo,
        },
        "run": {"folder": "run", "samples_before_after": 2, "seed": 5},
    }
    path = folder / "train.yaml"
    path.write_text(yaml.safe_dump(settings, sort_keys=False))
    return path


def command(config: Path) -> list[str]:
    return [sys.executable, "-m", "trainer", "train", "--config", str(config)]


def trained(config: Path) -> list[dict[str, Any]]:
    """Runs the training and returns its metrics."""
    done = subprocess.run(
        command(config), capture_output=True, text=True, timeout=240, check=False, env=clean_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return metrics(config)


def metrics(config: Path) -> list[dict[str, Any]]:
    path = config.parent / "run" / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def without_clocks(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: row[key] for key in sorted(row) if not any(part in key for part in WITH_CLOCKS)} for row in rows]


def test_the_same_seed_gives_the_same_rewards_step_for_step(tmp_path: Path, policy: Path):
    served = {"rewards": {name: {"python": f"{CLASSIC}:{function}"} for name, (function, _) in FUNCTIONS.items()}}
    (tmp_path / "server.yaml").write_text(yaml.safe_dump(served))
    weights = {name: weight for name, (_, weight) in FUNCTIONS.items()}
    with ServerProcess(tmp_path / "server.yaml") as server:
        there = trained(write_config(tmp_path / "there", policy, {"server": server.target, "use": weights}))
        assert server.terminate() == 0
    functions = {
        name: {"python": f"{CLASSIC}:{function}", "weight": weight} for name, (function, weight) in FUNCTIONS.items()
    }
    here = trained(write_config(tmp_path / "here", policy, {"local": functions}))

    assert len(here) == 6
    assert without_clocks(there) == without_clocks(here)
    assert {f"rewards/{name}/mean" for name in FUNCTIONS} <= here[0].keys()
    assert len({row["reward"] for row in here}) == 6


def test_sigterm_ends_a_run_within_seconds_and_keeps_it(tmp_path: Path, policy: Path):
    (tmp_path / "server.yaml").write_text("rewards: {brevity: {length: {unit: words, target: 3, width: 9}}}\n")
    with ServerProcess(tmp_path / "server.yaml") as server:
        config = write_config(
            tmp_path / "run", policy, {"server": server.target, "use": {"brevity": 1.0}}, max_steps=100_000
        )
        process = subprocess.Popen(
            command(config), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=clean_environment()
        )
        try:
            until = time.monotonic() + 120
            while len(metrics(config)) < 2:
                assert process.poll() is None, process.stdout.read() if process.stdout else ""
                assert time.monotonic() < until
                time.sleep(0.1)
            process.send_signal(signal.SIGTERM)
            said, _ = process.communicate(timeout=60)
        finally:
            process.kill()
        assert process.returncode == 128 + signal.SIGTERM, said
    assert "saving what the model has learned so far" in said
    assert f"saved: {config.parent / 'run' / 'model'}" in said
    assert (config.parent / "run" / "model" / "model.safetensors").exists()
    assert (config.parent / "run" / "report.html").exists()
