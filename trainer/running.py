"""One run, from its folder to its report.

Needs torch, transformers and trl; import it only where a run is made.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gc
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from accelerate.utils import DistributedType
from rich.console import Console
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_callback import TrainerState
from trl.trainer.grpo_config import GRPOConfig

from trainer import data, launch, models, report, resuming
from trainer.arguments import grpo_arguments
from trainer.assembly import assemble, begin_or_resume, make_rewards, mapping, place_reports
from trainer.callbacks import Watch
from trainer.config import RunError, TrainConfig
from trainer.ending import Interrupted, OutOfMemory, StopSignal
from trainer.errors import RewardError
from trainer.history import History, MetricsFile
from trainer.launch import made_by_first
from trainer.progress import Progress
from trainer.runs import FINISHED, Result, RunRecord, environment
from trainer.samples import Sample, take_samples
from trainer.steps import Checkpoints, EvaluateLast, StopTogether, continue_order
from trainer.watching import failures, memory
from trainer.watching.settings import Settings


class Run:
    """One run. Of several processes only the first one writes and shows."""

    def __init__(
        self, config: TrainConfig, console: Console, resume: str | None, resources: contextlib.ExitStack
    ) -> None:
        """Loads all that the run needs; what must be closed at its end goes into `resources`."""
        self.config = config
        self.console = console
        transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # its own gap
        self.arguments = grpo_arguments(config, config.at(config.run.folder))
        self.is_main = self.arguments.process_index == 0
        self.point = made_by_first(lambda: begin_or_resume(config, self.arguments, resume, self._tell, resources))
        self.folder = self.point.folder
        self.arguments.output_dir = str(self.folder.path)  # TRL makes folders in it as soon as it is made
        self.stop = StopSignal(at_once=self.arguments.world_size == 1)
        self.rewards = make_rewards(config, self.arguments, self.folder, self._tell, resources)
        if self.is_main:
            console.print(f"loading {config.model.name}", style="dim", highlight=False, soft_wrap=True)
        self.parts = assemble(config, self.arguments, self.rewards)
        self.trainer = self.parts.trainer
        self.history = History.read(self.folder.metrics)
        self.before: list[Sample] = []
        self.after: list[Sample] = []
        self._weights_are_saved = False

    def go(self) -> Result:
        """Trains, and saves whatever way it ends."""
        record = made_by_first(self._record)
        place_reports(self.trainer, self.folder, record.started)
        self._write(record)
        with self._watched(), self.stop.listening():
            try:
                self._train()
            except (Interrupted, RewardError) as error:  # which all ranks raise
                self._tell(f"{error}: saving what the model has learned so far (Ctrl-C leaves at once)")
                self._finish(record, f"stopped ({error})")
                self._tell(f"saved: {self.weights}; report: {self.folder.report}")
                checkpoint = resuming.newest_whole(self.folder.path)
                self._tell(
                    f"`--resume` goes on after {checkpoint.name if checkpoint else 'step 0: no checkpoint is whole'}"
                )
                raise
            except BaseException as error:
                if memory.is_out_of_memory(error):
                    raise self._out_of_memory(record, error) from None
                advice = failures.finding(error, Settings.of(self.arguments, self.config))
                self._keep(record, f"failed ({type(error).__name__}: {error})", advice.text if advice else "")
                self._tell(f"the run has failed; what there is of it: {self.folder.path}")
                raise
        self._save_weights()
        try:
            self.after = self._samples()
        except Exception as error:  # noqa: BLE001  # the weights are safe; the report says that these were not taken
            self._tell(f"no samples after the training: {type(error).__name__}: {error}")
        return self._finish(record, FINISHED)

    def _train(self) -> None:
        """Takes the samples before, and trains. What the first rank raises before the training, all raise."""
        self.before = self._read_samples() if self.point.step else made_by_first(self._samples)
        if self.is_main:
            self.folder.write_samples(self.before, [])
        trainer, checkpoint = self.trainer, self.point.checkpoint
        trainer.add_callback(Checkpoints(trainer))
        if self.parts.eval_dataset is not None:
            trainer.add_callback(EvaluateLast())
        if self.arguments.world_size > 1:
            trainer.add_callback(StopTogether(self.stop))
        if (
            checkpoint is not None and 0 < self.arguments.max_steps <= self.point.step
        ):  # transformers would take another
            trainer._load_from_checkpoint(str(checkpoint))  # noqa: SLF001  # it has no other way to load without training
            trainer.state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
            return
        if checkpoint is not None:
            trainer.args.eval_on_start = False
            continue_order(trainer, self.point.epoch)
        trainer.train(resume_from_checkpoint=None if checkpoint is None else str(checkpoint))
        if self.stop.noted:
            raise Interrupted(self.stop.noted)

    @contextlib.contextmanager
    def _watched(self) -> Iterator[None]:
        """Keeps the metrics and shows the progress meanwhile."""
        if not self.is_main:
            yield
            return
        metrics = MetricsFile(self.folder.metrics)
        with contextlib.closing(metrics), Progress(self.history, self.config.rewards.names, self.console) as progress:
            self.trainer.add_callback(Watch(self.history, metrics, progress, versions=self.rewards.versions))
            yield

    def _samples(self) -> list[Sample]:
        """Answers the first prompts with the model as it is now. Not where its weights are spread over processes."""
        if not self.is_main or self._is_spread:
            return []
        prompts, tokenizer = self.parts.dataset, self.parts.tokenizer
        return take_samples(
            self.trainer.accelerator.unwrap_model(self.trainer.model),
            tokenizer,
            [prompts[index] for index in range(min(self.config.run.samples_before_after, len(prompts)))],
            self.rewards.score,
            max_completion_tokens=self.arguments.max_completion_length or tokenizer.model_max_length,
            chat_template_kwargs=mapping(self.arguments.chat_template_kwargs),
        )

    def _read_samples(self) -> list[Sample]:
        """Returns those taken before the first step, which the model can't give any more."""
        return self.folder.read_samples()[0] if self.is_main else []

    def _save_weights(self) -> None:
        """Saves what was trained. All processes take part: where weights are spread, they are brought together."""
        self._weights_are_saved = True  # a look at the folder would race with the process that writes it
        if self._is_spread:
            if self.config.run.save == "merged":
                self._tell(
                    "run.save: merged cannot be done where weights are spread over processes: saving what was trained"
                )
            self.trainer.save_model(str(self.weights))
        elif self.is_main:
            model = self.trainer.accelerator.unwrap_model(self.trainer.model)
            try:
                models.save_weights(model, self.parts.tokenizer, self.weights, self.config.run.save)
            except RunError as error:  # an adapter of a kind that cannot be merged
                self._tell(f"{error}: saving the adapter")
                models.save_weights(model, self.parts.tokenizer, self.folder.adapter, "adapter")

    @property
    def _is_spread(self) -> bool:
        """Whether no process has all the weights."""
        return self.trainer.accelerator.distributed_type in {DistributedType.FSDP, DistributedType.DEEPSPEED}

    @property
    def weights(self) -> Path:
        """The folder of what was trained."""
        merged = self.config.run.save == "merged" and not self._is_spread
        whole = self.config.trains_all_weights or merged
        return self.folder.model if whole else self.folder.adapter

    def _out_of_memory(self, record: RunRecord, error: BaseException) -> OutOfMemory:
        """Makes room, saves what can be saved, and returns what to tell."""
        shape = memory.Shape.of(self.trainer.model.config)
        advice = memory.words(error, Settings.of(self.arguments, self.config), shape)
        traceback.clear_frames(error.__traceback__)  # they hold the tensors that took the memory
        self.trainer._buffered_inputs = None  # noqa: SLF001  # the batch it was at
        self.trainer.model.zero_grad(set_to_none=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        self._save_what_one_rank_can()
        self._keep(record, "failed (out of memory)", advice)
        return OutOfMemory(advice)

    def _save_what_one_rank_can(self) -> None:
        """Saves the weights if that needs none of the other ranks: they may wait in a collective, or be gone."""
        if self.is_main and not self._is_spread:
            with contextlib.suppress(Exception):  # memory may be short for this too, and the words matter more
                self._save_weights()

    def _finish(self, record: RunRecord, outcome: str) -> Result:
        if not self._weights_are_saved:
            self._save_weights()
        self._keep(record, outcome)
        # A rank that ended now, with an exit status that is not 0, would make the launcher end those that still write.
        self.trainer.accelerator.wait_for_everyone()
        return Result(self.folder, self.history, self.weights)

    def _keep(self, record: RunRecord, outcome: str, advice: str = "") -> None:
        """Writes all that is known of the run, and its report. Each rank says how it ended."""
        if not self.is_main:
            if outcome != FINISHED:
                self.console.print(f"{launch.who()}{outcome}", highlight=False, markup=False, soft_wrap=True)
            return
        self._write(record.ending(outcome, _now(), advice))
        self.folder.write_samples(self.before, self.after)
        try:
            report.write(self.folder)
        except Exception as error:  # noqa: BLE001  # what is kept of the run is written; a page about it must not fail it
            self._tell(f"the report cannot be written: {type(error).__name__}: {error}")

    def _record(self) -> RunRecord:
        """Returns what the run is; of one that goes on, with its history."""
        now = RunRecord(
            config=str(self.config.path),
            model=self.config.model.name,
            data=data.source_name(self.config.data),
            started=_now(),
            device=_device(self.arguments),
            loader=": ".join(models.chosen_loader(self.config)),
            rewards=tuple(self.rewards.records()),
            environment=environment(),
        )
        if not self.folder.record.is_file():
            return now
        return self.folder.read_record().resumed(now, self.point.step, self.point.changes)

    def _write(self, record: RunRecord) -> None:
        if self.is_main:
            self.folder.write_record(replace(record, steps=self.trainer.state.max_steps))

    def _tell(self, text: str) -> None:
        if self.is_main:
            self.console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)


def _device(arguments: GRPOConfig) -> str:
    number_format = "bf16" if arguments.bf16 else "fp16" if arguments.fp16 else "fp32"
    name = torch.cuda.get_device_name() if arguments.device.type == "cuda" else f"{arguments.device}"
    several = f", {arguments.world_size} processes" if arguments.world_size > 1 else ""
    return f"{name}{several}, {number_format}"


def _now() -> str:
    return dt.datetime.now().astimezone().isoformat(timespec="seconds")
