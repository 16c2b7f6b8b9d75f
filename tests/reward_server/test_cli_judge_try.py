"""`reward-server judge try`: what it shows of one sample's way to its verdict."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import Commands, Ended
from scripted_engine import ScriptedEngine, labels, said, shown, yes_no

from reward_server.cli import trying
from reward_server.engines.base import Question
from reward_server.errors import HostFailed

CONFIG = """
engines:
  box: {ollama: {model: one}}
  other: {ollama: {model: two}}
judges:
  quality: {engine: box, rubric: It is helpful.}
  graded:
    engine: box
    reference_column: answer
    rubric:
      criteria:
        - {name: right, text: It is right.}
        - {name: short, text: It is short., scale: "0-9"}
  versus: {engine: box, method: pairwise, rubric: It is helpful.}
  spoken: {engine: box, method: reasoned, rubric: {criteria: [{name: good, text: It is good.}]}}
rewards:
  quality: {judge: quality}
  half: {sum: {parts: {quality: 0.5}}}
  many: {jury: {judges: [quality, spoken]}}
  brevity: {length: {unit: words, target: 2, width: 4}}
"""

Try = Callable[..., Ended]


def answer(question: Question) -> Any:
    text = shown(question)
    if "It breaks." in text:
        return HostFailed("host `box` broke")
    legal = question.labels or {}
    if "A" in legal:
        return labels({"A": 0.9, "B": 0.1})
    if "7" in legal:
        return labels({"7": 0.75, "8": 0.25})
    if question.schema is not None:
        return said('{"reason": "It \\u001b[2J says so.", "grades": {"good": "yes"}}')
    return yes_no(0.8, 0.9)


class Box(ScriptedEngine):
    kind = "ollama"
    started: list[str]

    def __init__(self, name: str, options: object, folder: Path) -> None:
        super().__init__(answer)
        self.started.append(name)


@pytest.fixture
def judge_try(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Try:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(Box, "started", [], raising=False)
    monkeypatch.setattr(trying, "ENGINES", {"ollama": Box})
    Path("server.yaml").write_text(CONFIG)
    run = Commands(monkeypatch, capsys)
    return lambda *arguments: run("judge", "try", *arguments)


SAMPLE = ("--prompt", "Name a colour.", "--completion", "Blue.")


def test_prompt_answer_labels_verdict_time_and_tokens_are_shown(judge_try: Try) -> None:
    ended = judge_try("--reward", "quality", *SAMPLE)
    assert ended.status == 0, ended.err
    for words in (
        "question 1 of 1, engine box, host scripted",
        "system\n",
        "user\n",
        "Name a colour.",
        "BEGIN COMPLETION",
        "It is helpful.",
        "answer\nyes\n",
        "yes ████████████████████████       0.8000",
        "no ██████                         0.2000",
        "legal labels: 0.9000 of the probability",
        "100 prompt tokens, 1 decoded",
        "score: 0.8 (from 0 to 1)",
        "status: scored",
        "20 ms at the host",
    ):
        assert words in ended.out, words


def test_only_the_engine_that_is_asked_is_started(judge_try: Try) -> None:
    judge_try("--judge", "quality", *SAMPLE)
    assert set(Box.started) == {"box"}


def test_a_beginning_that_two_prompts_share_is_shown_once(judge_try: Try) -> None:
    ended = judge_try("--judge", "graded", *SAMPLE, "--column", "answer=Any colour.")
    assert ended.out.count("Name a colour.") == 1
    assert ended.out.count("Any colour.") == 1
    assert "characters as in the question before]" in ended.out
    after = ended.out.partition("as in the question before]\n")[2]
    assert after.startswith(("user\nIs this true", "user\nHow well")), after
    assert "part right: 0.8" in ended.out
    assert "7 ██████" in ended.out


def test_json_has_all_of_it(judge_try: Try) -> None:
    ended = judge_try("--judge", "graded", *SAMPLE, "--column", "answer=Any.", "--json")
    found = json.loads(ended.out)
    assert found["verdict"]["status"] == "scored"
    assert found["verdict"]["parts"].keys() == {"right", "short"}
    first, second = found["exchanges"]
    assert first["labels"] == {"probabilities": pytest.approx({"yes": 0.8, "no": 0.2}), "mass": pytest.approx(0.9)}
    assert second["labels"]["probabilities"]["7"] == pytest.approx(0.75)
    assert [message["role"] for message in first["messages"]] == ["system", "user"]
    assert first["messages"][0] == second["messages"][0]
    assert (first["prompt_token_count"], first["decoded_token_count"], first["host_ms"]) == (100, 1, 20.0)
    assert found["version"]


def test_letters_are_labels_too_and_the_others_of_the_group_are_compared(judge_try: Try) -> None:
    ended = judge_try("--judge", "versus", *SAMPLE, "--completion", "A car.", "--json")
    found = json.loads(ended.out)
    assert len(found["exchanges"]) == 2
    assert all(each["labels"]["probabilities"]["A"] == pytest.approx(0.9) for each in found["exchanges"])
    assert "order_dependent" in found["verdict"]["flags"]
    assert len(found["others"]) == 1


def test_a_judge_that_compares_nothing_is_not_asked_about_the_others(judge_try: Try) -> None:
    ended = judge_try("--reward", "quality", *SAMPLE, "--completion", "A car.", "--json")
    found = json.loads(ended.out)
    assert found["others"] == []
    assert len(found["exchanges"]) == 1


def test_an_answer_in_words_is_shown_and_cannot_move_the_cursor(judge_try: Try) -> None:
    ended = judge_try("--judge", "spoken", *SAMPLE)
    assert '"grades"' in ended.out
    assert "\x1b" not in ended.out


def test_a_host_that_breaks_is_shown_each_time_it_was_tried(judge_try: Try) -> None:
    ended = judge_try("--reward", "quality", "--prompt", "Name a colour.", "--completion", "It breaks.", "--json")
    exchanges = json.loads(ended.out)["exchanges"]
    errors = [(each["attempt"], each["error"]) for each in exchanges if each["error"]]
    assert errors[:2] == [(0, "host `box` broke"), (1, "host `box` broke")]
    assert any("I don't know." in each["messages"][-1]["content"] for each in exchanges)


def test_a_completion_that_is_settled_without_asking_says_so(judge_try: Try) -> None:
    ended = judge_try("--reward", "quality", "--prompt", "Name a colour.", "--completion", " : ")
    assert "settled without asking a model" in ended.out
    assert "flags: prefiltered" in ended.out


def test_a_rule_can_be_tried_too_and_a_recipe_around_a_judge(judge_try: Try) -> None:
    assert "settled without asking a model" in judge_try("--reward", "brevity", *SAMPLE).out
    assert "score: 0.4" in judge_try("--reward", "half", *SAMPLE).out


def test_every_judge_of_a_jury_is_shown(judge_try: Try) -> None:
    found = json.loads(judge_try("--reward", "many", *SAMPLE, "--json").out)
    assert [bool(each["labels"]) for each in found["exchanges"]] in ([True, False], [False, True])
    assert found["verdict"]["parts"].keys() >= {"quality", "spoken"}


def test_texts_are_read_from_files(judge_try: Try) -> None:
    Path("long.txt").write_text("A text from a file.")
    ended = judge_try("--reward", "quality", "--prompt", "Say something.", "--completion", "@long.txt")
    assert "A text from a file." in ended.out


def test_a_line_of_a_file_is_tried_by_its_number(judge_try: Try) -> None:
    rows = [{"prompt": "One?", "completion": "Uno."}, {"prompt": "Two?", "completion": "Dos.", "answer": "Due."}]
    Path("rows.jsonl").write_text("\n\n".join(map(json.dumps, rows)))
    ended = judge_try("--judge", "graded", "--data", "rows.jsonl", "--line", "3")
    assert "Dos." in ended.out
    assert "Due." in ended.out
    ended = judge_try("--judge", "quality", "--data", "rows.jsonl", "--line", "2")
    assert (ended.status, ended.err.strip()) == (1, "rows.jsonl:2: there is no such line; the last one is 3")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (SAMPLE, "--reward: name a reward (quality, half, many, brevity), or with --judge a judge"),
        (("--reward", "qualty", *SAMPLE), "did you mean 'quality'?"),
        (("--judge", "grade", *SAMPLE), "did you mean 'graded'?"),
        (("--reward", "quality", "--prompt", "p"), "--completion: give the completion"),
        (("--judge", "graded", *SAMPLE), "needs the column 'answer'"),
        (("--judge", "graded", *SAMPLE, "--column", "answer"), "write NAME=TEXT"),
        (("--reward", "quality", "--completion", "@none.txt"), "none.txt can't be read"),
        (("--reward", "quality", "--data", "x.jsonl", "--completion", "c"), "leave out the others"),
    ],
)
def test_what_is_wrong_is_said_with_its_remedy(judge_try: Try, arguments: tuple[str, ...], words: str) -> None:
    ended = judge_try(*arguments)
    assert ended.status == 1
    assert words in ended.err
