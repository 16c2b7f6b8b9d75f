"""Reads the messages for a run's configuration that is wrong."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from server_process import REPOSITORY

from trainer.config import ConfigError, DataSettings, ModelSettings, RewardSettings, RunSettings, load

GOOD = """\
model: {name: some/model}
data: {path: prompts.jsonl}
rewards:
  server: 127.0.0.1:8470
  use: {brevity: 1.0, relevance: 0.5}
"""


def problems(tmp_path: Path, text: str) -> list[str]:
    path = tmp_path / "train.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load(path)
    return list(caught.value.problems)


def test_what_is_not_said_has_a_default(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(GOOD)
    config = load(path)
    assert config.model.lora is not None
    assert config.rewards.names == ["brevity", "relevance"]
    assert config.rewards.weights == [1.0, 0.5]
    assert config.rewards.on_outage == "wait"
    assert config.rewards.missing == "group_mean"
    assert config.run.seed == 7


def test_relative_paths_start_at_the_files_folder(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "train.yaml"
    path.write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    config = load(Path("train.yaml"))
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert config.at("prompts.jsonl") == tmp_path / "prompts.jsonl"


def test_local_rewards_come_after_those_of_the_server_with_their_own_weights(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text(GOOD + "  local: {mine: {python: 'r.py:f', weight: 0.25}}\n")
    config = load(path)
    assert config.rewards.names == ["brevity", "relevance", "mine"]
    assert config.rewards.weights == [1.0, 0.5, 0.25]


def test_the_command_line_takes_the_place_of_server_and_folder(tmp_path, monkeypatch):
    path = tmp_path / "train.yaml"
    path.write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    config = load(path).but(server="gpu:1", run_folder=Path("here"))
    assert config.rewards.server == "gpu:1"
    assert config.at(config.run.folder) == tmp_path / "here"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GOOD.replace("path: prompts.jsonl", ""), "train.yaml:2: data: needs exactly one of path, hub_id, prompts; has none"),
        (GOOD.replace("path: p", "hub_id: x/y, path: p"), "train.yaml:2: data: needs exactly one of path, hub_id, prompts; has path and hub_id"),
        (GOOD.replace("prompts.jsonl", "prompts.csv"), "train.yaml:2: data.path: prompts.csv should be a .jsonl or .parquet file"),
        (GOOD.replace("path: prompts.jsonl", "prompts: []"), "train.yaml:2: data.prompts: has no prompt in it"),
        (GOOD.replace("jsonl}", "jsonl, prompt_template: Answer}"), "train.yaml:2: data.prompt_template: has no place for the prompt: write {prompt} where it belongs"),
        (GOOD.replace("jsonl}", "jsonl, promt_column: q}"), "train.yaml:2: data.promt_column: unknown key; did you mean 'prompt_column'?"),
        (GOOD.replace("  server: 127.0.0.1:8470\n", ""), "train.yaml:3: rewards: use names rewards of a server, but server is missing: host:port, or local:server.yaml"),
        (GOOD.replace("  use: {brevity: 1.0, relevance: 0.5}\n", ""), "train.yaml:3: rewards: has no reward"),
        (GOOD + "  local: {brevity: {python: 'r.py:f'}}\n", "train.yaml:3: rewards: use and local both have a reward 'brevity'"),
        (GOOD + "  local: {mine: {python: r.py}}\n", "train.yaml:6: rewards.local.mine.python: 'r.py' should name a function: path/to/file.py:function or package.module:function"),
        (GOOD + "  token_file: a\n  token_env: B\n", "train.yaml:3: rewards: token_file and token_env exclude each other"),
        (GOOD + "  on_outage: never\n", "train.yaml:6: rewards.on_outage: must be 'wait', 'stop' or 'missing', found 'never'"),
        (GOOD + "  deadline_s: 0\n", "train.yaml:6: rewards.deadline_s: must be more than 0, found 0"),
        (GOOD.replace("1.0", ".nan"), "train.yaml:5: rewards.use.brevity: must be a finite number, found .nan"),
        (GOOD.replace("some/model", "m, adapter: a, lora: {r: 8}"), "train.yaml:1: model: adapter and lora exclude each other"),
        (GOOD.replace("some/model", "m, precision: int4"), "train.yaml:1: model.precision: must be 'auto', 'bf16', 'fp16' or 'fp32', found 'int4'"),
        (GOOD + "grpo:\n  reward_weights: [1, 2]\n", "train.yaml:7: grpo.reward_weights: does not stand here: weights stand in rewards.use and rewards.local"),
        (GOOD + "grpo: {output_dir: x}\n", "train.yaml:6: grpo.output_dir: does not stand here: the folder of the run is run.folder"),
        (GOOD + "grpo: {bf16: true}\n", "train.yaml:6: grpo.bf16: does not stand here: the number format is model.precision: bf16"),
        (GOOD + "training: {}\n", "train.yaml:6: training: unknown key"),
        (GOOD + "run: {seed: -1}\n", "train.yaml:6: run.seed: must be at least 0, found -1"),
        (GOOD + "  stop_when_missing: {share: 1}\n", "train.yaml:6: rewards.stop_when_missing.share: must be less than 1, found 1"),
        ("model: {name: m}\n", "train.yaml: rewards: is missing"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_remedy(tmp_path, text, expected):
    assert any(expected in problem for problem in problems(tmp_path, text)), problems(tmp_path, text)


def test_all_mistakes_come_at_once(tmp_path):
    text = GOOD.replace("some/model", "m, colour: red") + "  deadline_s: -1\ngrpo: {seed: 3, reward_funcs: [f]}\n"
    assert len(problems(tmp_path, text)) == 4


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such file"):
        load(tmp_path / "none.yaml")


def test_numbers_written_with_an_exponent_are_numbers(write_config: Callable[..., Path]):
    path = write_config()
    path.write_text(path.read_text().replace("max_steps: 2", "learning_rate: 5e-4"))
    assert load(path).grpo["learning_rate"] == 5e-4


@pytest.mark.parametrize(
    ("section", "model"),
    [("model", ModelSettings), ("data", DataSettings), ("rewards", RewardSettings), ("run", RunSettings)],
)
def test_the_document_names_every_key_and_no_other(section, model):
    document = (REPOSITORY / "docs" / "train-config.md").read_text()
    found = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", document, re.DOTALL | re.MULTILINE)
    assert found
    first_cells = re.findall(r"^\| (`.*?) \|", found[1], re.MULTILINE)
    assert {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)} == set(model.model_fields)
