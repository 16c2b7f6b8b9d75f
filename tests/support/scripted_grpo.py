"""A `GRPOTrainer` that generates what a test says and is rewarded as a test says, so that only TRL's own sums are seen."""

from __future__ import annotations

import math
import random
import warnings
from pathlib import Path
from typing import Any

import torch

NAN = float("nan")


def scripted_trainer(policy: Path, folder: Path, **options: Any) -> Any:
    """Returns a trainer of rewards `a` and `b` whose batch is set by `play`."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.grpo_config import GRPOConfig

    from trainer.grpo import trainer_class

    script: dict[str, list[float]] = {}

    def a(completions: list[str], **_: Any) -> list[float | None]:
        return [None if math.isnan(value) else value for value in script["a"]]

    def b(completions: list[str], **_: Any) -> list[float | None]:
        return [None if math.isnan(value) else value for value in script["b"]]

    ours = {name: options.pop(name) for name in ("missing", "stop_when_missing", "base") if name in options}
    settings = {
        "per_device_train_batch_size": 12,
        "num_generations": 2,
        "max_completion_length": 8,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        **options,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers on TRL's own defaults
        arguments = GRPOConfig(output_dir=str(folder), **settings)
    trainer = trainer_class(ours.pop("base", None))(
        model=AutoModelForCausalLM.from_pretrained(policy, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(policy),
        reward_funcs=[a, b],
        args=arguments,
        train_dataset=Dataset.from_list([{"prompt": "one"}, {"prompt": "two"}]),
        **ours,
    )
    trainer.script = script
    trainer.model.train()
    return trainer


def play(trainer: Any, rewards: list[tuple[float, float]], *, group_size: int, seed: int = 0) -> dict[str, Any]:
    """Returns the batch that TRL makes of these rewards (a, b) for random completions of 1 to 6 tokens."""
    draw = random.Random(seed)
    count = len(rewards)
    prompts = [[draw.randint(1, 200) for _ in range(3)] for _ in range(count // group_size)]
    prompt_ids = [prompts[index // group_size] for index in range(count)]
    completion_ids = [[draw.randint(1, 200) for _ in range(draw.randint(1, 6))] for _ in range(count)]
    texts = [f"completion {index}" for index in range(count)]
    generated = (prompt_ids, completion_ids, None, texts, None, {}, None, None)
    base = type(trainer).__mro__[2]
    trainer.num_generations = group_size
    trainer.script["a"], trainer.script["b"] = map(list, zip(*rewards, strict=True))
    original = base._generate
    base._generate = lambda self, prompts: generated
    try:
        inputs = [{"prompt": f"prompt {index // group_size}"} for index in range(count)]
        return trainer._generate_and_score_completions(inputs)
    finally:
        base._generate = original
