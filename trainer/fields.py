"""What the fields of `grpo` need that may not be here, and which of them contradict one another.

Needs neither torch nor trl.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from trainer.config import TrainConfig

REPORTERS = {
    "trackio": ("trackio",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
}
"""Where metrics can be reported to, and the modules of which one must be installed for it. Others transformers checks."""

ONLY_SERVER = ("vllm_server_base_url", "vllm_server_host", "vllm_server_port", "vllm_server_timeout", "vllm_group_port")
ONLY_COLOCATE = (
    "vllm_gpu_memory_utilization",
    "vllm_max_model_length",
    "vllm_tensor_parallel_size",
    "vllm_enable_sleep_mode",
)
"""Fields of `GRPOConfig` that mean something in one `vllm_mode` only."""

LEAST: Mapping[str, int] = {
    "num_generations": 1,  # of 1 TRL says why it is too few
    "num_generations_eval": 1,
    "num_iterations": 1,
    "max_completion_length": 1,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "steps_per_generation": 1,
    "learning_rate": 0,
    "beta": 0,
    "epsilon": 0,
    "top_k": 0,
}
"""The smallest values with a meaning. TRL notices few of them, and those when the model is loaded."""

CHOICES: Mapping[str, tuple[Any, ...]] = {
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "importance_sampling_level": ("token", "sequence"),
    "scale_rewards": ("group", "batch", "none", True, False),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
}
"""What a field may be. TRL looks at these in the first step, when the model is loaded and has answered."""

DEFAULT_COMPLETION_LENGTH = 256
"""TRL's own."""


def field_problems(config: TrainConfig, values: Mapping[str, Any]) -> Iterator[str]:
    """Yields a line for each field of `grpo` that cannot be as it is, with the remedy."""
    yield from _optimizer(values.get("optim"))
    yield from _reporters(values.get("report_to"))
    yield from _values(values)
    yield from _vllm(values, fast_inference=config.model.fast_inference)
    completion, limit = (
        int(values.get("max_completion_length") or DEFAULT_COMPLETION_LENGTH),
        config.model.max_seq_length,
    )
    if limit is not None and completion >= limit:
        yield (
            f"model.max_seq_length: {limit} tokens for prompt and completion together, and a completion may take "
            f"{completion} (grpo.max_completion_length): lower that, or raise model.max_seq_length"
        )


def _values(values: Mapping[str, Any]) -> Iterator[str]:
    for name, least in LEAST.items():
        value = values.get(name)
        if isinstance(value, int | float) and not least <= value < math.inf:  # NaN is not either
            yield f"grpo.{name}: must be at least {least}, found {value}"
    temperature = values.get("temperature")
    if isinstance(temperature, int | float) and not 0 < temperature < math.inf:
        yield f"grpo.temperature: must be more than 0, found {temperature}"
    for name, known in CHOICES.items():
        value = values.get(name)
        if value is not None and value not in known:
            said = ", ".join(each for each in known if isinstance(each, str))
            yield f"grpo.{name}: {value!r} is not one of {said}"


def unsloth_batch_size(config: TrainConfig) -> int | None:
    """Returns the `per_device_train_batch_size` that Unsloth takes in place of the one asked for, or None if that stays.

    It raises it to the number of generations where a generation's batch over all processes holds no whole number of
    groups. TRL itself refuses such a configuration.
    """
    said = config.grpo
    if said.get("steps_per_generation") is not None or said.get("generation_batch_size") is not None:
        return None
    group = int(said.get("num_generations") or 8)
    here = int(said.get("per_device_train_batch_size") or 8) * int(said.get("gradient_accumulation_steps") or 1)
    return group if here * int(os.environ.get("WORLD_SIZE", "1")) % group else None


def _optimizer(optim: Any) -> Iterator[str]:
    name = str(optim or "")
    of_bitsandbytes = name.endswith("8bit") or name.startswith(("paged_", "lion_", "ademamix", "rmsprop_bnb"))
    if of_bitsandbytes and name != "adamw_torch_8bit" and not _installed("bitsandbytes"):
        yield (
            f"grpo.optim: {name} needs bitsandbytes, which is not installed: "
            "pip install 'grpo-reward-service[quantization]', or take optim: adamw_torch"
        )


def _reporters(report_to: Any) -> Iterator[str]:
    named: Sequence[Any] = [report_to] if isinstance(report_to, str) else report_to or ()
    for name in named:
        modules = REPORTERS.get(name, ())
        if modules and not any(map(_installed, modules)):
            yield f"grpo.report_to: {name} is not installed: pip install {name}, or drop it from report_to"


def _vllm(values: Mapping[str, Any], *, fast_inference: bool) -> Iterator[str]:
    said = [name for name in values if name.startswith("vllm_")]
    if not values.get("use_vllm"):
        if said and not fast_inference:
            yield f"grpo.{said[0]}: means nothing without vLLM: say use_vllm: true, or drop it"
        return
    if not _installed("vllm"):
        yield "grpo.use_vllm: vLLM is not installed: pip install 'grpo-reward-service[vllm]', or drop use_vllm"
    mode = values.get("vllm_mode", "colocate")
    for name in ONLY_SERVER if mode == "colocate" else ONLY_COLOCATE:
        if name in values:
            other = "server" if mode == "colocate" else "colocate"
            yield f"grpo.{name}: means nothing with vllm_mode: {mode}; drop it, or say vllm_mode: {other}"
    if mode != "server":
        return
    addresses = [name for name in ("vllm_server_base_url", "vllm_server_host") if values.get(name)]
    if not addresses:
        yield (
            "grpo.vllm_mode: server, and no server is named: say vllm_server_base_url: http://HOST:8000 "
            "(started there by `trl vllm-serve --model ...`)"
        )
    elif len(addresses) > 1:
        yield "grpo.vllm_server_host: vllm_server_base_url names the server already; drop one of the two"


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
