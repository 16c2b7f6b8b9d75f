"""What watches a run from inside `Trainer`: the metrics file and the live view.

Needs transformers; import it only where a run is made.
"""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.history import History, MetricsFile
from trainer.progress import Progress


class Watch(TrainerCallback):
    """Writes each logged step to the metrics file and shows it. On the main process only."""

    def __init__(self, history: History, metrics: MetricsFile, progress: Progress) -> None:
        self._history = history
        self._metrics = metrics
        self._progress = progress
        self._began = time.monotonic()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the clock."""
        del args, control, kwargs
        self._began = time.monotonic()
        self._progress.begin(state.max_steps)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keeps and shows a step; what `Trainer` logs at the end of a run (its run time) is no step."""
        del args, control, kwargs
        if not logs or "reward" not in logs:
            return
        row = {"step": state.global_step, "wall_s": round(time.monotonic() - self._began, 3), **logs}
        self._metrics.write(row)
        self._history.rows.append(row)
        self._progress.step()
