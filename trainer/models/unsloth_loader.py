"""A model as Unsloth loads it, with Unsloth's LoRA and gradient checkpointing. `loaders.prepare` has imported it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.config import ConfigError, LoraSettings, TrainConfig
from trainer.models.precision import Precision
from trainer.models.source import check_quantization, model_source, quantization_of
from trainer.models.tokenizer import set_up
from trainer.models.transformers_loader import with_adapter

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""What `all-linear` means to Unsloth: the projections that it has fast code for."""

DEFAULT_MAX_SEQ_LENGTH = 2048
"""Unsloth's own, where the configuration says nothing."""


def load(
    config: TrainConfig, precision: Precision, init: Mapping[str, Any]
) -> tuple[PeftModel, PreTrainedTokenizerBase]:
    """Loads the model, its adapter on it, and the tokenizer. `init` are further arguments of `from_pretrained`."""
    from unsloth import FastLanguageModel  # noqa: PLC0415  # only where it is the loader

    source = model_source(config)
    checkpoint = quantization_of(source)
    check_quantization(config.model, checkpoint)
    try:
        model, tokenizer = FastLanguageModel.from_pretrained(
            model_name=source,
            dtype=precision.weights,
            **_options(config, checkpoint),
            **init,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model.name: Unsloth cannot load {source}: {error}") from error
    return _adapted(FastLanguageModel, model, config), set_up(tokenizer, config)


def _options(config: TrainConfig, checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    settings = config.model
    options: dict[str, Any] = {
        "max_seq_length": settings.max_seq_length or DEFAULT_MAX_SEQ_LENGTH,
        "load_in_4bit": settings.load_in_4bit or bool(checkpoint.get("load_in_4bit")),
        "load_in_8bit": settings.load_in_8bit or bool(checkpoint.get("load_in_8bit")),
        "fast_inference": settings.fast_inference,
        "use_gradient_checkpointing": _checkpointing(config),
        "random_state": config.run.seed,
        # Otherwise it takes another checkpoint than the one that is named, with other weights.
        "use_exact_model_name": True,
    }
    if settings.fast_inference:
        options["max_lora_rank"] = settings.lora.r if settings.lora is not None else 64
        options["gpu_memory_utilization"] = config.grpo.get("vllm_gpu_memory_utilization", 0.5)
    return options


def _adapted(fast: Any, model: Any, config: TrainConfig) -> PeftModel:
    """Returns the model with the adapter that is trained: a new one, or the one that training goes on with."""
    if config.model.adapter is not None:
        adapted = with_adapter(model, config.at(config.model.adapter))
        fast.patch_peft_model(adapted, use_gradient_checkpointing=_checkpointing(config))
        return adapted
    lora = config.model.lora
    if lora is None:
        raise ConfigError("model.lora: Unsloth trains adapters here; drop lora: null")
    return fast.get_peft_model(  # type: ignore[no-any-return]  # Unsloth tells no types
        model,
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=_target_modules(lora),
        use_gradient_checkpointing=_checkpointing(config),
        random_state=config.run.seed,
    )


def _target_modules(lora: LoraSettings) -> str | list[str]:
    if lora.target_modules == "all-linear":
        return list(ALL_LINEAR)
    return lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)


def _checkpointing(config: TrainConfig) -> str | bool:
    """Returns Unsloth's word for `grpo.gradient_checkpointing`, which TRL turns on where nobody says anything."""
    return "unsloth" if config.grpo.get("gradient_checkpointing", True) else False
