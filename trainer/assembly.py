"""Makes what a run needs of its configuration: folder, rewards, model, prompts, trainer.

Needs torch, transformers and trl; import it only where a run is made.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from datasets import Dataset
from transformers import PreTrainedTokenizerBase, PrinterCallback, ProgressCallback
from transformers.integrations.integration_utils import TensorBoardCallback
from trl.trainer.grpo_config import GRPOConfig

from trainer import data, local, models, resuming
from trainer.config import ConfigError, TrainConfig
from trainer.grpo import trainer_class
from trainer.launch import made_by_first
from trainer.resuming import Point
from trainer.reward_set import RewardSet, local_server
from trainer.runs import FINISHED, RunFolder
from trainer.thinking import thought_opening

Tell = Callable[[str], object]
"""Takes a line for the person who watches."""


@dataclass(frozen=True, slots=True)
class Assembled:
    """What a run consists of."""

    trainer: Any  # trainer.grpo.trainer_class()
    tokenizer: PreTrainedTokenizerBase
    dataset: Dataset
    eval_dataset: Dataset | None


def begin_or_resume(
    config: TrainConfig, arguments: GRPOConfig, resume: str | None, tell: Tell, resources: ExitStack
) -> Point:
    """Makes the run's folder, or finds that of the run to go on with and cuts it back to its checkpoint.

    The folder is held until `resources` are closed.

    Raises:
        ConfigError: It cannot be resumed, or it is still going on.
    """
    point = None if resume is None else resuming.find(config, resume, arguments.world_size)
    if point is None:
        if resume is not None:
            tell(f"there is no run in {config.at(config.run.folder)} yet: this is the first")
        point = Point(RunFolder.create(config.at(config.run.folder), config.path))
        resources.enter_context(point.folder.held())
        return point
    if 0 < arguments.max_steps <= point.step and point.folder.read_record().outcome == FINISHED:
        raise ConfigError(
            f"{point.folder.path}: all {point.step} steps are done; to go on for longer raise grpo.max_steps"
        )
    if point.checkpoint is not None and arguments.sync_ref_model:
        raise ConfigError("grpo.sync_ref_model: its reference model is in no checkpoint, so the run cannot be resumed")
    resources.enter_context(point.folder.held())
    tell(f"{point.folder.path} goes on after step {point.step}")
    for change in point.changes:
        tell(f"changed since: {change}")
    resuming.cut_back(point)
    point.folder.keep_config(config.path)
    return point


def make_rewards(
    config: TrainConfig, arguments: GRPOConfig, folder: RunFolder, tell: Tell, resources: ExitStack
) -> RewardSet:
    """Makes the rewards, closed with `resources`. A `local:` server is started by the first process, for all."""
    address = None
    if arguments.world_size > 1 and (server_config := local_server(config)) is not None:

        def start() -> str:
            server = local.acquire(server_config, tell)
            resources.callback(local.release, server)
            return server.address

        address = made_by_first(start)
    return resources.enter_context(closing(RewardSet(config, folder.path.name, tell, address=address)))


def assemble(config: TrainConfig, arguments: GRPOConfig, rewards: RewardSet) -> Assembled:
    """Loads model and prompts and makes the trainer. It shows and writes nothing by itself."""
    precision = models.choose_precision(config.model, use_cpu=arguments.use_cpu)
    policy = models.load_policy(config, precision, mapping(arguments.model_init_kwargs))
    rewards.know_end_tokens(models.end_token_ids(policy))
    rewards.know_thought_opening(thought_opening(policy.tokenizer, mapping(arguments.chat_template_kwargs)))
    prompts, held_out = data.datasets_of(config, has_chat_template=policy.tokenizer.chat_template is not None)
    trainer = trainer_class(models.grpo_trainer_base(policy.loader.name))(
        model=policy.model,
        reward_funcs=list(rewards.functions),
        args=arguments,
        train_dataset=prompts,
        eval_dataset=held_out,
        processing_class=policy.tokenizer,
        peft_config=policy.peft_config,
        missing=config.rewards.missing,
        stop_when_missing=config.rewards.stop_when_missing,
    )
    models.adapter_in_its_format(trainer.model, precision)
    trainer.remove_callback(PrinterCallback)
    trainer.remove_callback(ProgressCallback)
    return Assembled(trainer, policy.tokenizer, prompts, held_out)


def place_reports(trainer: Any, folder: RunFolder, started: str) -> None:
    """Puts what reporters write into the run's folder, and under its name; a resumed run goes on there."""
    trainer.args.run_name = trainer.args.run_name or folder.path.name
    for callback in trainer.callback_handler.callbacks:
        if isinstance(callback, TensorBoardCallback) and callback.logging_dir is None:
            callback.logging_dir = str(folder.logs)
    if "wandb" in trainer.args.report_to:
        os.environ.setdefault("WANDB_DIR", str(folder.path))
        os.environ.setdefault("WANDB_RESUME", "allow")
        os.environ.setdefault("WANDB_RUN_ID", f"{folder.path.name}-{re.sub(r'[^0-9]', '', started)}")


def mapping(value: dict[str, Any] | str | None) -> dict[str, Any]:
    """Returns what TRL made of a field that may also be written as JSON."""
    return value if isinstance(value, dict) else {}
