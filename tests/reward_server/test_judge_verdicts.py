"""What is taken for a judge's grades in words, and what is not: any text gives grades in range or a `BadAnswer`."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.errors import BadAnswer
from reward_server.judge import verdicts
from reward_server.judge.rubric import Rubric
from reward_server.judge.verdicts import Grades

CRITERIA = Rubric.model_validate(
    {"criteria": [{"name": "right", "text": "It is right."}, {"name": "style", "text": "Style.", "scale": "0-9"}]}
).criteria

names = st.sampled_from(["reason", "grades", "right", "style"]) | st.text()
jsonish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["yes", "no"]),
    lambda inner: st.lists(inner) | st.dictionaries(names, inner),
)
gradesish = st.fixed_dictionaries({}, optional={"right": jsonish, "style": jsonish, "more": jsonish})
verdictish = st.fixed_dictionaries({}, optional={"reason": jsonish, "grades": jsonish | gradesish, "more": jsonish})


def answer(right: object = "yes", style: object = 7, reason: object = "fine") -> str:
    return json.dumps({"reason": reason, "grades": {"right": right, "style": style}})


@given(st.text() | jsonish.map(json.dumps) | verdictish.map(json.dumps))
def test_any_text_is_grades_in_range_or_none(text: str) -> None:
    with suppress(BadAnswer):
        grades = verdicts.read(text, CRITERIA).grades
        assert grades["right"] in ("yes", "no")
        assert grades["style"] in range(10)


@given(st.text(), st.sampled_from(["yes", "no"]), st.integers(0, 9), st.sampled_from([None, 2]))
def test_grades_are_read_as_they_were_meant(reason: str, right: str, style: int, indent: int | None) -> None:
    said = {"reason": reason, "grades": {"right": right, "style": style}}
    text = json.dumps(said, indent=indent)
    assert verdicts.read(text, CRITERIA) == Grades(reason, {"right": right, "style": style})
    assert verdicts.read(f"```json\n{text}\n```", CRITERIA).reason == reason


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not the JSON asked for"),
        ("9", "not an object of reason and grades"),
        ('{"reason": "good", "grades"', "not the JSON asked for"),
        ('{"grades": {"right": "yes", "style": 7}}', "not an object of reason and grades"),
        ('{"reason": "x", "grades": {"right": "yes", "style": 7}, "bonus": 1}', "not an object of reason and grades"),
        ('{"reason": "x", "grades": {"right": "no", "style": 7, "right": "yes"}}', "a key stands there twice"),
        ('{"reason": "x", "grades": {"right": "yes"}}', "the grades are not those of right, style"),
        ('{"reason": "x", "grades": [9, 9]}', "the grades are not those of right, style"),
        (answer(right="maybe"), "the grade of right is neither yes nor no"),
        (answer(right="Yes"), "the grade of right is neither yes nor no"),
        (answer(right=True), "the grade of right is neither yes nor no"),
        (answer(right=["yes"]), "the grade of right is neither yes nor no"),
        (answer(style=10), "the grade of style is not a whole number from 0 to 9"),
        (answer(style=-1), "the grade of style is not a whole number"),
        (answer(style=4.5), "the grade of style is not a whole number"),
        (answer(style="9"), "the grade of style is not a whole number"),
        (answer(style=True), "the grade of style is not a whole number"),
        (answer(style=None), "the grade of style is not a whole number"),
        (answer(style=float("nan")), "NaN is not a number of JSON"),
        (answer(style=float("inf")), "Infinity is not a number of JSON"),
        (answer(style=0).replace("0}", "1e999}"), "the grade of style is not a whole number"),
        (answer(reason=3), "the reason is no text"),
        (f"Here: {answer()}", "not the JSON asked for"),
        (f"{answer()} {answer()}", "not the JSON asked for"),
        ("[" * 100_000, "not the JSON asked for"),
        (answer(style=0).replace("0}", "9" * 5000 + "}"), "not the JSON asked for"),
    ],
)
def test_what_is_no_verdict_says_why(text: str, words: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        verdicts.read(text, CRITERIA)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 800


def test_a_whole_number_may_be_written_with_a_point() -> None:
    assert verdicts.read(answer(style=7.0), CRITERIA).grades["style"] == 7


@given(st.integers(64, 4096))
def test_a_reason_leaves_room_for_the_grades(max_answer_tokens: int) -> None:
    chars = verdicts.reason_chars(max_answer_tokens, CRITERIA)
    english_tokens = chars / 3.5
    assert 0 < english_tokens < max_answer_tokens - verdicts.FRAME_TOKENS


def test_the_schema_asks_for_the_reason_first_and_for_every_grade() -> None:
    properties = verdicts.schema(CRITERIA, 90)["properties"]
    assert list(properties) == ["reason", "grades"]
    assert properties["reason"]["maxLength"] == 90
    assert properties["grades"]["required"] == ["right", "style"]
    assert properties["grades"]["properties"]["right"]["enum"] == ["yes", "no"]
    assert properties["grades"]["properties"]["style"] == {"type": "integer", "minimum": 0, "maximum": 9}
