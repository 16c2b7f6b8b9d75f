"""What the callback makes of a logged step: a row, a line on the screen, a warning; and that it never ends a run."""

import logging
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from transformers import TrainerControl, TrainerState

from trainer.callbacks import Watch
from trainer.history import History, MetricsFile
from trainer.progress import Progress
from trainer.runs import RewardRecord, RunFolder, RunRecord
from trainer.watching import kept

CONFIG = """
model: {name: m, load_in_4bit: true, lora: {r: 4}}
data: {prompts: [a]}
rewards: {server: "localhost:1", use: {a: 2.0}, deadline_s: 30}
"""

FLAT = {"reward": 0.5, "watch/zero_variance": 1.0, "missing/share": 0.5, "completions/mean_length": 9.0}


class Watched:
    """A run's folder, a callback, and the steps that it is told of."""

    def __init__(self, path: Path, **more: Any) -> None:
        self.folder = RunFolder(path)
        self.console = Console(file=StringIO(), width=200, force_terminal=more.pop("terminal", False))
        self.history = History()
        self.metrics = MetricsFile(self.folder.metrics)
        self.progress = Progress(self.history, ["a"], self.console)
        self.watch = Watch(self.history, self.metrics, self.progress, **more)
        self.state = TrainerState(max_steps=9)

    def train(self, *steps: dict[str, Any]) -> str:
        arguments = SimpleNamespace(output_dir=str(self.folder.path), num_generations=4, beta=0.1, max_steps=9)
        control = TrainerControl()
        with self.progress:
            self.watch.on_train_begin(arguments, self.state, control)  # type: ignore[arg-type]
            for logs in steps:
                self.state.global_step += 1
                self.watch.on_log(arguments, self.state, control, logs=logs)  # type: ignore[arg-type]
        self.metrics.close()
        assert isinstance(self.console.file, StringIO)
        return self.console.file.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "config.yaml").write_text(CONFIG)
    record = RunRecord(
        "c", "m", "d", "2026-11-22T10:00:00+00:00", rewards=(RewardRecord("a", 2.0, "x", kind="length"),)
    )
    RunFolder(tmp_path).write_record(record)
    return tmp_path


def test_warnings_know_the_settings_of_the_run(folder: Path):
    screen = Watched(folder).train(*[FLAT] * 6)
    assert screen.count("warning: zero-variance groups: all 4 completions") == 1
    assert screen.count("rewards.deadline_s from 30 to 60") == 1
    assert [(row["step"], row["illness"]) for row in kept.read(folder)] == [
        (5, "zero-variance groups"),
        (5, "missing scores"),
    ]


def test_they_stand_above_the_live_view(folder: Path):
    screen = Watched(folder, terminal=True).train(*[FLAT] * 6)
    assert "warning: zero-variance groups" in screen
    assert "step 6/9" in screen


def test_a_run_that_goes_on_does_not_repeat_its_warnings_but_those_after_its_checkpoint(folder: Path):
    Watched(folder).train(*[FLAT] * 6)
    resumed = Watched(folder)
    resumed.state.global_step = 5
    assert "zero-variance" not in resumed.train(*[FLAT] * 6)
    anew = Watched(folder)
    anew.state.global_step = 2
    assert "zero-variance" in anew.train(*[FLAT] * 6)
    assert [row["illness"] for row in kept.read(folder)].count("zero-variance groups") == 1


def test_another_version_of_a_reward_is_told_and_kept(folder: Path):
    versions = iter(["1", "1", "2", "2"])
    watched = Watched(folder, versions=lambda: {"a": next(versions)})
    screen = watched.train(*[{"reward": 0.5}] * 4)
    assert screen.count("a has version 2 from step 3 on, before 1") == 1
    assert History.read(watched.folder.metrics).rows[2]["versions"] == {"a": "2"}


def test_what_is_no_step_is_left_out(folder: Path):
    watched = Watched(folder)
    watched.train({"train_runtime": 3.0}, {"eval_reward": 1.0}, {"reward": 0.5})
    assert [row["step"] for row in watched.history.rows] == [3]


def test_outside_of_a_runs_folder_it_watches_as_well(tmp_path: Path):
    assert "zero-variance groups" in Watched(tmp_path).train(*[FLAT] * 6)


@pytest.mark.parametrize("broken", ["config.yaml", "run.json", "warnings.jsonl"])
def test_nothing_that_goes_wrong_here_ends_a_run(folder: Path, broken: str, caplog: pytest.LogCaptureFixture):
    (folder / broken).unlink(missing_ok=True)
    if broken == "warnings.jsonl":
        (folder / broken).mkdir()  # it can't be written
    else:
        (folder / broken).write_text("{")
    watched = Watched(folder)
    with caplog.at_level(logging.ERROR):
        watched.train(*[FLAT] * 6)
    assert [row["step"] for row in watched.history.rows] == [1, 2, 3, 4, 5, 6]
    assert [record.getMessage() for record in caplog.records] == ["watching over the run failed; it goes on without"]
