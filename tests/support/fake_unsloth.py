"""A stand-in for Unsloth: it takes the places that the real one takes, and writes down what it is asked for."""

from __future__ import annotations

from pathlib import Path

PACKAGE = """
import sys

imported_before = sorted(sys.modules.keys() & {"trl", "transformers", "peft"})
asked = {}

import trl
import trl.trainer.grpo_config
import trl.trainer.grpo_trainer
from dataclasses import dataclass, field
from typing import Optional

Trainer = trl.trainer.grpo_trainer.GRPOTrainer
Config = trl.trainer.grpo_config.GRPOConfig


@dataclass
class UnslothGRPOConfig(Config):
    unsloth_num_chunks: Optional[int] = field(default=-1)

    def __init__(self, output_dir=None, seed=3407, learning_rate=5e-05, optim="adamw_8bit", num_generations=8,
                 loss_type=None, beta=None, epsilon_high=None, scale_rewards="group", unsloth_num_chunks=-1, **kwargs):
        explicit = loss_type
        if loss_type is None:
            loss_type = "dapo"
        if beta is None:
            beta = 0.0 if loss_type in ("dapo", "dr_grpo") else 0.001
        if explicit == "dapo" and epsilon_high is None:
            epsilon_high = 0.28
        if explicit == "dr_grpo":
            scale_rewards = True if scale_rewards is None else False
        super().__init__(output_dir=output_dir, seed=seed, learning_rate=learning_rate, optim=optim,
                         num_generations=num_generations, loss_type=loss_type, beta=beta, epsilon_high=epsilon_high,
                         scale_rewards=scale_rewards, **kwargs)
        self.unsloth_num_chunks = unsloth_num_chunks


class _UnslothGRPOTrainer(Trainer):
    pass


class UnslothGRPOTrainer(_UnslothGRPOTrainer):
    pass


def _wrap(original):  # as the real one does it: nothing is left of its parameters
    def wrapped(self, *args, **kwargs):
        return original(self, *args, **kwargs)

    return wrapped


UnslothGRPOTrainer._generate_and_score_completions = _wrap(UnslothGRPOTrainer._generate_and_score_completions)
UnslothGRPOTrainer.training_step = _wrap(UnslothGRPOTrainer.training_step)
for module in (trl, trl.trainer, trl.trainer.grpo_trainer):
    module.GRPOTrainer = UnslothGRPOTrainer
for module in (trl, trl.trainer, trl.trainer.grpo_config, trl.trainer.grpo_trainer):
    module.GRPOConfig = UnslothGRPOConfig


class FastLanguageModel:
    @staticmethod
    def from_pretrained(**options):
        import transformers

        asked["from_pretrained"] = options
        source = options["model_name"]
        model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=options["dtype"])
        return model, transformers.AutoTokenizer.from_pretrained(source, padding_side="right")

    @staticmethod
    def get_peft_model(model, **options):
        import peft

        asked["get_peft_model"] = options
        lora = {name: options[name] for name in ("r", "lora_alpha", "lora_dropout", "target_modules")}
        return peft.get_peft_model(model, peft.LoraConfig(task_type="CAUSAL_LM", **lora))

    @staticmethod
    def patch_peft_model(model, use_gradient_checkpointing):
        asked["patch_peft_model"] = {"use_gradient_checkpointing": use_gradient_checkpointing}
"""

METADATA = "Metadata-Version: 2.1\nName: unsloth\nVersion: 2026.10.7\n{requirements}"


def write_fake_unsloth(folder: Path, *requirements: str) -> Path:
    """Writes the package and its metadata to a folder that goes on `sys.path`, and returns the folder."""
    package = folder / "unsloth"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(PACKAGE)
    described = folder / "unsloth-2026.10.7.dist-info"
    described.mkdir()
    lines = "".join(f"Requires-Dist: {each}\n" for each in requirements)
    (described / "METADATA").write_text(METADATA.format(requirements=lines))
    return folder
