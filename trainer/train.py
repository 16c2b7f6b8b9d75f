"""Assembles a `GRPOTrainer` from a configuration, runs it, and keeps what a person wants to have afterwards.

Needs torch, transformers and trl; import it only where a run is made.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import signal
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

import torch
import transformers
from accelerate.utils import DistributedType, broadcast_object_list
from datasets import Dataset
from rich.console import Console
from transformers import PreTrainedTokenizerBase, PrinterCallback, ProgressCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from trainer import data, models, report
from trainer.arguments import grpo_arguments
from trainer.callbacks import Watch
from trainer.config import TrainConfig
from trainer.errors import RewardError
from trainer.history import History, MetricsFile
from trainer.progress import Progress
from trainer.reward_set import RewardSet
from trainer.runs import RunFolder, RunRecord, environment
from trainer.samples import Sample, take_samples


class Interrupted(KeyboardInterrupt):
    """The run was told to stop: by Ctrl-C, or by SIGTERM. No `Exception`: a reward function must not swallow it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.exit_code = 128 + signal_number


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run."""

    folder: RunFolder
    history: History
    weights: Path  # the folder of the trained adapter, or model


def train(config: TrainConfig, console: Console) -> Result:
    """Runs the configured training. Ctrl-C and SIGTERM end it early; what it has learned until then is saved.

    Raises:
        Interrupted: It was told to stop. All is saved.
        RewardError: The rewards stopped coming. All is saved.
        ConfigError, DataError: The configuration or the data set is wrong.
    """
    with warnings.catch_warnings():
        # transformers and TRL on each other's names; nothing that a person who runs this could mend
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"(transformers|trl)\.")
        run = _Run(config, console)
        try:
            return run.go()
        finally:
            run.rewards.close()


class _Run:
    """One run, from its folder to its report. Of several processes only the first one writes and shows."""

    def __init__(self, config: TrainConfig, console: Console) -> None:
        self.config = config
        self.console = console
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # its own gap
        self.arguments = grpo_arguments(config, config.at(config.run.folder))
        self.is_main = self.arguments.process_index == 0
        self.folder = self._make_folder()
        self.arguments.output_dir = str(self.folder.path)
        self.rewards = RewardSet(config, self.folder.path.name, self._tell)
        self.history = History()
        self.tokenizer, self.dataset, self.trainer = self._assemble()
        self.before: list[Sample] = []
        self.after: list[Sample] = []
        self._weights_are_saved = False

    def go(self) -> Result:
        """Trains, and saves whatever way it ends."""
        record = self._record()
        self._write(record)
        with self._watched(), _stoppable():
            try:
                self.before = self._samples()
                self.trainer.train()
            except (Interrupted, RewardError) as error:
                self._tell(f"{error}: saving what the model has learned so far (Ctrl-C leaves at once)")
                self._finish(record, f"stopped ({error})")
                self._tell(f"saved: {self.weights}; report: {self.folder.report}")
                raise
            except BaseException as error:
                self._keep(record, f"failed ({type(error).__name__}: {error})")
                self._tell(f"the run has failed; what there is of it: {self.folder.path}")
                raise
        self._save_weights()
        with contextlib.suppress(RewardError):  # the weights are safe; the report says that these were not taken
            self.after = self._samples()
        return self._finish(record, "finished")

    def _make_folder(self) -> RunFolder:
        """Makes the run's folder on the main process and tells the others, which must not race for a name."""
        path = [""]
        if self.is_main:
            path = [str(RunFolder.create(self.config.at(self.config.run.folder), self.config.path).path)]
        broadcast_object_list(path)
        return RunFolder(Path(path[0]))

    def _assemble(self) -> tuple[PreTrainedTokenizerBase, Dataset, GRPOTrainer]:
        if self.is_main:
            self.console.print(f"loading {self.config.model.name}", style="dim", highlight=False, soft_wrap=True)
        precision = models.choose_precision(self.config.model, use_cpu=self.arguments.use_cpu)
        policy = models.load_policy(self.config, precision, _mapping(self.arguments.model_init_kwargs))
        self._warn_of_split_groups()
        self.rewards.know_end_tokens(models.end_token_ids(policy))
        dataset = data.dataset(self.config, has_chat_template=policy.tokenizer.chat_template is not None)
        trainer = GRPOTrainer(
            model=policy.model,
            reward_funcs=list(self.rewards.functions),
            args=self.arguments,
            train_dataset=dataset,
            processing_class=policy.tokenizer,
            peft_config=policy.peft_config,
        )
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        return policy.tokenizer, dataset, trainer

    def _warn_of_split_groups(self) -> None:
        """Says so where a group's completions are scored by several processes, which see a part of it each."""
        arguments = self.arguments
        here = arguments.per_device_train_batch_size * (arguments.steps_per_generation or 1)
        group = arguments.num_generations or 1
        if arguments.world_size > 1 and here % group:
            self._tell(
                f"groups of {group} completions are split over processes of {here}: a reward that compares within a "
                f"group, or stands in for a missing score, sees a part of it only. Make grpo.per_device_train_batch_size "
                f"x grpo.steps_per_generation a multiple of {group}"
            )

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Keeps the metrics and shows the progress meanwhile."""
        if not self.is_main:
            yield
            return
        metrics = MetricsFile(self.folder.metrics)
        with contextlib.closing(metrics), Progress(self.history, self.config.rewards.names, self.console) as progress:
            self.trainer.add_callback(Watch(self.history, metrics, progress))
            yield

    def _samples(self) -> list[Sample]:
        """Answers the first prompts with the model as it is now. Not where its weights are spread over processes."""
        spread = self.trainer.accelerator.distributed_type in {DistributedType.FSDP, DistributedType.DEEPSPEED}
        if not self.is_main or spread:
            return []
        return take_samples(
            self.trainer.accelerator.unwrap_model(self.trainer.model),
            self.tokenizer,
            [self.dataset[index] for index in range(min(self.config.run.samples_before_after, len(self.dataset)))],
            self.rewards.score,
            max_completion_tokens=self.arguments.max_completion_length or self.tokenizer.model_max_length,
            chat_template_kwargs=_mapping(self.arguments.chat_template_kwargs),
        )

    def _save_weights(self) -> None:
        """Saves the adapter, or the model where all of it was trained, with its tokenizer. All processes take part."""
        self._weights_are_saved = True  # a look at the folder would race with the process that writes it
        self.trainer.save_model(str(self.weights))

    @property
    def weights(self) -> Path:
        """The folder of what was trained."""
        return self.folder.model if self.config.trains_all_weights else self.folder.adapter

    def _finish(self, record: RunRecord, outcome: str) -> Result:
        if not self._weights_are_saved:
            self._save_weights()
        self._keep(record, outcome)
        return Result(self.folder, self.history, self.weights)

    def _keep(self, record: RunRecord, outcome: str) -> None:
        """Writes all that is known of the run, and its report."""
        self._write(replace(record, outcome=outcome, ended=_now()))
        if self.is_main:
            self.folder.write_samples(self.before, self.after)
            report.write(self.folder)

    def _record(self) -> RunRecord:
        return RunRecord(
            config=str(self.config.path),
            model=self.config.model.name,
            data=data.source_name(self.config.data),
            started=_now(),
            device=_device(self.arguments),
            rewards=tuple(self.rewards.records()),
            environment=environment(),
        )

    def _write(self, record: RunRecord) -> None:
        if self.is_main:
            self.folder.write_record(replace(record, steps=self.trainer.state.max_steps))

    def _tell(self, text: str) -> None:
        if self.is_main:
            self.console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Turns the first Ctrl-C or SIGTERM into `Interrupted`; a second one acts as if nothing were in its way."""
    if threading.current_thread() is not threading.main_thread():  # Python takes signals there only
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        restore()
        raise Interrupted(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def _mapping(value: dict[str, Any] | str | None) -> dict[str, Any]:
    """Returns what TRL made of a field that may also be written as JSON."""
    return value if isinstance(value, dict) else {}


def _device(arguments: GRPOConfig) -> str:
    number_format = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32"
    name = torch.cuda.get_device_name() if arguments.device.type == "cuda" else f"{arguments.device}"
    several = f", {arguments.world_size} processes" if arguments.world_size > 1 else ""
    return f"{name}{several}, {number_format}"


def _now() -> str:
    return dt.datetime.now().astimezone().isoformat(timespec="seconds")
