"""The settings of a run that a warning may name: their present values, in one small value."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.runs import RewardRecord

LENGTH_KINDS = frozenset({"length", "overlong", "cosine"})
"""Kinds of rewards on a server that score a length, as they are meant to."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Present values, by the names that they have in `GRPOConfig` and in the run's configuration."""

    beta: float = 0.0
    learning_rate: float = 1e-6
    num_generations: int = 8
    max_completion_length: int = 256  # tokens
    max_seq_length: int | None = None  # prompt and completion, tokens; None = the model's
    temperature: float = 1.0
    max_steps: int = 0  # 0 = not known
    per_device_train_batch_size: int = 8
    gradient_accumulation_steps: int = 1
    steps_per_generation: int = 1
    generation_batch_size: int = 8  # completions of a batch, of all ranks together
    num_iterations: int = 1
    epsilon: float = 0.2
    gradient_checkpointing: bool = True
    mask_truncated_completions: bool = False
    optim: str = "adamw_torch"
    loader: str = "transformers"
    load_in_4bit: bool = False
    load_in_8bit: bool = False
    lora_rank: int | None = None  # None = all weights are trained
    half_precision: bool = True  # 16 bits are computed in
    deadline_s: float = 0.0  # of a call to a reward server; 0 = there is none
    weights: Mapping[str, float] = field(default_factory=dict)  # by reward
    length_rules: frozenset[str] = frozenset()  # rewards that are meant to go with the length

    @classmethod
    def of(cls, arguments: Any, config: TrainConfig | None = None, rewards: Sequence[RewardRecord] = ()) -> Self:
        """Returns the settings of a run from TRL's `GRPOConfig`, and what else is known of it.

        A field that this TRL doesn't have, or leaves open, keeps its default here.
        """
        weights = {each.name: each.weight for each in rewards}
        if config is not None:
            weights = dict(zip(config.rewards.names, config.rewards.weights, strict=True))
        known: dict[str, Any] = {
            name: value for name in _FROM_TRL if (value := getattr(arguments, name, None)) is not None
        }
        known["optim"] = str(getattr(known.get("optim"), "value", known.get("optim", "adamw_torch")))
        known["max_steps"] = max(0, known.get("max_steps", 0))
        known["half_precision"] = bool(getattr(arguments, "bf16", False) or getattr(arguments, "fp16", False))
        known["loader"] = "unsloth" if "unsloth" in sys.modules else "transformers"
        known["length_rules"] = frozenset(each.name for each in rewards if each.kind in LENGTH_KINDS)
        return cls(**known, weights=weights, **({} if config is None else _from_config(config)))

    @property
    def length(self) -> int:
        """Returns the tokens of a prompt with its completion, at the longest that is known."""
        return max(self.max_seq_length or 0, self.max_completion_length)

    @property
    def single_reward(self) -> bool:
        """Returns whether nothing stands beside the only reward."""
        return len(self.weights) <= 1


_FROM_TRL = (
    "beta",
    "learning_rate",
    "num_generations",
    "max_completion_length",
    "temperature",
    "max_steps",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "generation_batch_size",
    "num_iterations",
    "epsilon",
    "gradient_checkpointing",
    "mask_truncated_completions",
    "optim",
)


def _from_config(config: TrainConfig) -> dict[str, Any]:
    model = config.model
    return {
        "max_seq_length": model.max_seq_length,
        "load_in_4bit": model.load_in_4bit,
        "load_in_8bit": model.load_in_8bit,
        "lora_rank": model.lora.r if model.lora is not None else DEFAULT_RANK if model.adapter is not None else None,
        "deadline_s": config.rewards.deadline_s if config.rewards.use else 0.0,
    }


DEFAULT_RANK = 16
"""Of an adapter that training goes on with: its own file is not read for an estimate."""
