"""GGUF files as a source of models."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from trainer.config import ConfigError


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
