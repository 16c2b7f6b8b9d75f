"""Every field of GRPOConfig by its own name, and the messages for those that are wrong."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from trainer import preflight
from trainer.arguments import DEFAULT_MAX_STEPS, grpo_arguments
from trainer.config import ConfigError, TrainConfig

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
    ],
)
def test_a_wrong_field_is_named(small_run: Make, tmp_path: Path, fields, message):
    with pytest.raises(ConfigError, match=message):
        grpo_arguments(small_run(grpo=fields), tmp_path)


def test_all_wrong_fields_are_named_at_once(small_run: Make, tmp_path: Path):
    with pytest.raises(ConfigError) as caught:
        grpo_arguments(small_run(grpo={"a_b_c": 1, "d_e_f": 2, "max_steps": "x"}), tmp_path)
    assert len(caught.value.problems) == 3


def test_the_preflight_asks_trls_own_rules(small_run: Make):
    assert _last_line(small_run()) == "✓ grpo: 2 steps of 2 prompts x 2 completions on cpu, fp32"
    assert "must be divisible by num_generations" in _last_line(small_run(grpo={"num_generations": 3}))
    assert "did you mean 'learning_rate'?" in _last_line(small_run(grpo={"learning_rte": 3}))


def test_fewer_prompts_than_a_batch_takes_is_refused_because_trl_would_train_on_none(
    small_run: Make,
):
    said = _last_line(small_run(data={"prompts": ["only one"], "conversational": False}))
    assert said.startswith("✗ grpo: a batch takes 2 prompts of 2 completions each, and the data set has 1")


def _last_line(config: TrainConfig) -> str:
    *_, last = preflight.checks(config)
    return f"{last.mark.value} {last.text}"
