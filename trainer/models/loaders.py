"""What loads the model and trains it: transformers, or Unsloth where it can do what is asked for."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trainer import launch
from trainer.config import ConfigError, TrainConfig

if TYPE_CHECKING:
    from trl.trainer.grpo_trainer import GRPOTrainer

INSTALL_UNSLOTH = "pip install 'grpo-reward-service[unsloth]'"

PATCHED = ("trl", "transformers", "peft", "datasets")
"""The libraries that Unsloth rewrites, so that it works with certain releases of them only."""


class ChosenLoader(NamedTuple):
    """What loads the model, and why that and nothing else."""

    name: str  # "transformers" or "unsloth"
    why: str


def chosen_loader(config: TrainConfig) -> ChosenLoader:
    """Returns what `model.loader` stands for here. Imports nothing heavier than torch, and that only to see a GPU.

    Raises:
        ConfigError: It is to be Unsloth, and that cannot be; or what is asked for is Unsloth's, and it is not Unsloth.
    """
    asked = config.model.loader
    if asked == "unsloth":
        if obstacle := next(_obstacles(config), None):
            raise ConfigError(f"model.loader: unsloth {obstacle.why}; {obstacle.remedy}")
        return ChosenLoader("unsloth", "model.loader says so")
    chosen = ChosenLoader("transformers", "model.loader says so")
    if asked == "auto":
        obstacle = next(_obstacles(config), None) or next(_doubts(config), None)
        if obstacle is None:
            return ChosenLoader("unsloth", "it is installed, and there is a CUDA GPU")
        chosen = ChosenLoader("transformers", f"unsloth {obstacle.why}")
    if config.model.fast_inference:
        raise ConfigError(
            f"model.fast_inference: is Unsloth's, and the model is loaded by transformers ({chosen.why}); drop it, or "
            "let TRL generate by vLLM: grpo.use_vllm: true"
        )
    return chosen


class _Obstacle(NamedTuple):
    why: str  # continues "unsloth ..."
    remedy: str


def _obstacles(config: TrainConfig) -> Iterator[_Obstacle]:
    """Yields what makes it impossible to train with Unsloth."""
    other = "or take loader: transformers"
    if importlib.util.find_spec("unsloth") is None:
        yield _Obstacle("is not installed", INSTALL_UNSLOTH)
        return
    if unmet := _unmet_requirement():
        yield _Obstacle(unmet, f"install the releases that go together: {INSTALL_UNSLOTH}")
    if config.trains_all_weights:
        yield _Obstacle("is asked here for adapters only", f"drop lora: null, {other}")
    if config.model.precision == "fp32":
        yield _Obstacle("does not compute in fp32", f"drop model.precision, {other}")
    if config.grpo.get("use_cpu") or not _has_cuda():
        yield _Obstacle("needs a CUDA GPU", other.removeprefix("or "))
    elif config.model.fast_inference and importlib.util.find_spec("vllm") is None:
        yield _Obstacle(
            "needs vLLM for fast_inference", "pip install 'grpo-reward-service[vllm]', or drop fast_inference"
        )


def _doubts(config: TrainConfig) -> Iterator[_Obstacle]:
    """Yields what speaks against Unsloth where nobody asked for it."""
    del config
    if (count := launch.process_count()) > 1:
        yield _Obstacle(f"is taken for one process, and there are {count}", "")


def _unmet_requirement() -> str:
    """Returns which installed library is of a release that the installed Unsloth does not work with."""
    from packaging.requirements import Requirement  # noqa: PLC0415  # comes with torch

    with contextlib.suppress(metadata.PackageNotFoundError):
        for text in metadata.requires("unsloth") or ():
            needed = Requirement(text)
            if needed.name not in PATCHED or needed.marker is not None:
                continue
            there = metadata.version(needed.name)
            if not needed.specifier.contains(there, prereleases=True):
                return f"{metadata.version('unsloth')} does not work with {needed.name} {there}"
    return ""


def _has_cuda() -> bool:
    if importlib.util.find_spec("torch") is None:
        return False
    import torch  # noqa: PLC0415  # seconds

    return torch.cuda.is_available()


def prepare(config: TrainConfig) -> ChosenLoader:
    """Imports Unsloth if it loads the model. Call it before anything imports trl, transformers or peft.

    Unsloth rewrites them as it is imported; names that were taken from them before stay as they were.
    """
    chosen = chosen_loader(config)
    if chosen.name == "unsloth":
        # Otherwise it writes the code that it generates into the working directory, and reports to its makers.
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(_cache_folder() / "unsloth_compiled_cache"))
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
        importlib.import_module("unsloth")
    return chosen


def _cache_folder() -> Path:
    caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(caches) / "grpo-reward-service" / f"unsloth-{metadata.version('unsloth')}"


def grpo_trainer_base(loader: str) -> type[GRPOTrainer]:
    """Returns the `GRPOTrainer` to subclass: TRL's, or what Unsloth has put in its place."""
    import trl  # noqa: PLC0415  # several seconds

    base: type[GRPOTrainer] = trl.GRPOTrainer  # type: ignore[attr-defined]  # looked up now: Unsloth replaces the name
    if (loader == "unsloth") != base.__name__.startswith("Unsloth"):
        raise ConfigError(
            f"model.loader: {loader}, but TRL's GRPOTrainer is {base.__name__} in this process: start a new process in "
            "which trainer.models.prepare comes before anything imports trl"
        )
    return base
