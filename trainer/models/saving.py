"""What was trained, as a folder that transformers, peft and those who serve models read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from trainer.config import RunError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def save_weights(
    model: Any, tokenizer: PreTrainedTokenizerBase, folder: Path, how: Literal["adapter", "merged"]
) -> None:
    """Writes what was trained to a folder, with the tokenizer. The model stays as it is.

    Of a model that is spread over processes (FSDP, DeepSpeed ZeRO 3) no process has the whole: there
    `GRPOTrainer.save_model` saves the adapter, or the model.

    Args:
        model: The model that was trained, out of what wraps it for several processes.
        tokenizer: Its tokenizer.
        folder: Where to.
        how: `adapter` writes the adapter alone, or the model if all of it was trained. `merged` adds the adapter to
            the weights and writes the model whole, with weights of the format that was computed in where it was quantised.

    Raises:
        RunError: This adapter, or this model, cannot be merged.
    """
    from peft import PeftModel  # noqa: PLC0415  # seconds

    if not isinstance(model, PeftModel):
        model.save_pretrained(folder)
    elif how == "adapter":  # without TRL's copy of it, the reference
        model.save_pretrained(str(folder), selected_adapters=[model.active_adapter])
    else:  # also under Unsloth, whose own way wants the checkpoint before it was quantised, from the hub
        _merged(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _merged(model: PeftModel) -> PreTrainedModel:
    """Returns a fresh model of the same shape, on the CPU, with the adapter in its weights.

    Quantised weights are unpacked: the adapter was trained on what they unpack to, not on what they once were.
    """
    import torch  # noqa: PLC0415  # seconds

    base: Any = model.get_base_model()
    weights = _merged_weights(base, model.active_adapter)
    shape = copy.deepcopy(base.config)
    if hasattr(shape, "quantization_config"):
        del shape.quantization_config
    with torch.device("meta"):  # its weights come from `weights`: nothing is made twice
        fresh: PreTrainedModel = type(base)(shape)
    fresh.load_state_dict(weights, strict=False, assign=True)
    fresh.tie_weights()
    if lacking := [name for name, weight in fresh.named_parameters() if weight.is_meta]:
        raise RunError(
            f"run.save: merged cannot be done: the adapter changes {lacking[0]} in a way that is not known here"
        )
    fresh.generation_config = base.generation_config
    return fresh


def _merged_weights(base: Any, adapter: str) -> dict[str, torch.Tensor]:
    """Returns the weights of an adapted model by the names that it had before the adapter was put on."""
    from peft.tuners.lora import LoraLayer  # noqa: PLC0415  # seconds

    base.state_dict()  # bitsandbytes lays weights out anew for a CPU's kernels; to be saved they are turned back
    layers = {name: module for name, module in base.named_modules() if isinstance(module, LoraLayer)}
    weights = {name.replace(".base_layer.", "."): buffer.detach().to("cpu") for name, buffer in base.named_buffers()}
    for name, parameter in base.named_parameters(remove_duplicate=False):
        owner, _, kind = name.rpartition(".")
        path = owner.removesuffix(".base_layer")
        if ".lora_" in f".{name}" or ".original_module" in name:
            continue  # the adapter itself, and what stands in for a module that was trained whole
        path = path.replace(f".modules_to_save.{adapter}", "")
        weight = _unpacked(base.get_submodule(owner), parameter, base.dtype) if kind == "weight" else parameter.data
        if kind == "weight" and path in layers:
            weight = weight + _change(layers[path], adapter, path).to(weight)
        weights[f"{path}.{kind}" if path else kind] = weight.detach().to("cpu", base.dtype)
    return weights


def _unpacked(module: torch.nn.Module, weight: torch.nn.Parameter, dtype: torch.dtype) -> torch.Tensor:
    """Returns a weight as numbers of full width, whatever bitsandbytes has packed it into."""
    from peft.utils.integrations import dequantize_bnb_weight  # noqa: PLC0415  # seconds

    packed = weight.__class__.__name__ in {"Params4bit", "Int8Params"}
    return dequantize_bnb_weight(weight, state=getattr(module, "state", None)).to(dtype) if packed else weight.data


def _change(layer: Any, adapter: str, path: str) -> torch.Tensor:
    """Returns what a LoRA layer adds to its weight."""
    if layer.lora_variant.get(adapter) is not None or not hasattr(layer, "get_delta_weight"):
        raise RunError(
            f"run.save: merged cannot be done with this adapter: {path} is no plain LoRA layer. The adapter itself can "
            "be saved (run.save: adapter), and merged by peft's merge_and_unload"
        )
    change: torch.Tensor = layer.get_delta_weight(adapter)
    return change
