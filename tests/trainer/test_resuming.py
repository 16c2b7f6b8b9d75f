"""Runs that go on from a checkpoint: exactly as if nothing had been, or not at all."""

import json
import shutil
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from safetensors.torch import load_file

from trainer import resuming
from trainer.config import ConfigError, TrainConfig, load
from trainer.resuming import NEWEST, find, is_whole, mark_whole, newest_whole
from trainer.runs import RunFolder, RunRecord
from trainer.train import Result, train

Make = Callable[..., TrainConfig]
Write = Callable[..., Path]

BROKEN = """
import os

def letters(completions, trainer_state):
    if trainer_state is not None and str(trainer_state.global_step) == os.environ.get("BREAK_AT"):
        raise RuntimeError("broken")
    return [sum(map(str.isalpha, text)) / max(1, len(text)) for text in completions]
"""

# Completions for two steps at once, each trained on twice; two of three prompts a batch, so every batch is an epoch.
DATA = {"prompts": ["one", "two", "three"], "conversational": False}
GRPO = {
    "max_steps": 10,
    "per_device_train_batch_size": 2,
    "steps_per_generation": 2,
    "num_iterations": 2,
    "learning_rate": 1e-2,
    "save_strategy": "steps",
    "save_steps": 3,
    "logging_steps": 3,
}


def run(config: TrainConfig, **options: Any) -> tuple[Result, str]:
    output = StringIO()
    return train(config, Console(file=output, width=200), **options), output.getvalue()


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def learned(folder: Path) -> list[tuple[float, ...]]:
    keys = ("step", "reward", "reward_std", "loss", "grad_norm", "entropy", "completions/mean_length", "learning_rate")
    return [tuple(row[key] for key in keys) for row in rows(folder)]


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("checkpoint-*"))


@pytest.fixture
def breakable(small_run: Make, tmp_path: Path) -> Make:
    """Returns a run whose reward breaks at the step BREAK_AT."""
    (tmp_path / "broken.py").write_text(BROKEN)
    rewards = {"local": {"letters": {"python": "broken.py:letters"}}}
    return lambda **sections: small_run(
        **{"data": DATA, "grpo": GRPO, "rewards": rewards, "run": {"samples_before_after": 1}} | sections
    )


def test_a_resumed_run_is_step_for_step_an_undisturbed_one(
    breakable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    whole, _ = run(breakable())
    monkeypatch.setenv("BREAK_AT", "8")
    with pytest.raises(RuntimeError, match="broken"):
        run(breakable())
    folder = tmp_path / "run-2"
    # One is due after 3, 6 and 9 steps; the batches end after 4 and 8, and there it can be resumed.
    assert checkpoints(folder) == ["checkpoint-4", "checkpoint-8"]
    assert [row["step"] for row in rows(folder)] == [3, 6]
    monkeypatch.delenv("BREAK_AT")
    before = json.loads((folder / "samples.json").read_text())["before"]
    (folder / "checkpoint-8" / "optimizer.pt").write_bytes(b"half")
    resumed, told = run(breakable(), resume=NEWEST)
    assert resumed.folder.path == folder
    assert "goes on after step 4" in told
    assert learned(folder) == learned(whole.folder.path)
    assert [row["step"] for row in rows(folder)] == [3, 6, 9]
    assert [row["wall_s"] for row in rows(folder)] == sorted(row["wall_s"] for row in rows(folder))
    record = json.loads((folder / "run.json").read_text())
    assert record["outcome"] == "finished"
    assert [(start["step"], start["outcome"]) for start in record["starts"]] == [
        (0, "failed (RuntimeError: broken)"),
        (4, "finished"),
    ]
    samples = json.loads((folder / "samples.json").read_text())
    assert samples["before"] == before
    assert len(samples["after"]) == 1
    with pytest.raises(ConfigError, match=r"all \d+ steps are done; to go on for longer raise grpo.max_steps"):
        run(breakable(grpo=GRPO | {"max_steps": 4}), resume=str(folder / "checkpoint-4"))


def test_a_run_that_is_killed_after_its_last_step_is_brought_to_its_end(breakable: Make, tmp_path: Path):
    small = {
        "grpo": GRPO
        | {"max_steps": 4, "save_steps": 4, "steps_per_generation": 1, "num_iterations": 1, "logging_steps": 1}
    }
    whole, _ = run(breakable(**small))
    folder = tmp_path / "run"
    expected = load_file(whole.weights / "model.safetensors")
    shutil.rmtree(whole.weights)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(record | {"outcome": "running", "ended": ""}))
    resumed, _ = run(breakable(**small), resume=NEWEST)
    found = load_file(resumed.weights / "model.safetensors")
    assert all((found[name] == expected[name]).all() for name in expected)
    assert [row["step"] for row in rows(folder)] == [1, 2, 3, 4]
    record = json.loads((folder / "run.json").read_text())
    assert (record["outcome"], record["steps"]) == ("finished", 4)
    with pytest.raises(ConfigError, match="all 4 steps are done"):
        run(breakable(**small), resume=NEWEST)


def test_without_a_checkpoint_a_run_starts_over_in_its_folder(
    breakable: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    small = {"grpo": GRPO | {"max_steps": 1, "logging_steps": 1}}
    monkeypatch.setenv("BREAK_AT", "0")
    with pytest.raises(RuntimeError, match="broken"):
        run(breakable(**small), resume=NEWEST)  # there is no run yet, so it is the first
    (tmp_path / "run" / "metrics.jsonl").write_text('{"step": 1, "reward": 0.5}\n{"ste')
    monkeypatch.delenv("BREAK_AT")
    resumed, told = run(breakable(**small), resume=NEWEST)
    assert resumed.folder.path == tmp_path / "run"
    assert "goes on after step 0" in told
    (row,) = rows(tmp_path / "run")
    assert (row["step"], row["reward"]) != (1, 0.5)
    assert len(json.loads((tmp_path / "run" / "samples.json").read_text())["before"]) == 1


@pytest.fixture
def config(write_config: Write) -> TrainConfig:
    return load(write_config())


def make_run(folder: Path, config: Path, *steps: int, started: str = "2026-01-01T00:00:00+00:00") -> RunFolder:
    """Makes the folder of a run that has these checkpoints."""
    made = RunFolder(folder)
    for step in steps:
        checkpoint = folder / f"checkpoint-{step}"
        checkpoint.mkdir(parents=True)
        (checkpoint / "model.safetensors").write_bytes(b"weights")
        (checkpoint / "trainer_state.json").write_text("{}")
        mark_whole(checkpoint, step=step, epoch=step // 2, process_count=1)
    folder.mkdir(exist_ok=True)
    made.keep_config(config)
    made.write_record(RunRecord(str(config), "model", "data", started))
    return made


def test_the_run_that_was_started_last_is_the_newest(config: TrainConfig, tmp_path: Path):
    assert find(config, NEWEST, 1) is None
    make_run(tmp_path / "run", config.path, 2, started="2026-01-01T12:00:00+00:00")
    make_run(tmp_path / "run-2", config.path, 3, started="2026-01-01T12:30:00+01:00")  # earlier, by the sun
    make_run(tmp_path / "runner", config.path, 4, started="2026-02-01T00:00:00+00:00")
    point = find(config, NEWEST, 1)
    assert point is not None
    assert (point.folder.path, point.step, point.epoch) == (tmp_path / "run", 2, 1)


def test_a_checkpoint_that_was_half_written_is_passed_over(config: TrainConfig, tmp_path: Path):
    folder = make_run(tmp_path / "run", config.path, 2, 4, 6, 8).path
    (folder / "checkpoint-8" / resuming.COMPLETE).unlink()  # killed before it was marked
    (folder / "checkpoint-6" / "model.safetensors").unlink()  # killed while it was deleted
    assert newest_whole(folder) == folder / "checkpoint-4"
    (folder / "checkpoint-4" / "model.safetensors").write_bytes(b"wei")  # the disk was full
    assert [is_whole(folder / f"checkpoint-{step}") for step in (2, 4, 6, 8)] == [True, False, False, False]
    point = find(config, NEWEST, 1)
    assert point is not None
    assert point.checkpoint == folder / "checkpoint-2"
    with pytest.raises(ConfigError, match=r"checkpoint-8 is not whole: .*; whole ones in .*: checkpoint-2"):
        find(config, str(folder / "checkpoint-8"), 1)
    with pytest.raises(ConfigError, match="checkpoint-9 is not there"):
        find(config, str(folder / "checkpoint-9"), 1)


def test_what_came_after_the_checkpoint_is_cut_off(config: TrainConfig, tmp_path: Path):
    folder = make_run(tmp_path / "run", config.path, 2, 4, 6)
    (folder.path / "checkpoint-2" / "model.safetensors").unlink()
    logged = [{"step": 0, "eval": True}, {"step": 2}, {"step": 4}, {"step": 4, "eval": True}, {"step": 5}]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in logged) + '{"step": 6, "rew')
    point = find(config, str(folder.path / "checkpoint-4"), 1)
    assert point is not None
    resuming.cut_back(point)
    assert rows(folder.path) == logged[:-1]
    assert checkpoints(folder.path) == ["checkpoint-4"]


def test_a_folder_without_a_run_cannot_be_resumed(config: TrainConfig, tmp_path: Path):
    with pytest.raises(ConfigError, match="there is no run in"):
        find(config, str(tmp_path / "elsewhere"), 1)


def test_a_number_of_processes_that_is_another_is_refused(config: TrainConfig, tmp_path: Path):
    make_run(tmp_path / "run", config.path, 2)
    with pytest.raises(ConfigError, match="was made by 1 processes, and this run has 2"):
        find(config, NEWEST, 2)


def test_what_changed_is_told(write_config: Write, tmp_path: Path):
    make_run(tmp_path / "run", write_config(), 2)
    rewards = {"local": {"letters": {"python": "my_rewards.py:letters", "weight": 2.0}}}
    now = load(write_config(rewards=rewards, grpo={"max_steps": 9, "beta": 0.1}, run={"folder": "./run"}))
    point = find(now, NEWEST, 1)
    assert point is not None
    assert point.changes == (
        "grpo.beta: was not set, is now 0.1",
        "grpo.max_steps: was 2, is now 9",
        "rewards.local.letters.weight: was 1.0, is now 2.0",
    )


def test_what_cannot_be_resumed_is_refused_line_by_line(write_config: Write, tmp_path: Path):
    make_run(tmp_path / "run", write_config(), 2)
    now = load(
        write_config(
            model={"lora": {"r": 4}},
            data={"prompts": ["other"], "conversational": False},
            grpo={"num_generations": 4, "max_steps": 7},
            run={"seed": 8},
        )
    )
    with pytest.raises(ConfigError) as caught:
        find(now, NEWEST, 1)
    said = [problem.partition(":")[0] for problem in caught.value.problems]
    assert {"data.prompts", "grpo.num_generations", "model.lora.r", "run.seed"} <= set(said)
    assert "grpo.max_steps" not in said
    assert all("put it back, or start anew" in problem for problem in caught.value.problems)


def test_a_damaged_record_is_named(breakable: Make, tmp_path: Path):
    result, _ = run(breakable(grpo={**GRPO, "max_steps": 4}))
    result.folder.record.write_text("{")
    with pytest.raises(ConfigError, match=r"run\.json: cannot be read"):
        run(breakable(), resume=NEWEST)


def test_a_run_that_is_still_going_on_is_not_gone_on_with(breakable: Make, tmp_path: Path):
    result, _ = run(breakable(grpo={**GRPO, "max_steps": 4}))
    before = rows(result.folder.path)
    with result.folder.held(), pytest.raises(ConfigError, match="is still going on, in another process"):
        run(breakable(), resume=NEWEST)
    assert rows(result.folder.path) == before
    run(breakable(), resume=NEWEST)  # held no longer
    assert [row["step"] for row in rows(result.folder.path)][-1] == 9
