"""The folder of a run: what is kept of it, and under which names."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from trainer.config import ConfigError
from trainer.history import History
from trainer.samples import Note, Sample

if sys.platform != "win32":
    import fcntl

CONFIG_NAME = "config.yaml"
RECORD_NAME = "run.json"

FINISHED = "finished"
"""The outcome of a run that took all its steps and was saved."""

LIBRARIES = (
    "grpo-reward-service",
    "trl",
    "transformers",
    "torch",
    "peft",
    "datasets",
    "accelerate",
    "unsloth",
    "bitsandbytes",
    "grpcio",
)


@dataclass(frozen=True, slots=True)
class RewardRecord:
    """A reward as it was in a run."""

    name: str
    weight: float
    source: str  # the server's address, or the local function
    version: str = ""  # hash of all that shapes a score; empty for a local function
    kind: str = ""
    description: str = ""


@dataclass(frozen=True, slots=True)
class StartRecord:
    """One start of a run. A run that was resumed has several."""

    started: str  # ISO 8601, with the time zone
    step: int = 0  # it went on after so many steps
    changes: Sequence[str] = ()  # settings that were not what they were at the start before
    ended: str = ""  # empty where it was killed
    outcome: str = "running"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What a run was, for a person who finds its folder later."""

    config: str  # the configuration file it was started with
    model: str
    data: str
    started: str  # ISO 8601, with the time zone
    ended: str = ""
    outcome: str = "running"  # "finished", "interrupted", "failed: ..."
    steps: int = 0
    device: str = ""
    loader: str = ""  # which, and why
    rewards: Sequence[RewardRecord] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # versions
    starts: Sequence[StartRecord] = ()  # the first one first
    advice: str = ""  # where memory ran out: what takes it, and which settings to change

    def resumed(self, now: RunRecord, step: int, changes: Sequence[str]) -> RunRecord:
        """Returns the record of this run, which goes on after `step` as `now` says; its first start stays its start."""
        *earlier, last = self.starts or (StartRecord(self.started),)
        before = last if last.ended else dataclasses.replace(last, outcome="killed")
        starts = (*earlier, before, StartRecord(now.started, step, tuple(changes)))
        return dataclasses.replace(now, started=self.started, starts=starts)

    @property
    def last_start(self) -> str:
        """Returns when it was started last, ISO 8601."""
        return self.starts[-1].started if self.starts else self.started

    def ending(self, outcome: str, ended: str, advice: str = "") -> RunRecord:
        """Returns the record of this run after its end."""
        *earlier, last = self.starts or (StartRecord(self.started),)
        starts = (*earlier, dataclasses.replace(last, ended=ended, outcome=outcome))
        return dataclasses.replace(self, outcome=outcome, ended=ended, advice=advice, starts=starts)


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / CONFIG_NAME
        self.record = path / RECORD_NAME
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples.json"
        self.curves = path / "rewards.png"
        self.report = path / "report.html"
        self.adapter = path / "adapter"
        self.model = path / "model"
        self.logs = path / "logs"  # of TensorBoard

    @classmethod
    def create(cls, wanted: Path, config_file: Path) -> RunFolder:
        """Makes the folder, with a number behind its name if a run is there already, and keeps the configuration.

        Raises:
            ConfigError: It cannot be made.
        """
        path, number = wanted, 1
        try:
            while _holds_a_run(path):
                number += 1
                path = wanted.with_name(f"{wanted.name}-{number}")
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"run.folder: {path} cannot be made: {error.strerror}") from None
        folder = cls(path)
        folder.keep_config(config_file)
        return folder

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps other processes from working in the folder meanwhile, where the system can.

        Raises:
            ConfigError: Another one does.
        """
        if sys.platform == "win32":
            yield
            return
        handle = os.open(self.path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ConfigError(f"{self.path}: this run is still going on, in another process") from None
            except OSError:  # not on this file system
                pass
            yield
        finally:
            os.close(handle)

    def keep_config(self, config_file: Path) -> None:
        """Keeps the configuration that the run was last started with."""
        if config_file.resolve() != self.config.resolve():
            shutil.copyfile(config_file, self.config)

    def write_record(self, record: RunRecord) -> None:
        """Writes what the run was, over what was written before."""
        _write_json(self.record, dataclasses.asdict(record))

    def read_record(self) -> RunRecord:
        """Reads what the run was.

        Raises:
            ConfigError: The file is none of a run, or damaged.
        """
        try:
            data = json.loads(self.record.read_text(encoding="utf-8"))
            data["rewards"] = tuple(RewardRecord(**each) for each in data["rewards"])
            data["starts"] = tuple(StartRecord(**each) for each in data.get("starts", ()))
            return RunRecord(**data)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{self.record}: cannot be read ({error}); was it made by another release?") from None

    def write_samples(self, before: Sequence[Sample], after: Sequence[Sample]) -> None:
        """Writes the samples taken so far."""
        data = {
            "before": [dataclasses.asdict(each) for each in before],
            "after": [dataclasses.asdict(s) for s in after],
        }
        _write_json(self.samples, data)

    def read_samples(self) -> tuple[list[Sample], list[Sample]]:
        """Reads the samples before and after; of a run without them, none.

        Raises:
            ConfigError: The file is damaged.
        """
        if not self.samples.exists():
            return [], []
        try:
            data = json.loads(self.samples.read_text(encoding="utf-8"))
            return [_sample(each) for each in data["before"]], [_sample(each) for each in data["after"]]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"{self.samples}: cannot be read ({error}); was it made by another release?") from None


@dataclass(frozen=True, slots=True)
class Result:
    """What came of a run."""

    folder: RunFolder
    history: History
    weights: Path  # the folder of the trained adapter, or model


def runs_of(wanted: Path) -> list[RunFolder]:
    """Returns the runs that were made for a configured folder, numbered ones included, the last started last."""
    name = re.compile(rf"{re.escape(wanted.name)}(-\d+)?")
    paths = [path for path in wanted.parent.glob("*") if name.fullmatch(path.name)] if wanted.parent.is_dir() else []
    runs = [RunFolder(path) for path in paths if (path / RECORD_NAME).is_file()]
    return sorted(runs, key=lambda run: dt.datetime.fromisoformat(run.read_record().last_start))


def environment() -> dict[str, str]:
    """Returns the versions of what computes a run."""
    found = {"python": platform.python_version(), "platform": platform.platform(), "command": " ".join(sys.argv)}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _holds_a_run(path: Path) -> bool:
    """Returns whether a folder is in use; one with nothing but a configuration is of a run that never began."""
    return path.exists() and any(child.name != CONFIG_NAME for child in path.iterdir())


def _sample(data: Mapping[str, Any]) -> Sample:
    notes = {name: Note(**{**note, "flags": tuple(note.get("flags", ()))}) for name, note in data["verdicts"].items()}
    return Sample(data["prompt"], data["completion"], notes)


def _write_json(path: Path, data: Any) -> None:
    partial = path.with_suffix(".part")
    partial.write_text(json.dumps(data, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", errors="replace")
    partial.replace(path)
