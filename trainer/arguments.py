"""From the `grpo` section of a configuration to TRL's `GRPOConfig`: every field by its own name, wrong ones by name.

Needs trl; it is imported when it is needed.
"""

from __future__ import annotations

import dataclasses
import typing
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from protos.configfile import did_you_mean
from trainer.config import ConfigError, TrainConfig
from trainer.models import choose_precision

if TYPE_CHECKING:
    from trl.trainer.grpo_config import GRPOConfig

OUR_DEFAULTS: dict[str, Any] = {
    "logging_steps": 1,  # every step into metrics.jsonl
    "report_to": "none",
    "disable_tqdm": True,  # the run has a view of its own
}
"""Where this trainer's defaults are not TRL's."""

DEFAULT_MAX_STEPS = 100
"""Where neither `max_steps` nor `num_train_epochs` is said: TRL would take three epochs, whatever the data set holds."""


def grpo_arguments(config: TrainConfig, run_folder: Path) -> GRPOConfig:
    """Returns the arguments of `GRPOTrainer`. Raises `ConfigError` with every wrong field; TRL's own rules included."""
    from trl.trainer.grpo_config import GRPOConfig  # noqa: PLC0415  # several seconds

    values = {**OUR_DEFAULTS, **_checked(config, GRPOConfig)}
    if "max_steps" not in values and "num_train_epochs" not in values:
        values["max_steps"] = DEFAULT_MAX_STEPS
    precision = choose_precision(config.model, use_cpu=values.pop("use_cpu", False))
    values |= precision.grpo_fields
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # transformers on the names of TRL's own defaults
            return GRPOConfig(
                output_dir=str(run_folder),
                seed=config.run.seed,
                reward_weights=config.rewards.weights,
                **values,
            )
    except (ValueError, TypeError) as error:  # TRL's rules, such as: num_generations divides the generation batch
        raise ConfigError(f"grpo: TRL refuses: {error}") from error


def _checked(config: TrainConfig, grpo_config: type[Any]) -> dict[str, Any]:
    """Returns the fields, texts as the types that `GRPOConfig` declares: `"5e-4"` is a text to YAML, a number to TRL."""
    known = {field.name for field in dataclasses.fields(grpo_config) if field.init}
    types = typing.get_type_hints(grpo_config)
    values, problems = {}, []
    for name, value in config.grpo.items():
        if name not in known:
            problems.append(f"grpo.{name}: GRPOConfig has no such field{did_you_mean(name, known)}")
            continue
        if not isinstance(value, str):
            values[name] = value
            continue
        try:
            values[name] = TypeAdapter(types[name]).validate_python(value)
        except ValidationError as error:
            problems.append(f"grpo.{name}: {value!r} is no {_type_name(types[name])}: {error.errors()[0]['msg']}")
    if problems:
        raise ConfigError(*problems)
    return values


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
