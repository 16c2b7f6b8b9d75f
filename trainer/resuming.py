"""Going on with a run from a checkpoint: which one, whether all of it is there, and what may have changed since.

A checkpoint is whole once its `complete.json` is there and every file has the size that stands in it: that file is
written after all others, so what a kill left half-written, or half-deleted, is told from what can be resumed.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.config import ConfigError, RunError, TrainConfig, load
from trainer.history import History
from trainer.runs import RunFolder, runs_of

NEWEST = ""
"""In place of a folder: the newest run of the configuration's folder."""

COMPLETE = "complete.json"

_CHECKPOINT = re.compile(r"checkpoint-(\d+)")

FIXED_SECTIONS = frozenset({"model", "data"})
"""The weights must fit, and the prompts must come in the same order. What else changes is only told."""

FIXED_GRPO = frozenset(
    {
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "steps_per_generation",
        "generation_batch_size",
        "num_generations",
        "num_iterations",
        "shuffle_dataset",
        "optim",
        "lr_scheduler_type",
    }
)
"""Fields of `grpo` on which the order of the prompts, or the shape of the optimizer's state, depends."""

FREE = frozenset({"model.loader", "model.fast_inference", "data.eval_path", "data.eval_split", "data.eval_limit"})
"""Of the fixed sections what may change all the same."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where a run goes on."""

    folder: RunFolder
    checkpoint: Path | None = None  # None: there is no whole one, so it starts over in its folder
    step: int = 0
    epoch: int = 0  # so many times all prompts were gone through
    changes: tuple[str, ...] = ()  # settings that are not what they were


def find(config: TrainConfig, where: str, process_count: int) -> Point | None:
    """Returns where to go on; None where `where` is `NEWEST` and there is no run yet.

    Args:
        config: As it is now.
        where: `NEWEST`, a run's folder, or a checkpoint in it; relative to the working directory.
        process_count: The processes of this run.

    Raises:
        ConfigError: There is nothing of that name to resume, or what changed since can't be resumed.
    """
    folder, wanted = _named(config, where)
    if folder is None:
        return None
    checkpoint = wanted or newest_whole(folder.path)
    changes = _changes(folder, config)
    if checkpoint is None:
        return Point(folder, changes=changes)
    facts = _facts(checkpoint)
    if facts["process_count"] != process_count:
        raise ConfigError(
            f"{checkpoint}: was made by {facts['process_count']} processes, and this run has {process_count}: prompts "
            "and random numbers would fall differently; start as many as then"
        )
    return Point(folder, checkpoint, facts["step"], facts["epoch"], changes)


def newest_whole(folder: Path) -> Path | None:
    """Returns a run's last checkpoint that is whole, None if there is none."""
    return next((each for each in reversed(_checkpoints(folder)) if is_whole(each)), None)


def is_whole(checkpoint: Path) -> bool:
    """Returns whether all of a checkpoint is there."""
    try:
        files = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))["files"]
        return all((checkpoint / name).stat().st_size == size for name, size in files.items())
    except (OSError, ValueError, KeyError, AttributeError):
        return False


def mark_whole(checkpoint: Path, *, step: int, epoch: int, process_count: int) -> None:
    """Says that all of a checkpoint is there. Nothing may be written into it afterwards."""
    files = {str(path.relative_to(checkpoint)): path.stat().st_size for path in checkpoint.rglob("*") if path.is_file()}
    files.pop(COMPLETE, None)
    facts = {"step": step, "epoch": epoch, "process_count": process_count, "files": files}
    partial = checkpoint / f"{COMPLETE}.part"
    partial.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    partial.replace(checkpoint / COMPLETE)


def cut_back(point: Point) -> None:
    """Drops what the run did after the point: its rows, and checkpoints that are later or broken."""
    rows = History.read(point.folder.metrics).until(point.step if point.checkpoint else -1)
    partial = point.folder.metrics.with_suffix(".part")
    partial.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    partial.replace(point.folder.metrics)
    for checkpoint in _checkpoints(point.folder.path):
        if _step(checkpoint) > point.step or not is_whole(checkpoint):
            shutil.rmtree(checkpoint)


def _named(config: TrainConfig, where: str) -> tuple[RunFolder | None, Path | None]:
    """Returns the run's folder, and the checkpoint if one was asked for."""
    if where == NEWEST:
        runs = runs_of(config.at(config.run.folder))
        return (runs[-1] if runs else None), None
    path = Path(where).expanduser().resolve()
    wanted = path if _CHECKPOINT.fullmatch(path.name) else None
    folder = RunFolder(path if wanted is None else path.parent)
    if not folder.record.is_file():
        raise ConfigError(f"--resume {where}: there is no run in {folder.path}: it has no {folder.record.name}")
    if wanted is not None and not is_whole(wanted):
        whole = ", ".join(each.name for each in _checkpoints(folder.path) if is_whole(each)) or "none"
        state = "is not whole: the run ended while it was written" if wanted.is_dir() else "is not there"
        raise ConfigError(f"--resume {where}: {wanted.name} {state}; whole ones in {folder.path}: {whole}")
    return folder, wanted


def _checkpoints(folder: Path) -> list[Path]:
    """Returns the folders of a run's checkpoints, the earliest first, whole or not."""
    found = [path for path in folder.glob("checkpoint-*") if path.is_dir() and _CHECKPOINT.fullmatch(path.name)]
    return sorted(found, key=_step)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])


def _facts(checkpoint: Path) -> dict[str, int]:
    facts: dict[str, int] = json.loads((checkpoint / COMPLETE).read_text(encoding="utf-8"))
    return facts


def _changes(folder: RunFolder, config: TrainConfig) -> tuple[str, ...]:
    """Returns what is not as it was, in words. Raises `ConfigError` with all that can't be resumed."""
    try:
        before = load(folder.config)
    except RunError as error:
        raise ConfigError(
            f"{folder.config}: the configuration of the run that shall go on cannot be read: {error}"
        ) from None
    changes = list(_different(_flat(before), _flat(config)))
    if refused := [words for key, words in changes if _is_fixed(key)]:
        raise ConfigError(
            *(f"{words}: a run cannot be resumed with it; put it back, or start anew" for words in refused)
        )
    return tuple(words for _, words in changes)


def _different(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for key in sorted(before.keys() | now.keys()):
        old, new = before.get(key), now.get(key)
        if old != new:
            yield key, f"{key}: was {_shown(old)}, is now {_shown(new)}"


def _shown(value: Any) -> str:
    return "not set" if value is None else f"{value!r}"


def _is_fixed(key: str) -> bool:
    section, _, name = key.partition(".")
    if section == "grpo":
        return name in FIXED_GRPO
    return key == "run.seed" or (section in FIXED_SECTIONS and key not in FREE)


def _flat(config: TrainConfig) -> dict[str, Any]:
    """Returns all settings by dotted key. Paths are as they are written: a run's copy lies in another folder."""
    sections = {name: getattr(config, name).model_dump(mode="json") for name in ("model", "data", "rewards", "run")}
    flat: dict[str, Any] = {}

    def add(key: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for name, item in value.items():
                add(f"{key}.{name}", item)
        else:
            flat[key] = list(value) if isinstance(value, tuple) else value

    for name, value in {**sections, "grpo": dict(config.grpo)}.items():
        add(name, value)
    del flat["run.folder"]  # the run stays where it is
    return flat
