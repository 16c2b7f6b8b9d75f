"""What happens between two steps of a run: checkpoints that can be resumed exactly, evaluations, an end of all together.

What makes a resumed run differ, where `Trainer` is left alone, and what is done about it:

- `GRPOTrainer` generates for several steps at once (`steps_per_generation`, `num_iterations`) and doesn't keep the rest of
  such a batch in a checkpoint: resumed, it would generate anew in its middle. So a checkpoint that is due waits until the
  last step of its batch is done.
- Its sampler draws the order of the prompts anew for each epoch, and a resumed one begins with the first order again. So
  it draws those of the epochs that are done.
- Metrics gathered since the last logged step would be lost. So the step is logged at which a checkpoint is made.

The rest (weights, optimizer, schedule, loss scale, random numbers of each rank) is in the checkpoint.

Needs transformers and accelerate; import it only where a run is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer import resuming
from trainer.ending import StopSignal


class Checkpoints(TrainerCallback):
    """Puts checkpoints where a run can go on exactly, and marks those that are whole."""

    def __init__(self, trainer: Any) -> None:
        self._trainer = trainer
        self._is_due = False

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Lets a checkpoint wait while completions of the last batch are still to be trained on."""
        del args, state, kwargs
        self._is_due = self._is_due or control.should_save
        control.should_save = self._is_due and self._is_between_batches()
        if control.should_save:
            self._is_due = False
            control.should_log = True

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Does the same; an epoch may end early, by `max_steps`."""
        self.on_step_end(args, state, control, **kwargs)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Marks the checkpoint that was just written, once every rank has written its part."""
        del control, kwargs
        self._trainer.accelerator.wait_for_everyone()
        if args.process_index == 0 and not args.save_only_model and self._is_between_batches():
            checkpoint = Path(args.output_dir or ".") / f"checkpoint-{state.global_step}"
            resuming.mark_whole(
                checkpoint, step=state.global_step, epoch=int(state.epoch or 0), process_count=args.world_size
            )

    def _is_between_batches(self) -> bool:
        trainer = self._trainer
        return bool(trainer._step % (trainer.args.steps_per_generation * trainer.num_iterations) == 0)  # noqa: SLF001  # told nowhere else


class EvaluateLast(TrainerCallback):
    """Evaluates after the last step too, whatever `eval_steps` is, while reporters still listen."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Asks for it after the last step."""
        del args, kwargs
        control.should_evaluate = control.should_evaluate or state.global_step >= state.max_steps


class StopTogether(TrainerCallback):
    """Ends the training of all ranks after the same step, once one of them was told to stop."""

    def __init__(self, signal: StopSignal) -> None:
        self._signal = signal

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Asks all ranks whether one was told."""
        del state, kwargs
        noted = gather(torch.tensor([self._signal.noted], device=args.device))
        self._signal.noted = int(noted.max())
        if self._signal.noted:
            control.should_training_stop = True


def continue_order(trainer: Any, epoch_count: int) -> None:
    """Makes the trainer's sampler go on after so many epochs, as if it had drawn their orders itself."""
    make_sampler = trainer._get_train_sampler  # noqa: SLF001  # where GRPOTrainer makes it

    def make_advanced(*arguments: Any) -> Any:
        sampler = make_sampler(*arguments)
        for _ in range(epoch_count):
            next(iter(sampler), None)  # which draws an order
        return sampler

    trainer._get_train_sampler = make_advanced  # noqa: SLF001
