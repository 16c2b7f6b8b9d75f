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
from trainer import cli, preflight
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
        f"✓ model: {tiny_policy}, all weights",
    ]
    assert said[5].startswith("- grpo: not checked, TRL is not installed here")


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
    well = preflight.show([preflight.fine("good"), preflight.wrong("bad")], Console(file=out))
    assert not well
    assert out.getvalue() == "ok good\nFAILED bad\n"


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
