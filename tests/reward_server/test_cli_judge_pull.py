"""`reward-server judge pull`: which models it fetches, and what it says when it can't."""

from pathlib import Path
from typing import ClassVar

import pytest
from commands import Commands
from fake_ollama import FakeOllama

from reward_server.cli import pulling
from reward_server.engines.base import PullProgress
from reward_server.errors import HostUnreachable
from reward_server.registry import ENGINES

CONFIG = """
engines:
  box: {ollama: {model: one}}
  other: {ollama: {model: two}}
  spare: {ollama: {model: three}}
  any: {openai: {url: "http://127.0.0.1:9", model: four}}
judges:
  first: {engine: box, rubric: x}
  again: {engine: box, rubric: y}
  second: {engine: other, rubric: z}
  elsewhere: {engine: any, rubric: z}
rewards: {r: {judge: first}}
"""


class PullingEngine:
    pulled: ClassVar[list[str]] = []

    def __init__(self, name, options, folder):
        self._name = name
        self._model = options.model

    async def pull(self):
        yield PullProgress("pulling manifest")
        if self._model == "two":
            raise HostUnreachable(f"engine `{self._name}`: no connection. Start Ollama there")
        for done in (0, 5, 10):
            yield PullProgress("pulling 8eeb52dfb3bb", done, 10)
        self.pulled.append(self._model)
        yield PullProgress("success")


@pytest.fixture
def judge_pull(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(PullingEngine, "pulled", [])
    monkeypatch.setattr(pulling, "ENGINES", {"ollama": PullingEngine, "openai": ENGINES["openai"]})
    Path("server.yaml").write_text(CONFIG)
    run = Commands(monkeypatch, capsys)
    return lambda *arguments: run("judge", "pull", *arguments)


def test_the_engines_of_all_judges_are_fetched_once_each_and_one_failure_does_not_stop_the_rest(judge_pull):
    ended = judge_pull()
    assert ended.status == 1
    assert PullingEngine.pulled == ["one"]
    assert ended.out.splitlines() == [
        "engines.box: the model is there",
        "engines.any: nothing to fetch for an engine of kind openai",
    ]
    assert "server.yaml:4: engines.other: engine `other`: no connection. Start Ollama there" in ended.err


def test_only_the_named_judges_model_is_fetched(judge_pull):
    ended = judge_pull("--judge", "again")
    assert (ended.status, ended.out) == (0, "engines.box: the model is there\n")
    assert PullingEngine.pulled == ["one"]


def test_without_a_terminal_each_part_is_one_line(judge_pull):
    assert judge_pull("--judge", "first").err.splitlines() == [
        "engines.box: pulling manifest",
        "engines.box: pulling 8eeb52dfb3bb",
        "engines.box: success",
    ]


def test_each_of_several_hosts_is_named(judge_pull, monkeypatch):
    monkeypatch.setattr(pulling, "ENGINES", ENGINES)
    with FakeOllama(model="one", present=False) as first, FakeOllama(model="one", present=False) as second:
        Path("server.yaml").write_text(
            CONFIG.replace("{model: one}", f"{{model: one, url: [{first.url}, {second.url}]}}")
        )
        ended = judge_pull("--judge", "first")
    assert (ended.status, ended.out) == (0, "engines.box: the model is there\n")
    lines = ended.err.splitlines()
    assert f"engines.box ({first.url}): pulling manifest" in lines
    assert f"engines.box ({second.url}): success" in lines


def test_an_unknown_judge_is_named_beside_the_known(judge_pull):
    assert judge_pull("--judge", "third") == (
        1, "", "server.yaml: there is no judge 'third'; there is: first, again, second, elsewhere\n",
    )  # fmt: skip


def test_a_configuration_without_judges_says_so(judge_pull):
    Path("server.yaml").write_text("rewards: {r: {length: {target: 1, width: 1}}}")
    assert judge_pull() == (1, "", "server.yaml: there is no judge in it: add one under 'judges'\n")


def test_the_built_in_ollama_engine_can_pull_and_says_when_its_host_is_away(judge_pull, monkeypatch):
    monkeypatch.setattr(pulling, "ENGINES", ENGINES)
    Path("server.yaml").write_text(CONFIG.replace("{model: one}", '{model: one, url: "http://127.0.0.1:9"}'))
    ended = judge_pull("--judge", "first")
    assert (ended.status, ended.out) == (1, "")
    assert "server.yaml:3: engines.box: engine `box` (http://127.0.0.1:9): no connection" in ended.err
    assert "Traceback" not in ended.err
