"""Settings outside of what usually works: which are told, with what value, and what to try."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from trainer import ranges
from trainer.client import CostClass, RewardInfo
from trainer.config import TrainConfig, load

Write = Callable[..., Path]


def usual(**fields: Any) -> Any:
    """TRL's arguments of a run in which nothing is unusual."""
    values = {"beta": 0.04, "learning_rate": 1e-5, "num_generations": 8, "max_completion_length": 128}
    return SimpleNamespace(**{**values, **fields})


@pytest.fixture
def whole(write_config: Write) -> TrainConfig:
    """A run that trains all weights."""
    return load(write_config())


@pytest.fixture
def adapter(write_config: Write) -> TrainConfig:
    return load(write_config(model={"lora": {"r": 8}}))


@pytest.mark.parametrize("beta", [0.0, 0.01, 0.04, 0.1])
@pytest.mark.parametrize(("generations", "length"), [(2, 64), (8, 256)])
@pytest.mark.parametrize("rate", [1e-6, 1e-5])
def test_usual_settings_are_not_mentioned(whole: TrainConfig, beta, generations, length, rate):
    arguments = usual(beta=beta, num_generations=generations, max_completion_length=length, learning_rate=rate)
    assert list(ranges.unusual(arguments, whole)) == []


@pytest.mark.parametrize(
    ("field", "value", "begins", "ends"),
    [
        ("beta", 0.001, "grpo.beta: 0.001 is below the usual 0.01 to 0.1: ", ". Try 0.01"),
        ("beta", 0.5, "grpo.beta: 0.5 is above the usual 0.01 to 0.1: ", ". Try 0.1"),
        ("num_generations", 16, "grpo.num_generations: 16 is above the usual 2 to 8: ", ". Try 8"),
        ("max_completion_length", 16, "grpo.max_completion_length: 16 is below the usual 64 to 256: ", ". Try 64"),
        ("max_completion_length", 512, "grpo.max_completion_length: 512 is above the usual 64 to 256: ", ". Try 256"),
        ("learning_rate", 1e-7, "grpo.learning_rate: 1e-7 is below the usual 1e-6 to 1e-5: ", ". Try 1e-6"),
        ("learning_rate", 5e-5, "grpo.learning_rate: 5e-5 is above the usual 1e-6 to 1e-5: ", ". Try 1e-5"),
    ],
)
def test_what_is_unusual_is_told_with_its_value_the_range_and_one_to_try(whole, field, value, begins, ends):
    (said,) = ranges.unusual(usual(**{field: value}), whole)
    assert said.startswith(begins)
    assert said.endswith(ends)


def test_an_adapter_takes_ten_times_the_learning_rate(adapter: TrainConfig):
    assert list(ranges.unusual(usual(learning_rate=1e-4), adapter)) == []
    (said,) = ranges.unusual(usual(learning_rate=5e-4), adapter)
    assert "0.0005 is above the usual 1e-6 to 0.0001 for an adapter: " in said


@pytest.mark.parametrize(
    ("name", "thinks"),
    [
        ("unsloth/Qwen3-4B-unsloth-bnb-4bit", True),
        ("Qwen/Qwen3-4B-Thinking-2507", True),
        ("Qwen/Qwen3-4B-Instruct-2507", False),
        ("Qwen/Qwen3-4B-Base", False),
        ("Qwen/Qwen2.5-1.5B-Instruct", False),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", True),
    ],
)
def test_a_model_that_thinks_needs_room_for_it(write_config: Write, name: str, thinks: bool):
    config = load(write_config(model={"name": name}))
    assert ranges.thinks(config) is thinks
    said = list(ranges.unusual(usual(max_completion_length=128), config))
    assert bool(said) is thinks
    if thinks:
        assert "128 tokens end inside the thoughts" in said[0]
        assert "Try grpo.chat_template_kwargs: {enable_thinking: false}, or 2048 tokens" in said[0]
        assert list(ranges.unusual(usual(max_completion_length=2048), config)) == []


def test_with_thinking_off_short_completions_are_usual(write_config: Write):
    grpo = {"chat_template_kwargs": {"enable_thinking": False}}
    config = load(write_config(model={"name": "Qwen/Qwen3-4B"}, grpo=grpo))
    assert list(ranges.unusual(usual(max_completion_length=128), config)) == []


def test_a_model_in_a_folder_is_known_by_its_chat_template(write_config: Write, tmp_path: Path):
    folder = tmp_path / "model"
    folder.mkdir()
    config = load(write_config())
    assert not ranges.thinks(config)
    (folder / "tokenizer_config.json").write_text('{"chat_template": "{{ messages }}<think>"}')
    assert ranges.thinks(config)
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    assert not ranges.thinks(config)
    (tmp_path / "own.jinja").write_text("<think>")
    assert ranges.thinks(load(write_config(model={"chat_template": "own.jinja"})))


def test_a_prompt_can_ask_any_model_to_think(write_config: Write):
    data = {"prompts": ["x"], "system_prompt": "Think between <think> and </think>."}
    assert ranges.thinks(load(write_config(data=data)))


def test_a_prompt_too_long_for_its_completion_is_told_with_what_would_do(write_config: Write):
    config = load(write_config(model={"max_seq_length": 512}))
    assert list(ranges.room_for_prompts(usual(), config, 384 * 4)) == []
    (said,) = ranges.room_for_prompts(usual(), config, 2000)
    assert "model.max_seq_length: 512 less grpo.max_completion_length 128 leaves 384 tokens for a prompt" in said
    assert "about 500 (2000 characters). Try 768" in said
    (said,) = ranges.room_for_prompts(usual(max_completion_length=512), config, 4)
    assert "leaves 0 tokens" in said
    assert list(ranges.room_for_prompts(usual(), load(write_config()), 10**6)) == [], (
        "the model's own length counts then"
    )


@pytest.mark.parametrize(
    ("grpo", "processes", "said"),
    [
        ({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "num_generations": 4}, 1, None),
        ({"per_device_train_batch_size": 1, "num_generations": 4}, 4, None),
        ({"per_device_train_batch_size": 1, "num_generations": 4, "generation_batch_size": 4}, 1, None),
        (
            {"per_device_train_batch_size": 1, "num_generations": 4},
            1,
            (
                "a batch is 1 x 1 = 1 completions, and that is no multiple of grpo.num_generations 4. "
                "Try grpo.gradient_accumulation_steps: 4, or grpo.per_device_train_batch_size: 4"
            ),
        ),
        (
            {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 3, "num_generations": 8},
            2,
            (
                "a batch is 2 x 3 x 2 processes = 12 completions, and that is no multiple of grpo.num_generations 8. "
                "Try grpo.gradient_accumulation_steps: 2, or grpo.per_device_train_batch_size: 8"
            ),
        ),
    ],
)
def test_a_batch_that_is_not_made_of_whole_groups_is_told_with_two_ways_out(write_config: Write, grpo, processes, said):
    config = load(write_config())
    assert (
        ranges.uneven_batch(
            TrainConfig(config.path, config.model, config.data, config.rewards, grpo, config.run), processes
        )
        == said
    )


def info(**fields: Any) -> RewardInfo:
    return RewardInfo("taste", "1", "judge", **fields)


@pytest.mark.parametrize(
    ("low", "high", "weight"), [(0, 1, 1.0), (-0.7, 1.5, 1.0), (None, None, 1.0), (0, 1000, 0.001), (-1, 1, 2.0)]
)
def test_scores_of_the_usual_size_are_not_mentioned(low, high, weight):
    assert list(ranges.of_reward(info(min_score=low, max_score=high), weight, 120)) == []


def test_scores_that_dwarf_others_are_told_with_a_weight_to_try():
    (said,) = ranges.of_reward(info(min_score=0, max_score=1000), 1.0, 120)
    assert said.startswith("reward taste: scores from 0 to 1000 at weight 1 make up to 1000, ")
    assert said.endswith("Try a weight of 0.001, or on the server {rescale: {of: taste, to: [0, 1]}}")


def test_little_time_for_a_judge_is_told_and_for_a_rule_is_not():
    (said,) = ranges.of_reward(info(cost_class=CostClass.JUDGE), 1.0, 10)
    assert said.startswith("rewards.deadline_s: 10 s are short for taste, which asks a judge")
    assert said.endswith("Try 120")
    assert list(ranges.of_reward(info(cost_class=CostClass.TRIVIAL), 1.0, 10)) == []
