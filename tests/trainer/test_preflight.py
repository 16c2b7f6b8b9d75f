"""Reads the lines that a preflight prints."""

import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import grpc
import pytest
from fake_reward_server import FakeServer
from rich.console import Console
from typer.testing import CliRunner

from protos.reward.v1 import reward_pb2 as pb
from trainer import cli, marks, preflight
from trainer.config import TrainConfig, load

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def without_trl(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leaves TRL out, which takes seconds to import."""
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None)


def lines(config: TrainConfig) -> list[str]:
    return [f"{check.mark.value} {check.text}" for check in preflight.checks(config)]


def rewards(server: FakeServer, **settings: Any) -> dict[str, Any]:
    return {"server": server.target, "use": {"a": 1.0}, **settings}


def test_all_is_well(small_run: Callable[..., TrainConfig], server: FakeServer, tiny_policy: Path):
    said = lines(small_run(rewards=rewards(server)))
    assert said[0] == "✓ data: data.prompts: 4 prompts; columns: prompt"
    assert said[1].startswith(f"✓ server {server.target}: release 0, ")
    assert said[1].endswith(" ms a round trip")
    assert said[2:5] == [
        "✓ token: none sent, and the server asks for none",
        "✓ reward a: length, weight 1, version a-1",
        f"✓ model: {tiny_policy}, all weights; loaded by transformers (unsloth is not installed)",
    ]
    assert said[5].startswith("- grpo: not checked, TRL is not installed here")
    assert len(said) == 6


def test_a_misspelt_reward_is_named_with_the_one_that_was_meant(write_config: Write, server: FakeServer):
    server.reward("brevity")
    said = lines(load(write_config(rewards=rewards(server, use={"brevty": 1.0}))))
    assert any(
        line.startswith("✗ reward brevty: ") and "it has: a, b, brevity; did you mean 'brevity'?" in line
        for line in said
    )


def test_a_reward_that_cannot_be_served_says_why(write_config: Write, server: FakeServer):
    server.reward("a", health=pb.HEALTH_NOT_SERVING, health_reason="no model qwen3:8b: reward-server judge pull")
    said = lines(load(write_config(rewards=rewards(server))))
    assert "✗ reward a: cannot be served now: no model qwen3:8b: reward-server judge pull" in said


def test_a_column_that_the_data_lacks_is_named_with_the_way_to_rename_one(write_config: Write, server: FakeServer):
    server.reward("a", required_columns=["answer"])
    said = lines(load(write_config(rewards=rewards(server))))
    assert any(
        line.startswith("✗ reward a: needs the column 'answer'; data.prompts has: prompt.")
        and line.endswith("data.columns: {answer: THE_COLUMN}")
        for line in said
    )


def test_a_column_that_is_there_is_fine(write_config: Write, server: FakeServer, tmp_path: Path):
    server.reward("a", required_columns=["answer"])
    (tmp_path / "p.jsonl").write_text('{"prompt": "x", "solution": "y"}\n')
    data = {"path": "p.jsonl", "columns": {"answer": "solution"}}
    assert "✓ reward a: length, reads answer, weight 1, version a-1" in lines(
        load(write_config(data=data, rewards=rewards(server)))
    )


def test_a_server_that_is_away_is_told_at_once(write_config: Write, server: FakeServer):
    server.stop()
    said = lines(load(write_config(rewards=rewards(server, on_outage="wait"))))
    assert any(line.startswith(f"✗ server {server.target}: ") and "reward-server serve" in line for line in said)


class Refusing(FakeServer):
    def ListRewards(self, request: Any, context: grpc.ServicerContext) -> pb.ListRewardsResponse:  # noqa: N802  # the contract's name
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "the token is wrong")


def test_a_token_that_is_refused_is_told(write_config: Write, tmp_path: Path):
    server = Refusing().start()
    (tmp_path / "token.txt").write_text("secret\n")
    said = lines(load(write_config(rewards=rewards(server, token_file="token.txt"))))
    server.stop()
    (line,) = [line for line in said if line.startswith("✗ token: ")]
    assert "secret" not in line
    assert "rewards.token_file" in line


def test_a_token_variable_that_is_not_set_is_named(write_config: Write, server: FakeServer, monkeypatch):
    monkeypatch.delenv("NO_SUCH_TOKEN", raising=False)
    said = lines(load(write_config(rewards=rewards(server, token_env="NO_SUCH_TOKEN"))))
    assert any("the environment variable NO_SUCH_TOKEN is not set" in line for line in said)


def test_the_token_of_a_variable_is_sent(write_config: Write, server: FakeServer, monkeypatch):
    monkeypatch.setenv("A_TOKEN", "secret")
    said = lines(load(write_config(rewards=rewards(server, token_env="A_TOKEN"))))
    assert "✓ token: accepted" in said
    assert not any("secret" in line for line in said)


def test_local_functions_are_loaded_and_their_columns_looked_for(write_config: Write, tmp_path: Path):
    (tmp_path / "r.py").write_text("def f(completions, level): return []\n")
    local = {
        "letters": {"python": "my_rewards.py:letters"},
        "f": {"python": "r.py:f"},
        "g": {"python": "r.py:g"},
    }
    said = lines(load(write_config(rewards={"local": local})))
    assert "✓ local reward letters: my_rewards.py:letters, weight 1" in said
    assert any(line.startswith("✗ local reward f: needs the column 'level'") for line in said)
    assert "✗ local reward g: r.py:g: r.py has no function 'g'; its functions: f" in said


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        ({"data": {"path": "none.jsonl"}}, "none.jsonl: there is no such file (data.path)"),
        ({"model": {"name": "./nowhere"}}, "✗ model.name: there is no folder"),
        ({"model": {"chat_template": "none.jinja"}}, "✗ model.chat_template: there is no file"),
    ],
)
def test_files_that_are_not_there_are_named(write_config: Write, sections, line):
    assert any(line in said for said in lines(load(write_config(**sections))))


def test_the_command_prints_every_line_and_fails_if_one_is_wrong(
    write_config: Write, server: FakeServer, tiny_policy: Path
):
    path = write_config(rewards=rewards(server, use={"nope": 1}), model={"name": str(tiny_policy)})
    done = CliRunner().invoke(cli.app, ["preflight", "--config", str(path)])
    assert done.exit_code == 1
    assert "reward nope" in done.output
    assert "4 prompts" in done.output
    path = write_config(rewards=rewards(server), model={"name": str(tiny_policy)})
    assert CliRunner().invoke(cli.app, ["preflight", "--config", str(path)]).exit_code == 0


def test_the_command_line_may_name_another_server(write_config: Write, server: FakeServer, tiny_policy: Path):
    path = write_config(rewards={**rewards(server), "server": "127.0.0.1:1"}, model={"name": str(tiny_policy)})
    done = CliRunner().invoke(cli.app, ["preflight", "--config", str(path), "--server", server.target])
    assert done.exit_code == 0, done.output


def test_a_wrong_configuration_is_told_in_words(tmp_path: Path):
    (tmp_path / "t.yaml").write_text("model: {name: m}\n")
    done = CliRunner().invoke(cli.app, ["preflight", "--config", str(tmp_path / "t.yaml")])
    assert done.exit_code == 2
    assert "rewards: is missing" in done.output
    assert "Traceback" not in done.output


def test_signs_are_plain_where_the_terminal_knows_only_ascii():
    class Ascii(StringIO):
        encoding = "ascii"

    out = Ascii()
    checks = [marks.fine("good"), marks.unusual("odd"), marks.unknown("dark"), marks.wrong("bad")]
    assert not marks.show(checks, Console(file=out))
    assert out.getvalue() == "ok good\nWARNING odd\n- dark\nFAILED bad\n"


def test_warnings_are_no_fault():
    out = StringIO()
    assert marks.show([marks.fine("good"), marks.unusual("odd")], Console(file=out))


def test_a_reward_that_dwarfs_others_and_a_judge_with_little_time_are_warnings(
    write_config: Write, server: FakeServer, tiny_policy: Path
):
    server.reward("a", min_score=0, max_score=100, cost_class=pb.COST_CLASS_JUDGE)
    path = write_config(rewards=rewards(server, deadline_s=5), model={"name": str(tiny_policy)})
    warned = [line for line in lines(load(path)) if line.startswith("!")]
    assert [line.partition(":")[0] for line in warned] == ["! reward a", "! rewards.deadline_s"]
    done = CliRunner().invoke(cli.app, ["preflight", "--config", str(path)])
    assert done.exit_code == 0, done.output
    assert "Try a weight of 0.01" in done.output


@pytest.fixture
def with_trl(without_trl: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Puts TRL in again, for the checks that are TRL's."""
    monkeypatch.undo()


USUAL = {"max_completion_length": 64, "num_generations": 2, "beta": 0.04, "learning_rate": 1e-5, "use_cpu": True}


def of_grpo(config: TrainConfig) -> list[str]:
    return [line for line in lines(config) if line.startswith(("! ", "✗ ")) or " grpo: " in line]


@pytest.mark.usefixtures("with_trl")
@pytest.mark.parametrize(
    ("share", "line"),
    [
        (0.1, "✗ data: data.eval_share: 0.1 of 4 prompts holds out 0; some must be on both sides"),
        (0.75, "✗ grpo: a batch takes 2 prompts of 2 completions each, and the data set has 1"),
    ],
)
def test_prompts_that_are_held_out_are_counted(small_run: Callable[..., TrainConfig], share: float, line: str):
    data = {"prompts": ["one", "two", "three", "four"], "conversational": False, "eval_share": share}
    assert any(found.startswith(line) for found in lines(small_run(data=data)))


@pytest.mark.usefixtures("with_trl")
def test_a_usual_run_is_one_line(small_run: Callable[..., TrainConfig]):
    assert of_grpo(small_run(grpo=USUAL)) == ["✓ grpo: 2 steps of 2 prompts x 2 completions on cpu, fp32"]


@pytest.mark.usefixtures("with_trl")
def test_without_beta_it_is_said_that_no_kl_is_measured(small_run: Callable[..., TrainConfig]):
    (line,) = of_grpo(small_run(grpo={**USUAL, "beta": 0.0}))
    assert line.endswith("on cpu, fp32; beta 0: TRL measures no KL")


@pytest.mark.usefixtures("with_trl")
def test_each_unusual_setting_is_a_warning(small_run: Callable[..., TrainConfig]):
    grpo = {**USUAL, "beta": 0.001, "learning_rate": 1.0, "max_completion_length": 8}
    data = {"prompts": ["word " * 200] * 4, "conversational": False}
    found = of_grpo(small_run(grpo=grpo, data=data, model={"max_seq_length": 128}))
    assert found[0].startswith("✓ grpo: ")
    assert [line.split(":")[0] for line in found[1:]] == [
        "! grpo.beta",
        "! grpo.max_completion_length",
        "! grpo.learning_rate",
        "! model.max_seq_length",
    ]


@pytest.mark.usefixtures("with_trl")
def test_a_batch_of_broken_groups_is_wrong_and_told_with_two_ways_out(small_run: Callable[..., TrainConfig]):
    (line,) = of_grpo(small_run(grpo={**USUAL, "per_device_train_batch_size": 1, "num_generations": 4}))
    assert line.startswith("✗ grpo: a batch is 1 x 1 = 1 completions, ")
    assert line.endswith("Try grpo.gradient_accumulation_steps: 4, or grpo.per_device_train_batch_size: 4")


def test_help_and_preflight_need_no_torch(write_config: Write, server: FakeServer, tiny_policy: Path):
    import subprocess

    path = write_config(rewards=rewards(server), model={"name": str(tiny_policy)})
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'trl', 'peft', 'datasets', 'accelerate', 'matplotlib'):\n"
        "    sys.modules[name] = None\n"
        "import importlib.util\n"
        "found = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'trl' else found(name, *rest)\n"
        "from trainer.cli import main\n"
        "main()\n"
    )
    for arguments in (["--help"], ["preflight", "--config", str(path)]):
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("with_trl")
def test_where_unsloth_would_raise_the_batch_by_itself_it_is_a_warning(
    small_run: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
):
    from trainer import arguments

    whole = arguments.grpo_arguments(small_run(grpo={**USUAL, "num_generations": 4}), Path("run"))
    monkeypatch.setattr(preflight.models, "prepare", lambda config: preflight.models.ChosenLoader("unsloth", "a test"))
    monkeypatch.setattr(arguments, "grpo_arguments", lambda config, folder: whole)  # Unsloth's takes any batch
    found = of_grpo(small_run(grpo={**USUAL, "per_device_train_batch_size": 1, "num_generations": 4}))
    (line,) = [line for line in found if line.startswith("! grpo: a batch is 1 x 1 = 1 completions")]
    assert line.endswith("Unsloth takes a batch of 4 per device by itself, and memory for it")
