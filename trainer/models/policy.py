"""The policy: the model to train with its tokenizer, whichever library loads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from trainer.config import TrainConfig
from trainer.models.loaders import ChosenLoader, prepare
from trainer.models.precision import Precision

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Policy:
    """The model to train with what belongs to it."""

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    peft_config: Any  # a peft.LoraConfig that GRPOTrainer shall wrap the model with; None = as it is
    loader: ChosenLoader


def load_policy(config: TrainConfig, precision: Precision, init: Mapping[str, Any] | None = None) -> Policy:
    """Loads the model to train and its tokenizer. `init` are further arguments of `from_pretrained`."""
    loader = prepare(config)
    if loader.name == "unsloth":
        from trainer.models import unsloth_loader  # noqa: PLC0415  # only where Unsloth is

        return Policy(*unsloth_loader.load(config, precision, init or {}), None, loader)
    from trainer.models import transformers_loader  # noqa: PLC0415  # as the other one

    return Policy(*transformers_loader.load(config, precision, init or {}), loader)


def end_token_ids(policy: Policy) -> set[int]:
    """Returns the tokens that end a completion: the model's, which may be several, and the tokenizer's."""
    of_model = policy.model.generation_config.eos_token_id
    tokens = {policy.tokenizer.eos_token_id, *(of_model if isinstance(of_model, list) else [of_model])}
    return {token for token in tokens if token is not None}
