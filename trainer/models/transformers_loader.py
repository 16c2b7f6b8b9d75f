"""A model as transformers loads it, quantised by bitsandbytes where asked for, with LoRA by peft.

A quantised model gets no `prepare_model_for_kbit_training`: freezing the weights is done as the adapter is put on,
`GRPOTrainer` makes the inputs require gradients and sets the adapter's format, `Trainer` turns checkpointing on; what
would be left of it is to blow up embeddings and head to float32.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config import ConfigError, LoraSettings, ModelSettings, TrainConfig
from trainer.models.precision import Precision
from trainer.models.source import adapter_folder, check_quantization, model_source, quantization_of, quantized_bits
from trainer.models.tokenizer import load_tokenizer

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load(
    config: TrainConfig, precision: Precision, init: Mapping[str, Any]
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase, Any]:
    """Loads model and tokenizer, and returns them with the `LoraConfig` that the model shall still be given, or None."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415  # seconds

    source = model_source(config)
    checkpoint = _checkpoint_quantization(source, init)
    check_quantization(config.model, checkpoint)
    options = {"dtype": precision.weights, **_quantization(config.model, checkpoint, precision), **init}
    try:
        model = AutoModelForCausalLM.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.name: {source} cannot be loaded: {error}") from error
    tokenizer = load_tokenizer(config, init)
    if config.model.adapter is not None:
        return with_adapter(model, config.at(config.model.adapter)), tokenizer, None
    return model, tokenizer, None if config.model.lora is None else _peft_config(config.model.lora)


def _checkpoint_quantization(source: str, init: Mapping[str, Any]) -> dict[str, Any]:
    """Returns how the checkpoint is quantised; of one on the hub, from its configuration there."""
    from transformers import AutoConfig  # noqa: PLC0415  # seconds

    if Path(source).is_dir():
        return quantization_of(source)
    options = {name: init[name] for name in ("revision", "token", "cache_dir", "trust_remote_code") if name in init}
    try:
        shape = AutoConfig.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.name: {source} cannot be loaded: {error}") from error
    return dict(getattr(shape, "quantization_config", None) or {})


def _quantization(settings: ModelSettings, checkpoint: dict[str, Any], precision: Precision) -> dict[str, Any]:
    """Returns the arguments of `from_pretrained` for weights in 4 or 8 bits; of a model with whole weights, none."""
    if not quantized_bits(settings, checkpoint):
        return {}
    sharded = any(os.environ.get(name) == "true" for name in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"))
    options: dict[str, Any] = {}
    if not precision.use_cpu and not sharded:
        from accelerate import PartialState  # noqa: PLC0415  # seconds

        # Quantised weights cannot be moved later: each process loads them where it computes.
        options["device_map"] = {"": PartialState().local_process_index}
    if not checkpoint:  # one that is quantised already says itself how
        options["quantization_config"] = _bits_and_bytes(settings, precision, sharded=sharded)
    return options


def _bits_and_bytes(settings: ModelSettings, precision: Precision, *, sharded: bool) -> Any:
    from transformers import BitsAndBytesConfig  # noqa: PLC0415  # seconds

    if settings.load_in_8bit:
        return BitsAndBytesConfig(load_in_8bit=True)  # type: ignore[no-untyped-call]  # transformers' own gap
    return BitsAndBytesConfig(  # type: ignore[no-untyped-call]  # as above
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=precision.weights,
        # FSDP cuts all weights of a layer into pieces of one type.
        bnb_4bit_quant_storage=precision.weights if sharded else None,
    )


def _peft_config(lora: LoraSettings) -> Any:
    from peft import LoraConfig  # noqa: PLC0415  # seconds

    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules, task_type="CAUSAL_LM"
    )


def with_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Returns the model with an adapter that is trained on. With beta > 0 TRL keeps a frozen copy as the reference."""
    from peft import PeftModel  # noqa: PLC0415  # seconds

    try:
        return PeftModel.from_pretrained(model, adapter_folder(folder), is_trainable=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model.adapter: {folder} does not fit the model: {error}") from error
