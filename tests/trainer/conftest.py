"""Small runs: a tiny policy, a configuration around it, a reward server that a test scripts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_reward_server import FakeServer
from tiny_policy import save_tiny_policy

from trainer.config import TrainConfig, load

LOCAL_REWARDS = """
def letters(completions, prompts):
    return [sum(map(str.isalpha, text)) / max(1, len(text)) for text in completions]
"""


@pytest.fixture(scope="session")
def tiny_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model that trains in seconds."""
    return save_tiny_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    fake = FakeServer().start()
    yield fake
    fake.stop()


@pytest.fixture
def write_config(tmp_path: Path) -> Callable[..., Path]:
    """Writes a train.yaml: a small run with a local reward, its sections replaced or extended by what is given."""
    (tmp_path / "my_rewards.py").write_text(LOCAL_REWARDS)

    def write(**sections: Any) -> Path:
        settings: dict[str, Any] = {
            "model": {"name": str(tmp_path / "model"), "precision": "fp32", "lora": None},
            "data": {"prompts": ["one", "two", "three", "four"], "conversational": False},
            "rewards": {"local": {"letters": {"python": "my_rewards.py:letters"}}},
            "grpo": {
                "max_steps": 2,
                "per_device_train_batch_size": 4,
                "num_generations": 2,
                "max_completion_length": 8,
                "gradient_checkpointing": False,
                "save_strategy": "no",
            },
            "run": {"folder": "run", "samples_before_after": 2},
        }
        for name, values in sections.items():
            settings[name] = {**settings[name], **values} if name in {"model", "grpo", "run"} else values
        path = tmp_path / "train.yaml"
        path.write_text(yaml.safe_dump(settings, sort_keys=False))
        return path

    return write


@pytest.fixture
def small_run(write_config: Callable[..., Path], tiny_policy: Path) -> Callable[..., TrainConfig]:
    """Returns the configuration of a run that can be trained."""

    def make(**sections: Any) -> TrainConfig:
        model = {"name": str(tiny_policy), **sections.pop("model", {})}
        return load(write_config(model=model, **sections))

    return make
