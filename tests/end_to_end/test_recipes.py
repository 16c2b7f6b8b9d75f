"""examples/recipes: each is what it says, value by value, and trains end to end, with a tiny Qwen3 in place of the large one."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml
from command_lines import PROGRAMS, complaint
from fake_ollama import FakeOllama
from rich.console import Console
from scripted_judges import grading
from server_process import REPOSITORY, ServerProcess
from tiny_qwen3 import save_tiny_qwen3

import reward_server.config
import trainer.config
from trainer import data, ranges
from trainer.arguments import grpo_arguments
from trainer.config import TrainConfig
from trainer.history import History
from trainer.train import train

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(240), pytest.mark.usefixtures("one_thread")]

RECIPES = REPOSITORY / "examples" / "recipes"
NAMES = ["qwen3_4b", "math", "remote_judge"]
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
STEPS = 2


def recipe(name: str) -> TrainConfig:
    return trainer.config.load(RECIPES / name / "train.yaml")


def served(name: str) -> dict[str, Any]:
    return yaml.safe_load((RECIPES / name / "server.yaml").read_text())


@pytest.fixture(scope="module")
def copies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with examples/ and, beside it, the keys that the recipe of two machines tells to make."""
    folder = tmp_path_factory.mktemp("copies")
    copytree(RECIPES, folder / "examples" / "recipes")
    copytree(REPOSITORY / "examples" / "rubrics", folder / "examples" / "rubrics")
    subprocess.run(
        [REPOSITORY / "deploy/make-keys.sh", folder / "deploy/keys", "gpu-box", "127.0.0.1"],
        check=True,
        capture_output=True,
    )
    save_tiny_qwen3(folder / "policy")
    return folder / "examples" / "recipes"


@pytest.mark.parametrize("name", NAMES)
def test_the_model_is_the_one_that_every_guide_starts_from(name: str):
    model = recipe(name).model
    assert model.name == "unsloth/Qwen3-4B-unsloth-bnb-4bit"
    assert (model.loader, model.load_in_4bit, model.load_in_8bit, model.precision) == ("auto", True, False, "auto")
    assert model.max_seq_length == {"math": 768}.get(name, 512)
    assert model.lora is not None
    assert (model.lora.r, model.lora.alpha, model.lora.dropout) == (16, 16, 0.0)
    assert model.lora.target_modules == PROJECTIONS


@pytest.mark.parametrize("name", ["qwen3_4b", "remote_judge"])
def test_the_training_has_the_values_of_the_guides(name: str):
    assert dict(recipe(name).grpo) == {
        "max_steps": 100,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 4,
        "num_generations": 4,
        "max_completion_length": 128,
        "learning_rate": 1e-5,
        "beta": 0.1,
        "optim": "adamw_8bit",
        "gradient_checkpointing": True,
        "chat_template_kwargs": {"enable_thinking": False},
    }


def test_the_recipe_for_maths_differs_where_it_says_so():
    usual, maths = dict(recipe("qwen3_4b").grpo), dict(recipe("math").grpo)
    differs = {"max_steps", "gradient_accumulation_steps", "num_generations", "max_completion_length", "beta"}
    assert {name for name in usual | maths if usual.get(name) != maths.get(name)} == differs
    assert recipe("math").data.hub_id == "openai/gsm8k"
    assert set(recipe("math").rewards.use) == {"correct", "shape"}


@pytest.mark.parametrize("name", NAMES)
def test_a_step_is_one_group_and_nothing_of_it_is_unusual(name: str):
    config = recipe(name)
    config = replace(config, grpo={**config.grpo, "optim": "adamw_torch"})  # adamw_8bit needs bitsandbytes
    arguments = grpo_arguments(config, Path("run"))
    assert arguments.generation_batch_size == arguments.num_generations
    assert arguments.chat_template_kwargs == {"enable_thinking": False}
    assert list(ranges.unusual(arguments, config)) == []
    assert ranges.uneven_batch(config, 1) is None
    if name != "math":
        longest = max(len(row["prompt"][0]["content"]) for row in data.prompt_rows(config))
        assert list(ranges.room_for_prompts(arguments, config, longest)) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_rewards_asked_for_are_served_from_0_to_1_and_their_weights_add_up(name: str, copies: Path):
    config = reward_server.config.load(copies / name / "server.yaml")
    use = recipe(name).rewards.use
    assert set(use) == set(config.rewards)
    assert sum(use.values()) == pytest.approx(1.2 if name == "math" else 1)
    kinds = {reward.kind for reward in config.rewards.values()}
    assert kinds == ({"math", "format"} if name == "math" else {"length", "format", "judge"})
    assert {reward.view.value for reward in config.rewards.values()} == {"answer"}


def test_the_right_answer_outweighs_the_right_shape():
    use = recipe("math").rewards.use
    assert use["correct"] > use["shape"] > 0


@pytest.mark.parametrize("name", NAMES)
def test_the_servers_configuration_passes_check_without_a_model(name: str, copies: Path):
    command = [sys.executable, "-m", "reward_server", "check", "--config", str(copies / name / "server.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing wrong" in done.stdout


def test_the_prompts_are_64_different_ones_and_say_how_long_an_answer_is_wanted():
    for name in ("qwen3_4b", "remote_judge"):
        prompts = [row["prompt"][0]["content"] for row in data.prompt_rows(recipe(name))]
        assert len(set(prompts)) == len(prompts) == 64
        wanted = served(name)["rewards"]["brevity"]["length"]["range"]
        assert all(f"of {wanted['low']} to {wanted['high']} words." in prompt for prompt in prompts)


def test_the_judge_on_another_machine_is_asked_with_a_token_and_over_tls(copies: Path):
    rewards = recipe("remote_judge").rewards
    assert (rewards.server, rewards.tls, rewards.token_env) == ("gpu-box:8470", True, None)
    config = trainer.config.load(copies / "remote_judge" / "train.yaml")
    for path in (rewards.token_file, rewards.ca_file):
        assert path is not None
        assert config.at(path).is_file(), "deploy/make-keys.sh makes it"
    assert served("remote_judge")["listen"] == "0.0.0.0:8470"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*/*.yaml")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_commands_in_the_comments_are_there_and_name_files_that_are(path: Path):
    commands = [
        line.split("#")[0].split() for line in re.findall(r"^#     (.+)$", path.read_text(), flags=re.MULTILINE)
    ]
    for words in commands:
        if words[0] in PROGRAMS:
            assert complaint(words) is None, words
        for word in words:
            if word.startswith("examples/"):
                assert (REPOSITORY / word).is_file(), word


MATHS = [
    {"question": f"What is {n} + {n + 1}?", "answer": f"{n} + {n + 1} = {2 * n + 1}\n#### {2 * n + 1}"}
    for n in range(6)
]


def made_small(name: str, copies: Path, target: str) -> Path:
    """Writes the recipe's train.yaml with a tiny Qwen3 by transformers, without quantisation; all else as it is."""
    settings = yaml.safe_load((copies / name / "train.yaml").read_text())
    settings["model"] |= {"name": str(copies.parents[1] / "policy"), "loader": "transformers", "load_in_4bit": False}
    settings["model"]["precision"] = "fp32"  # what a CPU is fast in
    settings["rewards"]["server"] = target
    settings["grpo"] |= {"max_steps": STEPS, "optim": "adamw_torch", "max_completion_length": 12, "use_cpu": True}
    settings["run"] = {"folder": str(copies / name / "run"), "samples_before_after": 0}
    if name == "math":
        (copies / name / "problems.jsonl").write_text("\n".join(map(json.dumps, MATHS)))
        del settings["data"]["hub_id"], settings["data"]["config"]
        settings["data"]["path"] = "problems.jsonl"
    path = copies / name / "small.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def with_judge_at(url: str, model: str, path: Path) -> Path:
    """Writes a server's configuration again, its Ollama somewhere else."""
    settings = yaml.safe_load(path.read_text())
    for engine in settings.get("engines", {}).values():
        engine["ollama"] |= {"url": url}
        assert engine["ollama"]["model"] == model
    small = path.with_name("small_server.yaml")
    small.write_text(yaml.safe_dump(settings))
    return small


@pytest.mark.parametrize("name", NAMES)
def test_it_trains_end_to_end(name: str, copies: Path):
    model = served(name).get("engines", {}).get("box", {}).get("ollama", {}).get("model", "qwen3:8b")
    with (
        FakeOllama(grading(lambda text: len(text) / 100), model=model) as ollama,
        ServerProcess(with_judge_at(ollama.url, model, copies / name / "server.yaml")) as server,
    ):
        path = made_small(name, copies, server.target)
        history: History = train(trainer.config.load(path), Console(file=StringIO())).history
        calls = server.events("call answered")
    use = recipe(name).rewards.use
    assert len(calls) >= STEPS
    for reward in use:
        assert history.last(f"rewards/{reward}/mean") is not None
        assert history.last(f"rewards/{reward}/missing") == 0
    assert history.last("reward") is not None
    assert history.last("kl") is not None, "beta is not 0"
    assert bool(ollama.questions) == ("relevance" in use)
