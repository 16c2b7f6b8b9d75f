"""From the `grpo` section of a configuration to TRL's `GRPOConfig`: every field by its own name, wrong ones by name.

Needs trl; it is imported when it is needed.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from protos.configfile import did_you_mean
from trainer.config import ConfigError, TrainConfig
from trainer.fields import field_problems
from trainer.models import choose_precision, prepare

if TYPE_CHECKING:
    from trl.trainer.grpo_config import GRPOConfig

OUR_DEFAULTS: dict[str, Any] = {
    "logging_steps": 1,  # every step into metrics.jsonl
    "report_to": "none",
    "disable_tqdm": True,  # the run has a view of its own
    "save_steps": 10,  # what a killed run loses at most
    "save_total_limit": 2,  # not 1: a kill while the only one is replaced would leave none
}
"""Where this trainer's defaults are not TRL's."""

DEFAULT_MAX_STEPS = 100
"""Where neither `max_steps` nor `num_train_epochs` is said: TRL would take three epochs, whatever the data set holds."""

DEFAULT_GROUP = DEFAULT_BATCH = 8
"""TRL's `num_generations` and `per_device_train_batch_size`."""


def grpo_arguments(config: TrainConfig, run_folder: Path) -> GRPOConfig:
    """Returns the arguments of `GRPOTrainer`. Raises `ConfigError` with every wrong field; TRL's own rules included."""
    loader = prepare(config)
    from trl.trainer.grpo_config import GRPOConfig  # noqa: PLC0415  # several seconds; and Unsloth comes first

    values = {**OUR_DEFAULTS, **_checked(config, GRPOConfig)}
    if problems := list(field_problems(config, values)):
        raise ConfigError(*problems)
    values = {**_evaluation(config, values), **values}
    if "max_steps" not in values and "num_train_epochs" not in values:
        values["max_steps"] = DEFAULT_MAX_STEPS
    precision = choose_precision(config.model, use_cpu=values.pop("use_cpu", False))
    values |= precision.grpo_fields
    values |= {"output_dir": str(run_folder), "seed": config.run.seed, "reward_weights": config.rewards.weights}
    if loader.name == "unsloth":
        values |= _as_trl_means_it(GRPOConfig, values)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # transformers on the names of TRL's own defaults
            return GRPOConfig(**values)
    # TRL's rules, such as: num_generations divides the generation batch; and what a field needs that is not installed
    except (ValueError, TypeError, ArithmeticError, ImportError) as error:
        raise ConfigError(f"grpo: TRL refuses: {error}") from error


def _as_trl_means_it(grpo_config: type[Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what Unsloth must be told so that one configuration is one run, whatever loads the model.

    Its stand-in for `GRPOConfig` has other defaults than TRL (8-bit AdamW, 8 generations, a learning rate of 5e-5, ...),
    and changes other fields with `loss_type` where that is said.
    """
    own = inspect.signature(grpo_config.__init__).parameters
    of_trl = next(each for each in grpo_config.__mro__ if "unsloth_num_chunks" not in inspect.get_annotations(each))
    told = {
        field.name: field.default
        for field in dataclasses.fields(of_trl)
        if field.name in own and field.name not in values and field.default is not dataclasses.MISSING
        if own[field.name].default != field.default and field.name != "loss_type"  # both mean dapo
    }
    loss_type = values.get("loss_type")
    if loss_type in {"dapo", "cispo"} and values.get("epsilon_high") is None:
        told["epsilon_high"] = values.get("epsilon", 0.2)
    if loss_type == "dr_grpo" and values.get("scale_rewards", "group") in {True, "group"}:
        told["scale_rewards"] = None  # to Unsloth this is "group"; what TRL calls so it would turn off
    return told


def _evaluation(config: TrainConfig, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the defaults of a run with an evaluation split, which is evaluated after the last step in any case."""
    if not config.data.is_evaluated:
        if values.get("eval_strategy", "no") not in {"no", False}:  # an unquoted `no` may be False
            raise ConfigError(
                "grpo.eval_strategy: there is nothing to evaluate: say data.eval_share: 0.1, or name a split by "
                "data.eval_path or data.eval_split"
            )
        return {}
    group = values.get("num_generations_eval") or values.get("num_generations") or DEFAULT_GROUP
    batch = values.get("per_device_train_batch_size") or DEFAULT_BATCH
    return {"eval_on_start": True, "per_device_eval_batch_size": max(1, batch // group) * group}  # whole groups


def _checked(config: TrainConfig, grpo_config: type[Any]) -> dict[str, Any]:
    """Returns the fields, texts as the types that `GRPOConfig` declares: `"5e-4"` is a text to YAML, a number to TRL."""
    known = {field.name for field in dataclasses.fields(grpo_config) if field.init}
    types = typing.get_type_hints(grpo_config)
    values, problems = {}, []
    for name, value in config.grpo.items():
        if name not in known:
            whose = "is a field of Unsloth's, which does not load the model here" if name.startswith("unsloth_") else ""
            problems.append(f"grpo.{name}: {whose or f'GRPOConfig has no such field{did_you_mean(name, known)}'}")
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
