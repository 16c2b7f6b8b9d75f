"""`reward-server judge audit`: a configured reward measured from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Commands, Ended

from reward_server.audit.probes import own_probes
from reward_server.cli import auditing

CONFIG = """
rewards:
  brevity: {length: {unit: chars, target: 1, width: 400}}
  needy: {python: "mine.py:needy"}
  odd: {python: "mine.py:odd"}
"""
MINE = """
def needy(completions, solution, **columns):
    return [1.0 if known in text else 0.0 for text, known in zip(completions, solution)]


def odd(completions, tests):
    return [0.0 for _ in completions]
"""

Audit = Callable[..., Ended]


@pytest.fixture
def judge_audit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Audit:
    monkeypatch.chdir(tmp_path)
    Path("server.yaml").write_text(CONFIG)
    Path("mine.py").write_text(MINE)
    run = Commands(monkeypatch, capsys)
    return lambda *arguments: run("judge", "audit", *arguments)


def report() -> dict[str, object]:
    found: dict[str, object] = json.loads(Path("audit/report.json").read_text())
    return found


def test_a_rule_is_audited_and_the_truth_is_told_of_it(judge_audit: Audit) -> None:
    ended = judge_audit("--reward", "brevity")
    assert ended.status == 1, ended.err
    assert "This is not a judge" in ended.out
    assert "brevity for quality" in ended.out
    assert ended.out.splitlines()[-1] == "Do not train on it."
    assert "the better completion is preferred" in ended.out
    assert "audit/report.html" in ended.err
    assert report()["verdict"] == "bad"
    assert "<svg" in Path("audit/report.html").read_text()


def test_a_reference_reaches_a_function_under_its_own_name(judge_audit: Audit) -> None:
    ended = judge_audit("--reward", "needy", "--out", "audit")
    found = report()
    assert found["left_out"] == {"pairs": 35, "groups": 4}
    assert "probes left out" in ended.out
    assert found["missing"] == {}


def test_a_column_that_is_not_known_must_be_named(judge_audit: Audit) -> None:
    ended = judge_audit("--reward", "odd")
    assert ended.status == 1
    assert "--column tests=" in ended.err
    assert judge_audit("--reward", "odd", "--column", "tests=reference").status == 1
    assert report()["is_judge"] is False


def test_fewer_probes_of_some_sets_and_ones_own_pairs(judge_audit: Audit) -> None:
    pairs = [{"prompt": "p", "chosen": f"a{n}", "rejected": f"longer than a{n}", "topic": str(n)} for n in range(20)]
    Path("pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
    ended = judge_audit(
        "--reward", "brevity", "--data", "pairs.jsonl", "--probes", "pairs", "--probes", "keys", "--limit", "10"
    )
    found = report()
    assert found["probes"] == {"pairs": 10, "keys": 10}
    assert list(found["accuracy_by_topic"]) == [str(n) for n in range(0, 20, 2)]  # type: ignore[call-overload]
    assert found["pairs_from"] == "pairs.jsonl"
    assert "This judge tells good from bad" in ended.out


def test_ones_own_pairs_are_not_read_where_no_pairs_are_asked_for(judge_audit: Audit) -> None:
    ended = judge_audit("--reward", "brevity", "--data", "none.jsonl", "--probes", "keys")
    assert ended.status == 1
    assert "--data: holds pairs, and --probes leaves them out" in ended.err


def test_the_same_probes_give_the_same_report(judge_audit: Audit) -> None:
    judge_audit("--reward", "brevity", "--out", "one", "--probes", "groups")
    judge_audit("--reward", "brevity", "--out", "two", "--probes", "groups")
    one, two = (json.loads(Path(folder, "report.json").read_text()) for folder in ("one", "two"))
    for found in (one, two):
        del found["made_at"], found["measures"]["wall_ms"]
    assert one == two
    assert one["probes"] == {"groups": len(own_probes()["groups"])}


def test_a_slow_judge_is_told_to_be_one_after_the_first_verdicts(
    judge_audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auditing, "WORTH_SAYING_S", 0.0)
    ended = judge_audit("--reward", "brevity", "--probes", "pairs")
    assert "260 verdicts; the first 16 took" in ended.err
    assert "--limit takes fewer probes" in ended.err
    assert "the rest may take" not in judge_audit("--reward", "brevity", "--probes", "pairs", "--limit", "3").err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--reward", "brevty"), "did you mean 'brevity'?"),
        (("--reward", "brevity", "--probes", "jokes"), "one of pairs, keys, injections, groups"),
        (("--reward", "brevity", "--data", "none.jsonl"), "none.jsonl: can't be read"),
        (("--reward", "brevity", "--column", "reference"), "--column solution=reference"),
        (("--reward", "brevity", "--out", "server.yaml/x"), "can't be written"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(judge_audit: Audit, arguments: tuple[str, ...], words: str) -> None:
    ended = judge_audit(*arguments)
    assert ended.status == 1
    assert words in ended.err
