"""The model that is trained: what loads it, its number format, its adapter, its tokenizer, and how it is saved.

Needs torch, transformers and peft; they are imported when they are needed. Unsloth must be imported before them:
`prepare` sees to it, and comes first.
"""

from trainer.models.gguf import import_gguf
from trainer.models.loaders import ChosenLoader, chosen_loader, grpo_trainer_base, prepare
from trainer.models.policy import Policy, end_token_ids, load_policy
from trainer.models.precision import Precision, adapter_in_its_format, choose_precision
from trainer.models.saving import save_weights
from trainer.models.source import described, model_source
from trainer.models.tokenizer import load_tokenizer

__all__ = [
    "ChosenLoader",
    "Policy",
    "Precision",
    "adapter_in_its_format",
    "choose_precision",
    "chosen_loader",
    "described",
    "end_token_ids",
    "grpo_trainer_base",
    "import_gguf",
    "load_policy",
    "load_tokenizer",
    "model_source",
    "prepare",
    "save_weights",
]
