"""Where the model is and what it is, from a look at its files alone."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

from trainer.config import ConfigError, ModelSettings, TrainConfig
from trainer.models.loaders import chosen_loader

INSTALL_QUANTIZATION = "pip install 'grpo-reward-service[quantization]'"


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
    """Returns what is trained, and what loads it, in words, from a look at the files alone.

    Raises:
        ConfigError: The files are not there, or the model cannot be trained like that.
    """
    source = model_source(config)
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ConfigError(f"model.name: {source} is no model: it has no config.json")
    place = source if Path(source).is_dir() else f"{source}, from the Hugging Face hub"
    check_quantization(config.model, quantization_of(source))
    bits = quantized_bits(config.model, quantization_of(source))
    weights = f", in {bits} bits" if bits else ""
    loader, why = chosen_loader(config)
    return f"{place}{weights}, {_trained_part(config)}; loaded by {loader} ({why})"


def _trained_part(config: TrainConfig) -> str:
    if config.model.adapter is not None:
        return f"training goes on with {adapter_folder(config.at(config.model.adapter))}"
    return "all weights" if config.model.lora is None else f"LoRA of rank {config.model.lora.r}"


def adapter_folder(folder: Path) -> Path:
    """Returns the folder of an adapter. Raises `ConfigError` if it holds none."""
    if not (folder / "adapter_config.json").is_file():
        raise ConfigError(f"model.adapter: {folder} is no adapter: it has no adapter_config.json")
    return folder


def quantization_of(source: str) -> dict[str, Any]:
    """Returns how the checkpoint itself is quantised, as its config.json says it; of a hub id, what its name says."""
    file = Path(source) / "config.json"
    if file.is_file():
        return json.loads(file.read_text(encoding="utf-8")).get("quantization_config") or {}
    for bits in (4, 8):
        if source.lower().endswith(f"-bnb-{bits}bit"):  # the custom of those who publish such checkpoints
            return {"quant_method": "bitsandbytes", f"load_in_{bits}bit": True}
    return {}


def quantized_bits(settings: ModelSettings, checkpoint: dict[str, Any]) -> int | None:
    """Returns how many bits a weight of the loaded model has by bitsandbytes; None if it is not quantised by it."""
    if settings.load_in_4bit or checkpoint.get("load_in_4bit"):
        return 4
    return 8 if settings.load_in_8bit or checkpoint.get("load_in_8bit") else None


def check_quantization(settings: ModelSettings, checkpoint: dict[str, Any]) -> None:
    """Raises `ConfigError` where model and settings ask for something about quantised weights that cannot be done."""
    method = checkpoint.get("quant_method", "bitsandbytes" if checkpoint else None)
    asked = "load_in_4bit" if settings.load_in_4bit else "load_in_8bit" if settings.load_in_8bit else None
    if method and settings.lora is None and settings.adapter is None:
        raise ConfigError(
            f"model.lora: {settings.name} is quantised ({method}), and quantised weights cannot be trained themselves: "
            "train an adapter (drop lora: null), or name a model with whole weights"
        )
    if method and asked and not checkpoint.get(asked):
        raise ConfigError(
            f"model.{asked}: {settings.name} is quantised already ({method}"
            f"{', 4 bits' if checkpoint.get('load_in_4bit') else ''}{', 8 bits' if checkpoint.get('load_in_8bit') else ''}"
            f"); drop {asked}, or name the model with whole weights"
        )
    if quantized_bits(settings, checkpoint) and importlib.util.find_spec("bitsandbytes") is None:
        place = f"model.{asked}" if asked else f"model.name: {settings.name}"
        raise ConfigError(f"{place}: needs bitsandbytes, which is not installed: {INSTALL_QUANTIZATION}")
