"""A judge's options: what is wrong in them is said with its key and its remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pydantic
import pytest
from scripted_engine import ScriptedEngine, yes_no
from small_judges import judge_with

from reward_server.config import load
from reward_server.errors import ConfigError
from reward_server.judge.options import JudgeOptions, rubric_of
from reward_server.judge.rubric import Rubric

RUBRIC_FILE = """
instructions: Grade it.
criteria:
  - {name: right, text: It is right., weight: 2}
  - {name: style, text: Style., scale: 0-9}
"""


def rubric(folder: Path = Path("/nowhere"), **options: Any) -> Rubric:
    return rubric_of("nice", JudgeOptions(engine="box", **options), folder)


def test_a_text_is_a_rubric_of_one_criterion() -> None:
    found = rubric(rubric="It is kind.\n")
    assert (found.instructions, len(found.criteria)) == ("It is kind.", 1)


def test_a_rubric_may_stand_in_the_configuration_in_full() -> None:
    assert rubric(rubric={"criteria": [{"name": "kind", "text": "It is kind."}]}).criteria[0].name == "kind"


@pytest.mark.parametrize(("name", "names"), [("r.yaml", ["right", "style"]), ("r.md", ["overall"])])
def test_a_file_is_a_rubric_or_a_text_by_its_name(name: str, names: list[str], tmp_path: Path) -> None:
    (tmp_path / name).write_text(RUBRIC_FILE)
    assert [criterion.name for criterion in rubric(tmp_path, rubric_file=name).criteria] == names


def test_equivalence_needs_no_rubric_but_a_reference() -> None:
    assert rubric(method="equivalence", reference_column="answer").criteria
    with pytest.raises(ConfigError, match=r"judges\.nice\.reference_column: the method equivalence needs a reference"):
        rubric(method="equivalence")


def test_a_rubric_that_needs_a_reference_needs_its_column() -> None:
    needing = {"needs_reference": True, "criteria": [{"name": "right", "text": "It is right."}]}
    with pytest.raises(ConfigError, match=r"judges\.nice\.reference_column: the rubric needs a reference"):
        rubric(rubric=needing)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "r.md: No such file or directory"),
        (b" \n", "r.md is empty: say what makes a completion good or bad"),
        (b"\xff\xfe", "r.md is not UTF-8"),
    ],
)
def test_a_rubric_file_that_can_not_be_used_says_why(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "r.md").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        rubric(tmp_path, rubric_file="r.md")
    assert str(refused.value).startswith("judges.nice.rubric_file: ")
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give either `rubric`"),
        ({"rubric": "x", "rubric_file": "x.md"}, "give either `rubric`"),
        ({"rubric": " "}, "the rubric is empty"),
        ({"rubric": "x", "score_range": [1, 0]}, "1 to 0 is no range"),
        ({"rubric": "x", "score_range": [0, float("inf")]}, "0 to inf is no range"),
        ({"rubric": "x", "method": "vibes"}, "there is no method 'vibes': it is one of criteria, rating"),
        ({"rubric": "x", "if_no_logprobs": "vibes"}, "there is no method 'vibes'"),
        ({"rubric": "x", "if_no_logprobs": "rating"}, "the method rating needs log-probabilities too"),
        ({"rubric": "x", "method": "reasoned", "if_no_logprobs": "listwise"}, "reasoned needs no log-probabilities"),
        ({"rubric": "x", "suspicious": "cap:2"}, "'cap:2' is neither flag nor a cap"),
        ({"rubric": "x", "method": "listwise", "subtract_baseline": True}, "listwise compares completions"),
        ({"rubric": "x", "engines": "box"}, "Extra inputs"),
    ],
)
def test_options_that_do_not_fit_say_what_would(options: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError) as refused:
        JudgeOptions(engine="box", **options)
    assert words in str(refused.value)


@pytest.mark.parametrize(("suspicious", "cap"), [("flag", None), ("cap:0", 0.0), ("cap:0.3", 0.3), ("cap:1", 1.0)])
def test_a_cap_is_a_grade(suspicious: str, cap: float | None) -> None:
    assert JudgeOptions(engine="box", rubric="x", suspicious=suspicious).cap == cap


def test_an_answer_too_short_for_its_grades_says_how_long_it_must_be() -> None:
    criteria = [{"name": f"criterion-{n}", "text": "Good."} for n in range(8)]
    with pytest.raises(ConfigError, match=r"judges\.relevance\.max_answer_tokens: 64 leave no room .* at least \d+"):
        judge_with(
            ScriptedEngine(lambda _: yes_no(1)), method="reasoned", max_answer_tokens=64, rubric={"criteria": criteria}
        )


def test_an_answer_as_long_as_the_context_is_refused() -> None:
    engine = ScriptedEngine(lambda _: yes_no(1), context_tokens=512)
    with pytest.raises(ConfigError, match=r"judges\.relevance\.max_answer_tokens: 600 leave no room for a prompt"):
        judge_with(engine, method="reasoned", max_answer_tokens=600)
    judge_with(engine, method="criteria", max_answer_tokens=600)  # its answers have one token


def test_a_broken_rubric_is_found_when_the_configuration_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("criteria: []")
    (tmp_path / "server.yaml").write_text(
        "rewards: {nice: {judge: nice}}\n"
        "engines: {box: {ollama: m}}\n"
        "judges:\n"
        "  nice: {engine: box, rubric_file: r.yaml}\n"
    )
    with pytest.raises(ConfigError) as refused:
        load(tmp_path / "server.yaml")
    assert "server.yaml:4: judges.nice.rubric_file: " in str(refused.value)
    assert "r.yaml:1: criteria" in str(refused.value)
