"""Real runs of a tiny policy, each made to have an illness, and what their detectors say of it."""

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from brief_policy import save_brief_policy
from rich.console import Console

from trainer.config import TrainConfig
from trainer.train import OutOfMemory, train
from trainer.watching import kept

Make = Callable[..., TrainConfig]

SMALL = {
    "max_steps": 20,
    "per_device_train_batch_size": 32,
    "num_generations": 8,
    "max_completion_length": 24,
    "learning_rate": 1e-3,
    "beta": 0.04,
}

REWARDS = """
import math

def letters(completions):
    return [text.count("a") / max(1, len(text)) for text in completions]

def long(completions):
    return [min(1.0, len(text) / 24) for text in completions]

def thousand(completions):
    return [1000.0 * text.count("a") / max(1, len(text)) for text in completions]

def constant(completions):
    return [0.5 for _ in completions]

def often_nan(completions):
    return [math.nan if index % 2 else 0.1 * (index % 8) for index, _ in enumerate(completions)]

def hungry(completions, trainer_state):
    import torch
    if trainer_state is not None and trainer_state.global_step == 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")
    return [0.1 * index for index, _ in enumerate(completions)]

def endless(completions):
    return [math.inf if index == 3 else 0.1 * index for index, _ in enumerate(completions)]
"""


@pytest.fixture(scope="session")
def brief_policy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_brief_policy(tmp_path_factory.mktemp("brief"))


@dataclass(frozen=True)
class Told:
    """What a run said."""

    warnings: list[dict[str, Any]]
    screen: str
    report: str
    record: dict[str, Any]

    def of(self, illness: str) -> str:
        """Returns the words about one illness, which was told once, and everywhere."""
        (row,) = [each for each in self.warnings if each["illness"] == illness]
        assert row["text"] in self.screen
        assert row["illness"] in self.report
        return row["text"]

    def illnesses(self) -> set[str]:
        return {each["illness"] for each in self.warnings if each["level"] == "warning"}


@pytest.fixture
def watched(small_run: Make, brief_policy: Path, tmp_path: Path, one_thread: None) -> Callable[..., Told]:
    """Trains with rewards of `REWARDS`, and returns what was said meanwhile."""
    (tmp_path / "ill.py").write_text(REWARDS)

    def run(*rewards: str, fails: type[BaseException] | None = None, **grpo: Any) -> Told:
        config = small_run(
            model={"name": str(brief_policy)},
            data={"prompts": ["abc", "bcd", "cde", "def"], "conversational": False},
            rewards={"local": {name: {"python": f"ill.py:{name}"} for name in rewards}},
            grpo=SMALL | grpo,
            run={"samples_before_after": 0},
        )
        console = Console(file=StringIO(), width=200)
        with pytest.raises(fails) if fails else contextlib.nullcontext():
            train(config, console)
        folder = tmp_path / "run"
        report, record = (folder / "report.html").read_text(), json.loads((folder / "run.json").read_text())
        return Told(kept.read(folder), console.file.getvalue(), report, record)

    return run


def test_a_healthy_run_is_left_alone(watched):
    told = watched("letters", max_steps=16)
    assert told.warnings == []
    assert "warning" not in told.screen


def test_a_reward_for_length_is_told_as_one(watched):
    told = watched("long", learning_rate=2e-2, beta=0.0, max_steps=20)
    words = told.of("reward hacking, length")
    assert "long scores longer completions higher (correlation +1.00 within groups)" in words
    for remedy in ("a second reward beside it", "`diversity`", "clip: {of: long", "grpo.beta from 0 to 0.01"):
        assert remedy in words
    assert "reward hacking, one length" not in told.illnesses()  # it is the limit's, at which all are cut off
    assert "the largest score of long seen" in told.of("reward hacking, saturation")
    assert "grpo.max_completion_length from 24 to 48" in told.of("truncation")
    assert "no kl" in told.of("KL is not measured")


def test_a_policy_that_is_torn_away_from_its_reference(watched):
    told = watched("letters", beta=0.001, learning_rate=0.05, max_steps=14)
    words = told.of("KL too high")
    for remedy in (
        "grpo.beta from 0.001 to 0.01",
        "grpo.learning_rate from 0.05 to 5e-06",
        "grpo.max_steps from 14 to",
    ):
        assert remedy in words
    assert "repeat another one word for word" in told.of("reward hacking, duplicates")
    assert "grpo.beta from 0.001 to 0.01" in told.of("entropy collapse")


def test_scores_that_are_no_numbers(watched):
    words = watched("endless", max_steps=2).of("instability, not a number")
    assert "1 scores of a batch are NaN or infinite" in words
    for remedy in ("mend the reward", "grpo.learning_rate from 0.001 to 5e-06", "grpo.num_generations from 8 to 2"):
        assert remedy in words


def test_scores_that_are_nan_are_missing_ones(watched):
    words = watched("often_nan", max_steps=6).of("missing scores")
    assert "50 % of the scores are missing" in words
    assert "often_nan 16.0 a batch" in words


def test_scores_a_thousand_times_too_large(watched):
    words = watched("thousand", max_steps=4).of("instability, reward scale")
    assert "thousand goes from 0 to" in words
    assert "weight of thousand from 1 to 0.00" in words
    assert "`rescale: {of: thousand" in words


def test_scores_that_are_all_the_same(watched):
    words = watched("constant", max_steps=6).of("zero-variance groups")
    assert "all 8 completions of 100 % of the groups get the same reward" in words
    assert "grpo.num_generations from 8 to 16" in words


def test_memory_that_ran_out(watched):
    told = watched("hungry", fails=OutOfMemory, max_steps=4)
    advice = told.record["advice"]
    assert "Tried to allocate 9.00 GiB" in advice
    for remedy in (
        "grpo.num_generations from 8 to 2 (saves about",
        "grpo.gradient_checkpointing from false to true (saves about",
        "grpo.per_device_train_batch_size from 32 to 16 (saves about",
    ):
        assert remedy in advice


def test_weights_that_are_no_numbers_any_more(watched):
    told = watched("letters", fails=RuntimeError, learning_rate=1e30, max_steps=6)
    words = told.of("instability, not a number")
    assert "grad_norm is nan" in words
    assert "grpo.learning_rate from 1e+30 to 5e-06" in words
    assert "the policy's probabilities are no numbers any more" in told.record["advice"]


def test_a_reward_that_the_server_changed_in_mid_run(small_run, server, tmp_path):
    def changed(request, _):
        response = server.answer(request)
        for result in response.results:
            result.version = "a-2"
        return response

    server.script.extend([lambda request, _: server.answer(request)] * 2)
    server.script.extend([changed] * 4)
    rewards = {"server": server.target, "use": {"a": 1.0}}
    console = Console(file=StringIO(), width=200)
    train(small_run(rewards=rewards, grpo={"max_steps": 4}, run={"samples_before_after": 0}), console)
    assert "a has version a-2 from step 3 on, before a-1" in console.file.getvalue()
    assert "changed at step 3" in (tmp_path / "run" / "report.html").read_text()
