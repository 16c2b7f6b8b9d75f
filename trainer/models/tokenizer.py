"""The policy's tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from trainer.config import ConfigError, TrainConfig
from trainer.models.loaders import prepare
from trainer.models.source import model_source

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_tokenizer(config: TrainConfig, init: Mapping[str, Any] | None = None) -> PreTrainedTokenizerBase:
    """Returns the tokenizer, padding on the left as generation needs it, with the chat template asked for."""
    prepare(config)
    from transformers import AutoTokenizer  # noqa: PLC0415  # seconds

    source = model_source(config)
    options = {name: value for name, value in (init or {}).items() if name in {"revision", "trust_remote_code"}}
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.name: the tokenizer of {source} cannot be loaded: {error}") from error
    return set_up(tokenizer, config)


def set_up(tokenizer: PreTrainedTokenizerBase, config: TrainConfig) -> PreTrainedTokenizerBase:
    """Returns the tokenizer with what this package wants of each, whoever has loaded it."""
    tokenizer.padding_side = "left"
    tokenizer.truncation_side = "left"
    if config.model.chat_template is not None:
        tokenizer.chat_template = config.at(config.model.chat_template).read_text(encoding="utf-8")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer
