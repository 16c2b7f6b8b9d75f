"""What watches a run from inside `Trainer`: the metrics file, the live view, and the detectors of illnesses.

Needs transformers; import it only where a run is made.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainer.config import load
from trainer.history import EVALUATION, History, MetricsFile
from trainer.progress import Progress
from trainer.runs import RunFolder
from trainer.watching import kept
from trainer.watching.detectors import Watcher
from trainer.watching.settings import Settings

_log = logging.getLogger(__name__)


class Watch(TrainerCallback):
    """Writes each logged step to the metrics file, shows it, and tells what is ill. On the main process only."""

    def __init__(
        self,
        history: History,
        metrics: MetricsFile,
        progress: Progress,
        *,
        versions: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Takes where steps go, and what warnings speak of.

        Args:
            history: Gets each logged step.
            metrics: Gets it too.
            progress: The view that shows steps and warnings.
            versions: Says, by reward, which version gave the last scores; only of rewards that have one.
        """
        self._history = history
        self._metrics = metrics
        self._progress = progress
        self._versions = versions
        self._watcher: Watcher | None = None
        self._folder = Path()
        self._began = time.monotonic()
        self._wall_s_before = history.rows[-1].get("wall_s", 0.0) if history.rows else 0.0  # of a run that was resumed

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts the clock, and the watching."""
        del control, kwargs
        self._began = time.monotonic()
        self._progress.begin(state.max_steps)
        self._folder = Path(args.output_dir or ".")
        self._guarded(lambda: self._begin_watching(args, state.global_step))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keeps and shows a step, and keeps an evaluation; what `Trainer` logs at a run's end (its run time) is neither."""
        del args, control, kwargs
        logs = logs or {}
        wall_s = round(self._wall_s_before + time.monotonic() - self._began, 3)
        if "eval_reward" in logs:
            evaluation = {"step": state.global_step, EVALUATION: True, "wall_s": wall_s, **logs}
            self._metrics.write(evaluation)
            self._history.add(evaluation)
        if "reward" not in logs:
            return
        row = {"step": state.global_step, "wall_s": wall_s, **logs}
        if versions := dict(self._versions()):
            row["versions"] = versions
        self._metrics.write(row)
        self._history.add(row)
        self._progress.step()
        self._guarded(self._look)

    def _begin_watching(self, arguments: Any, step: int) -> None:
        folder = RunFolder(self._folder)
        config = load(folder.config) if folder.config.is_file() else None
        rewards = folder.read_record().rewards if folder.record.is_file() else ()
        settings = Settings.of(arguments, config, rewards)
        self._watcher = Watcher(settings, kept.keep_until(self._folder, step))

    def _look(self) -> None:
        if self._watcher is None:
            return
        found = self._watcher.look(self._history)
        for finding in found:
            self._progress.tell(finding.text, is_note=finding.is_note)
        kept.append(self._folder, [finding.as_row(self._history.last_step) for finding in found])

    def _guarded(self, work: Callable[[], None]) -> None:
        """Does what must not end a run, whatever is wrong with it: then it is logged, and not tried again."""
        try:
            work()
        except Exception:  # noqa: BLE001  # a bug in what only looks on
            self._watcher = None
            _log.exception("watching over the run failed; it goes on without")
