"""The model that is trained: its number format, its adapter, its tokenizer, and GGUF files as a source.

Needs torch, transformers and peft; they are imported when they are needed.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer.config import ConfigError, LoraSettings, ModelSettings, TrainConfig

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Precision:
    """The number formats of a run, as the fields of `GRPOConfig` and the type the weights are loaded in."""

    name: str  # "bf16", "fp16" or "fp32"
    weights: torch.dtype
    use_cpu: bool

    @property
    def grpo_fields(self) -> dict[str, bool]:
        """Returns the fields of `GRPOConfig` that say so; TRL takes bf16 where neither is said."""
        return {"bf16": self.name == "bf16", "fp16": self.name == "fp16", "use_cpu": self.use_cpu}


@dataclass(frozen=True, slots=True)
class Policy:
    """The model to train with what belongs to it."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    peft_config: Any  # a peft.LoraConfig that GRPOTrainer shall wrap the model with; None = as it is


def choose_precision(settings: ModelSettings, *, use_cpu: bool = False) -> Precision:
    """Returns the number format that `precision: auto` stands for on this machine, or the one asked for.

    Frozen weights under an adapter are kept in the format that is computed in. Weights that are trained themselves
    stay float32, computed on in the lower format: in bfloat16 the small steps of GRPO would be rounded away.
    """
    import torch  # noqa: PLC0415  # seconds

    cpu = use_cpu or not torch.accelerator.is_available()
    name = _best_format(cpu=cpu) if settings.precision == "auto" else settings.precision
    if name == "fp16" and cpu:
        raise ConfigError("model.precision: fp16 needs a GPU; bf16 and fp32 work on a CPU")
    frozen = settings.lora is not None or settings.adapter is not None
    computed_in = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}[name]
    return Precision(name, computed_in if frozen else torch.float32, cpu)


def _best_format(*, cpu: bool) -> str:
    import torch  # noqa: PLC0415  # seconds

    if torch.cuda.is_available() and not cpu:
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if not cpu:
        return "fp32"  # an accelerator that was not tried
    # Without vector instructions for it a CPU emulates bfloat16 many times slower than float32.
    return "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"  # noqa: SLF001  # the only place it is told


def load_tokenizer(config: TrainConfig, init: Mapping[str, Any] | None = None) -> PreTrainedTokenizerBase:
    """Returns the tokenizer, padding on the left as generation needs it, with the chat template asked for."""
    from transformers import AutoTokenizer  # noqa: PLC0415  # seconds

    source = model_source(config)
    options = {name: value for name, value in (init or {}).items() if name in {"revision", "trust_remote_code"}}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, padding_side="left", truncation_side="left", **options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.name: the tokenizer of {source} cannot be loaded: {error}") from error
    if config.model.chat_template is not None:
        tokenizer.chat_template = config.at(config.model.chat_template).read_text(encoding="utf-8")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_policy(config: TrainConfig, precision: Precision, init: Mapping[str, Any] | None = None) -> Policy:
    """Loads the model to train and its tokenizer. `init` are further arguments of `from_pretrained`."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415  # seconds

    source = model_source(config)
    options = {"dtype": precision.weights, **(init or {})}
    try:
        model = AutoModelForCausalLM.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.name: {source} cannot be loaded: {error}") from error
    tokenizer = load_tokenizer(config, init)
    if config.model.adapter is not None:
        return Policy(_with_adapter(model, config.at(config.model.adapter)), tokenizer, None)
    lora = None if config.model.lora is None else _peft_config(config.model.lora)
    return Policy(model, tokenizer, lora)


def end_token_ids(policy: Policy) -> set[int]:
    """Returns the tokens that end a completion: the model's, which may be several, and the tokenizer's."""
    of_model = policy.model.generation_config.eos_token_id
    tokens = {policy.tokenizer.eos_token_id, *(of_model if isinstance(of_model, list) else [of_model])}
    return {token for token in tokens if token is not None}


def model_source(config: TrainConfig) -> str:
    """Returns where the model is: its folder if there is one of that name, otherwise the name as a hub id."""
    name = config.model.name
    folder = config.at(name)
    if folder.is_dir():
        return str(folder)
    if name.startswith((".", "/", "~")):
        raise ConfigError(f"model.name: there is no folder {folder}")
    if name.endswith(".gguf"):
        raise ConfigError(f"model.name: {name} is a GGUF file; convert it once: grpo-train import-gguf {name} FOLDER")
    return name


def described(config: TrainConfig) -> str:
    """Returns what is trained, in words, from a look at the files alone. Raises `ConfigError` if they are not there."""
    source = model_source(config)
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ConfigError(f"model.name: {source} is no model: it has no config.json")
    place = source if Path(source).is_dir() else f"{source}, from the Hugging Face hub"
    if config.model.adapter is not None:
        return f"{place}, training goes on with {_adapter_folder(config.at(config.model.adapter))}"
    return f"{place}, {'all weights' if config.model.lora is None else f'LoRA of rank {config.model.lora.r}'}"


def _adapter_folder(folder: Path) -> Path:
    if not (folder / "adapter_config.json").is_file():
        raise ConfigError(f"model.adapter: {folder} is no adapter: it has no adapter_config.json")
    return folder


def _peft_config(lora: LoraSettings) -> Any:
    from peft import LoraConfig  # noqa: PLC0415  # seconds

    modules = lora.target_modules if isinstance(lora.target_modules, str) else list(lora.target_modules)
    return LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=modules, task_type="CAUSAL_LM"
    )


def _with_adapter(model: PreTrainedModel, folder: Path) -> PeftModel:
    """Returns the model with an adapter that is trained on. With beta > 0 TRL keeps a frozen copy as the reference."""
    from peft import PeftModel  # noqa: PLC0415  # seconds

    try:
        return PeftModel.from_pretrained(model, _adapter_folder(folder), is_trainable=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model.adapter: {folder} does not fit the model: {error}") from error


def import_gguf(file: Path, folder: Path) -> None:
    """Writes the model in a GGUF file as a transformers folder, its weights unpacked to bfloat16.

    transformers reads such a file but will not save what it has read: the loaded model still counts as quantised.
    So its weights go into a fresh model of the same shape, and that is saved. The folder appears whole or not at all.
    """
    import torch  # noqa: PLC0415  # seconds
    from transformers import AutoModelForCausalLM, AutoTokenizer  # noqa: PLC0415  # seconds

    if not file.is_file():
        raise ConfigError(f"{file}: there is no such file")
    if folder.exists():
        raise ConfigError(f"{folder}: is there already; remove it, or name another folder")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.bfloat16)
    shape = loaded.config
    with contextlib.suppress(AttributeError):
        del shape.quantization_config
    fresh = AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)  # type: ignore[no-untyped-call]  # transformers' own gap
    fresh.load_state_dict(loaded.state_dict())
    fresh.generation_config = loaded.generation_config
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    fresh.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)
