"""The configurations of server and run that `benchmarks/training.py` makes of a recipe's."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

SUPPORT: Final = Path(__file__).resolve().parents[1] / "tests" / "support"
GROUPS: Final[Mapping[str, Any]] = {"fresh": {"diversity": {}, "description": "how unlike the others of its group"}}
"""The reward that compares within the group, beside the recipe's, where several ranks are compared with one process."""

SMALL: Final[Mapping[str, Mapping[str, Any]]] = {
    "model": {"load_in_4bit": False, "precision": "fp32", "max_seq_length": None, "lora": None},
    "data": {"prompt_template": "{prompt}"},
    "grpo": {
        "use_cpu": True,
        "optim": "adamw_torch",
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "num_generations": 4,
        "max_completion_length": 12,
        "learning_rate": 1e-2,
        "gradient_checkpointing": False,
    },
}


def configurations(options: argparse.Namespace, work: Path) -> tuple[Path, Path]:
    """Writes the configurations of server and run to the work folder and returns their paths."""
    server, train = read(options.config.parent / "server.yaml"), read(options.config)
    rewards = train["rewards"]
    if options.no_judge:
        judged = [name for name, recipe in server["rewards"].items() if "judge" in recipe]
        server = {"rewards": {name: recipe for name, recipe in server["rewards"].items() if name not in judged}}
        rewards["use"] = {name: weight for name, weight in rewards["use"].items() if name not in judged}
    else:
        embedded = {"model": str(options.judge.resolve()), "context_tokens": 1024, "slots": options.judge_slots}
        server["engines"] = {name: {"embedded": embedded} for name in server["engines"]}
        for judge in server["judges"].values():
            judge["min_label_mass"] = 0.01  # so small a model has its mind on other words
    if options.ranks > 1:
        server["rewards"] |= GROUPS
        rewards["use"] |= dict.fromkeys(GROUPS, 0.1)
    train["model"] |= {"name": str(options.model.resolve()), "loader": options.loader}
    if (path := train["data"].get("path")) is not None:
        train["data"]["path"] = str((options.config.parent / path).resolve())
    if options.small:
        sys.path.insert(0, str(SUPPORT))
        from tiny_policy import save_tiny_policy  # noqa: PLC0415  # the tests' own

        train["model"] |= {"name": str(save_tiny_policy(work / "policy"))}
        for section, values in SMALL.items():
            train[section] |= values
    train["grpo"] |= {"max_steps": options.steps, "save_strategy": "no", "log_completions": options.ranks > 1}
    train["run"] = {**train.get("run", {}), "folder": str(work / "run"), "samples_before_after": 0}
    for setting in options.set:
        key, _, value = setting.partition("=")
        section, _, name = key.partition(".")
        train[section][name] = yaml.safe_load(value)
    return _written(work / "server.yaml", server), _written(work / "train.yaml", train)


def read(path: Path) -> dict[str, Any]:
    """Reads a YAML file."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _written(path: Path, document: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(document), sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path
