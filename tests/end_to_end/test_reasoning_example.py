"""examples/reasoning: its configurations load, and score its samples as its page says."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from server_process import REPOSITORY, ServerProcess

import reward_server.config
import trainer.config
from reward_server.domain import Sample
from reward_server.scorers.base import RuleContext
from reward_server.scorers.format import Format
from trainer.client import RewardClient

pytestmark = pytest.mark.end_to_end

EXAMPLE = REPOSITORY / "examples" / "reasoning"
PAGE = (EXAMPLE / "README.md").read_text()
TRAIN = trainer.config.load(EXAMPLE / "train.yaml")
JUDGED = {"reasoning", "reasoned", "overall"}
"""What differs where there is a judge."""


def rows_of(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLE / name).read_text().splitlines()]


def stated() -> list[dict[str, float]]:
    """The scores that the page gives, a row for each sample."""
    table = re.findall(r"^\|(.*)\|$", PAGE.partition("## Try it")[2].partition("\n## ")[0], flags=re.MULTILINE)
    head, _, *rows = [[cell.strip() for cell in line.split("|")] for line in table]
    return [dict(zip(head[2:], map(float, row[2:]), strict=True)) for row in rows]


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "reward_server", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def verdicts(config: str, samples: str) -> list[dict[str, Any]]:
    done = ran("score", "--config", str(EXAMPLE / config), "--data", str(EXAMPLE / samples), "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line)["verdicts"] for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return verdicts("server.yaml", "samples.jsonl")


def test_the_samples_get_the_scores_that_the_page_states(found: list[dict[str, Any]]) -> None:
    assert len(stated()) == len(rows_of("samples.jsonl")) >= 10
    for number, (row, expected) in enumerate(zip(found, stated(), strict=True), start=1):
        assert {name: row[name]["score"] for name in expected} == pytest.approx(expected), number


def test_only_the_completion_that_breaks_its_grader_gets_the_floor(found: list[dict[str, Any]]) -> None:
    assert [number for number, row in enumerate(found, start=1) if "floor" in row["overall"]["flags"]] == [9]


def test_no_tokens_are_counted_without_a_trainer(found: list[dict[str, Any]]) -> None:
    assert {row["overlong"]["status"] for row in found} == {"abstained"}


def test_a_wrong_answer_never_gets_what_a_right_one_does() -> None:
    """The bounds that the page gives, from the weights and ranges."""
    rewards = yaml.safe_load((EXAMPLE / "server.yaml").read_text())["rewards"]
    weights = rewards["overall"]["sum"]
    worst = -sum(rewards["penalties"]["sum"]["parts"].values()) * weights["penalties"]
    assert weights["shape"] == pytest.approx(0.2)
    assert weights["correct"] + worst == pytest.approx(0.3)


def test_a_trainer_that_counts_tokens_gets_the_punishment_of_length(tmp_path: Path) -> None:
    (tmp_path / "server.yaml").write_text((EXAMPLE / "server.yaml").read_text())
    rows = rows_of("samples.jsonl")[:3]
    limit = TRAIN.grpo["max_completion_length"]
    with ServerProcess(tmp_path / "server.yaml") as server, RewardClient(server.target) as client:
        result = client.score(
            rewards=["overlong", "overall"],
            prompts=[row["prompt"] for row in rows],
            completions=[row["completion"] for row in rows],
            columns={"answer": [row["answer"] for row in rows]},
            completion_token_counts=[100, 896, limit],
        )
    assert result.rewards["overlong"].scores == [0, -0.5, -1]
    assert result.rewards["overall"].scores == pytest.approx([1.2, 0.2 - 0.25, -0.5])


@pytest.mark.parametrize("name", ["server.yaml", "with_judge.yaml", "code.yaml"])
def test_every_configuration_loads(name: str) -> None:
    assert "overall" in reward_server.config.load(EXAMPLE / name).rewards


def test_the_variant_with_a_judge_has_the_same_rules() -> None:
    plain, judged = (
        {
            name: {key: value for key, value in reward.items() if key != "description"}
            for name, reward in yaml.safe_load((EXAMPLE / file).read_text())["rewards"].items()
            if name not in JUDGED
        }
        for file in ("server.yaml", "with_judge.yaml")
    )
    assert plain == judged


@pytest.mark.parametrize("name", ["server.yaml", "with_judge.yaml", "code.yaml"])
def test_the_limit_of_length_is_the_one_that_is_trained_with(name: str) -> None:
    rewards = yaml.safe_load((EXAMPLE / name).read_text())["rewards"]
    assert rewards["overlong"]["overlong"]["max_length"] == TRAIN.grpo["max_completion_length"]


def test_the_training_asks_for_rewards_that_are_served() -> None:
    served = reward_server.config.load(EXAMPLE / "server.yaml").rewards
    assert set(TRAIN.rewards.use) <= set(served)


def test_the_script_on_the_page_is_python() -> None:
    (script,) = re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)
    assert any(isinstance(node, ast.ImportFrom) and node.module == "trl" for node in ast.walk(ast.parse(script)))


def test_the_shape_for_templates_that_open_the_thinking_block_takes_what_they_lead_to() -> None:
    (options,) = re.findall(r"`shape: \{format: (\{thinking: .*?\}\})\}`", PAGE)
    shape = Format(Format.Options.model_validate(yaml.safe_load(options)), RuleContext("shape", EXAMPLE))
    texts = ["48 + 24 = 72</think>\n<answer>72</answer>", "<think>72</think><answer>72</answer>", "72</think>72", "72"]
    assert [shape.judge_one(Sample(text)).score for text in texts] == [1, 1, 0, 0]


def test_programs_get_the_share_of_tests_that_they_pass() -> None:
    checked = ran("check", "--config", str(EXAMPLE / "code.yaml"))
    if checked.returncode and "sandbox" in (said := checked.stdout + checked.stderr):
        pytest.skip(f"programs cannot be run safely on this machine: {said[-300:]}")
    assert checked.returncode == 0, checked.stderr
    found = verdicts("code.yaml", "code_samples.jsonl")
    right, one_of_three, bare, endless, exits = (row["solved"]["score"] for row in found)
    assert (right, bare, endless, exits) == (1, 0, 0, 0)
    assert one_of_three == pytest.approx(1 / 3)
    assert [row["overall"]["score"] for row in found] == pytest.approx([1.2, 1 / 3 + 0.2, 0, 0.2, 0.2])
