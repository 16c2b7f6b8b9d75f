"""The folder of a run: what is kept of it, and under which names."""

from __future__ import annotations

import dataclasses
import json
import platform
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from trainer.samples import Note, Sample

CONFIG_NAME = "config.yaml"

LIBRARIES = ("grpo-reward-service", "trl", "transformers", "torch", "peft", "datasets", "accelerate", "grpcio")


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
    rewards: Sequence[RewardRecord] = ()
    environment: Mapping[str, str] = field(default_factory=dict)  # versions


class RunFolder:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / CONFIG_NAME
        self.record = path / "run.json"
        self.metrics = path / "metrics.jsonl"
        self.samples = path / "samples.json"
        self.curves = path / "rewards.png"
        self.report = path / "report.html"
        self.adapter = path / "adapter"
        self.model = path / "model"

    @classmethod
    def create(cls, wanted: Path, config_file: Path) -> RunFolder:
        """Makes the folder, with a number behind its name if a run is there already, and keeps the configuration."""
        path, number = wanted, 1
        while _holds_a_run(path):
            number += 1
            path = wanted.with_name(f"{wanted.name}-{number}")
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path)
        shutil.copyfile(config_file, folder.config)
        return folder

    def write_record(self, record: RunRecord) -> None:
        """Writes what the run was, over what was written before."""
        _write_json(self.record, dataclasses.asdict(record))

    def read_record(self) -> RunRecord:
        """Reads what the run was."""
        data = json.loads(self.record.read_text(encoding="utf-8"))
        return RunRecord(**{**data, "rewards": tuple(RewardRecord(**each) for each in data["rewards"])})

    def write_samples(self, before: Sequence[Sample], after: Sequence[Sample]) -> None:
        """Writes the samples taken so far."""
        data = {
            "before": [dataclasses.asdict(each) for each in before],
            "after": [dataclasses.asdict(s) for s in after],
        }
        _write_json(self.samples, data)

    def read_samples(self) -> tuple[list[Sample], list[Sample]]:
        """Reads the samples before and after; of a run without them, none."""
        if not self.samples.exists():
            return [], []
        data = json.loads(self.samples.read_text(encoding="utf-8"))
        return [_sample(each) for each in data["before"]], [_sample(each) for each in data["after"]]


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
