"""The tokenizer of the small real model, with its special tokens and its chat template. See `small_model`."""

from __future__ import annotations

from functools import cache
from typing import Any

from small_model import PATH

FOLDER = PATH.parent / "smollm2-135m-instruct"
"""Where `make model` puts the same model for the trainer: its tokenizer loads at once, the GGUF's in ten seconds."""


@cache
def small_tokenizer() -> Any:
    """Returns it, made once a process; only where `needs_model` does not skip."""
    from transformers import AutoTokenizer

    if FOLDER.is_dir():
        return AutoTokenizer.from_pretrained(str(FOLDER))
    return AutoTokenizer.from_pretrained(str(PATH.parent), gguf_file=PATH.name)
