"""Every field of GRPOConfig by its own name, and the messages for those that are wrong."""

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trainer import preflight
from trainer.arguments import DEFAULT_MAX_STEPS, grpo_arguments
from trainer.config import ConfigError, TrainConfig
from trainer.fields import unsloth_batch_size

Make = Callable[..., TrainConfig]


def test_fields_pass_through_by_their_own_names(small_run: Make, tmp_path: Path):
    fields = {"learning_rate": 3e-5, "epsilon_high": 0.3, "chat_template_kwargs": {"enable_thinking": False}}
    arguments = grpo_arguments(small_run(grpo=fields), tmp_path)
    assert arguments.learning_rate == 3e-5
    assert arguments.epsilon_high == 0.3
    assert arguments.chat_template_kwargs == {"enable_thinking": False}


def test_weights_end_in_reward_weights_in_the_order_of_the_functions(small_run: Make, tmp_path: Path):
    rewards = {
        "server": "127.0.0.1:1",
        "use": {"b": 0.5, "a": 2},
        "local": {"letters": {"python": "my_rewards.py:letters", "weight": 0.1}},
    }
    config = small_run(rewards=rewards)
    assert config.rewards.names == ["b", "a", "letters"]
    assert grpo_arguments(config, tmp_path).reward_weights == [0.5, 2, 0.1]


def test_seed_folder_and_number_format_come_from_their_own_sections(small_run: Make, tmp_path: Path):
    arguments = grpo_arguments(small_run(run={"seed": 11}, model={"precision": "bf16"}), tmp_path / "out")
    assert arguments.seed == 11
    assert arguments.output_dir == str(tmp_path / "out")
    assert (arguments.bf16, arguments.fp16) == (True, False)


def test_every_step_is_logged_and_nothing_is_reported_elsewhere_unless_asked(small_run: Make, tmp_path: Path):
    arguments = grpo_arguments(small_run(), tmp_path)
    assert arguments.logging_steps == 1
    assert arguments.report_to == []
    assert grpo_arguments(small_run(grpo={"logging_steps": 5}), tmp_path).logging_steps == 5


def test_a_run_ends_even_if_nobody_says_when(small_run: Make, tmp_path: Path):
    config = small_run()
    without = {name: value for name, value in config.grpo.items() if name != "max_steps"}
    assert grpo_arguments(replace(config, grpo=without), tmp_path).max_steps == DEFAULT_MAX_STEPS
    by_epochs = grpo_arguments(replace(config, grpo={**without, "num_train_epochs": 2}), tmp_path)
    assert (by_epochs.max_steps, by_epochs.num_train_epochs) == (-1, 2)


def test_a_number_written_as_a_text_is_a_number(small_run: Make, tmp_path: Path):
    assert grpo_arguments(small_run(grpo={"learning_rate": "1e-3"}), tmp_path).learning_rate == 1e-3


def test_what_trl_takes_beyond_its_declared_types_is_left_to_it(small_run: Make, tmp_path: Path):
    assert grpo_arguments(small_run(grpo={"scale_rewards": False}), tmp_path).scale_rewards == "none"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"max_prompt_lenght": 3}, "grpo.max_prompt_lenght: GRPOConfig has no such field"),
        (
            {"num_generation": 3},
            r"grpo\.num_generation: GRPOConfig has no such field; did you mean 'num_generations'\?",
        ),
        ({"max_steps": "ten"}, "grpo.max_steps: 'ten' is no int"),
        (
            {"num_generations": 3},
            r"TRL refuses: generation_batch_size \(4\) must be divisible by num_generations \(3\)",
        ),
        ({"num_generations": 1}, "TRL refuses: GRPO requires at least 2 generations"),
        ({"num_generations": 0}, "grpo.num_generations: must be at least 1, found 0"),
        ({"gradient_accumulation_steps": 0}, "grpo.gradient_accumulation_steps: must be at least 1, found 0"),
        ({"learning_rate": float("nan")}, "grpo.learning_rate: must be at least 0, found nan"),
        ({"beta": -0.1}, "grpo.beta: must be at least 0, found -0.1"),
        ({"temperature": 0}, "grpo.temperature: must be more than 0, found 0"),
        ({"loss_type": "gpro"}, "grpo.loss_type: 'gpro' is not one of grpo, dr_grpo, dapo"),
        ({"scale_rewards": "rank"}, "grpo.scale_rewards: 'rank' is not one of group, batch, none"),
        ({"deepspeed": "nowhere.json"}, "TRL refuses: .*deepspeed"),
    ],
)
def test_a_wrong_field_is_named(small_run: Make, tmp_path: Path, fields, message):
    with pytest.raises(ConfigError, match=message):
        grpo_arguments(small_run(grpo=fields), tmp_path)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optim": "adamw_8bit"}, r"grpo\.optim: adamw_8bit needs bitsandbytes, .* pip install .*\[quantization\]"),
        ({"optim": "paged_adamw_32bit"}, r"grpo\.optim: paged_adamw_32bit needs bitsandbytes"),
        ({"report_to": "wandb"}, r"grpo\.report_to: wandb is not installed: pip install wandb"),
        ({"report_to": ["none", "trackio"]}, r"grpo\.report_to: trackio is not installed"),
        ({"use_vllm": True}, r"grpo\.use_vllm: vLLM is not installed: pip install 'grpo-reward-service\[vllm\]'"),
        ({"vllm_gpu_memory_utilization": 0.4}, r"vllm_gpu_memory_utilization: means nothing without vLLM"),
        (
            {"use_vllm": True, "vllm_server_port": 8001},
            r"grpo\.vllm_server_port: means nothing with vllm_mode: colocate; drop it, or say vllm_mode: server",
        ),
        (
            {"use_vllm": True, "vllm_mode": "server", "vllm_tensor_parallel_size": 2},
            r"grpo\.vllm_tensor_parallel_size: means nothing with vllm_mode: server",
        ),
        (
            {"use_vllm": True, "vllm_mode": "server"},
            r"grpo\.vllm_mode: server, and no server is named: say vllm_server_base_url",
        ),
        (
            {"use_vllm": True, "vllm_mode": "server", "vllm_server_host": "a", "vllm_server_base_url": "http://b:8000"},
            r"grpo\.vllm_server_host: vllm_server_base_url names the server already",
        ),
        ({"unsloth_num_chunks": 2}, r"unsloth_num_chunks: is a field of Unsloth's, which does not load the model here"),
    ],
)
def test_what_is_not_installed_or_contradicts_is_said_with_the_remedy(
    small_run: Make, tmp_path: Path, monkeypatch, fields, message
):
    find = importlib.util.find_spec
    absent = {"bitsandbytes", "wandb", "trackio", "vllm"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    with pytest.raises(ConfigError, match=message):
        grpo_arguments(small_run(grpo=fields), tmp_path)


def test_what_is_installed_is_passed_on(small_run: Make, tmp_path: Path, monkeypatch):
    find = importlib.util.find_spec
    there = {"bitsandbytes", "wandb", "vllm"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else find(name))
    fields = {
        "optim": "adamw_8bit",
        "report_to": ["wandb"],
        "use_vllm": True,
        "vllm_mode": "server",
        "vllm_server_base_url": "http://127.0.0.1:8000",
    }
    arguments = grpo_arguments(small_run(grpo=fields), tmp_path)
    assert {name: getattr(arguments, name) for name in fields} == fields


def test_a_completion_that_leaves_no_room_for_a_prompt_is_refused(small_run: Make, tmp_path: Path):
    config = small_run(model={"max_seq_length": 100}, grpo={"max_completion_length": 100})
    with pytest.raises(ConfigError, match=r"model\.max_seq_length: 100 tokens .* a completion may take 100"):
        grpo_arguments(config, tmp_path)
    assert grpo_arguments(small_run(model={"max_seq_length": 100}), tmp_path).max_completion_length == 8


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "num_generations": 4}, None),
        ({"per_device_train_batch_size": 1, "gradient_accumulation_steps": 1, "num_generations": 4}, 4),
        ({"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2, "num_generations": 4}, 4),
        ({"per_device_train_batch_size": 1, "num_generations": 4, "generation_batch_size": 4}, None),
    ],
)
def test_the_batch_that_unsloth_makes_of_another(small_run: Make, fields, size):
    assert unsloth_batch_size(replace(small_run(), grpo=fields)) == size


def test_all_wrong_fields_are_named_at_once(small_run: Make, tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        grpo_arguments(small_run(grpo={"a_b_c": 1, "d_e_f": 2, "max_steps": "x"}), tmp_path)
    assert len(caught.value.problems) == 3


def test_the_preflight_asks_trls_own_rules(small_run: Make):
    assert _said_of_grpo(small_run()).startswith("✓ grpo: 2 steps of 2 prompts x 2 completions on cpu, fp32")
    assert "TRL refuses: GRPO requires at least 2" in _said_of_grpo(small_run(grpo={"num_generations": 1}))
    assert "did you mean 'learning_rate'?" in _said_of_grpo(small_run(grpo={"learning_rte": 3}))


def test_fewer_prompts_than_a_batch_takes_is_refused_because_trl_would_train_on_none(
    small_run: Make,
):
    said = _said_of_grpo(small_run(data={"prompts": ["only one"], "conversational": False}))
    assert said.startswith("✗ grpo: a batch takes 2 prompts of 2 completions each, and the data set has 1")


def _said_of_grpo(config: TrainConfig) -> str:
    """Returns what was found of the fields, without warnings about what is unusual."""
    *_, last = (check for check in preflight.checks(config) if check.mark.value in "✓✗")
    return f"{last.mark.value} {last.text}"
