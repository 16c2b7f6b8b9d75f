"""What is taken for a judge's verdict, and what is not: any text gives a score in range or a `BadAnswer`."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.errors import BadAnswer
from reward_server.judge import verdicts
from reward_server.judge.verdicts import Opinion, ScoreRange

WHOLE = ScoreRange(0, 9)
REAL = ScoreRange(-1.0, 1.0)

jsonish = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["reason", "score"]) | st.text(), inner),
)
verdictish = st.fixed_dictionaries({}, optional={"reason": jsonish, "score": jsonish, "more": jsonish})


@given(st.text() | jsonish.map(json.dumps) | verdictish.map(json.dumps), st.sampled_from([WHOLE, REAL]))
def test_any_text_is_a_score_in_range_or_no_verdict(text: str, scores: ScoreRange) -> None:
    with suppress(BadAnswer):
        assert scores.low <= verdicts.read(text, scores).score <= scores.high


@given(st.text(), st.integers(0, 9), st.sampled_from([None, 2]))
def test_a_verdict_is_read_as_it_was_meant(reason: str, score: int, indent: int | None) -> None:
    text = json.dumps({"reason": reason, "score": score}, indent=indent)
    assert verdicts.read(text, WHOLE) == Opinion(reason, score)
    assert verdicts.read(f"```json\n{text}\n```", WHOLE) == Opinion(reason, score)


def test_the_form_of_the_recording_is_read() -> None:
    text = '{\n  "reason": "Paris is the capital of France.",\n  "score": 1\n}'
    assert verdicts.read(text, WHOLE) == Opinion("Paris is the capital of France.", 1.0)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not the JSON asked for"),
        ("9", "not an object of reason and score"),
        ('{"reason": "good", "score"', "not the JSON asked for"),
        ('{"score": 9}', "not an object of reason and score"),
        ('{"reason": "x", "score": 9, "bonus": 1}', "not an object of reason and score"),
        ('{"reason": "x", "score": 1, "score": 9}', "a key stands there twice"),
        ('{"reason": "x", "score": 10}', "the score is not a whole number from 0 to 9"),
        ('{"reason": "x", "score": -1}', "the score is not a whole number"),
        ('{"reason": "x", "score": 4.5}', "the score is not a whole number"),
        ('{"reason": "x", "score": "9"}', "the score is not a whole number"),
        ('{"reason": "x", "score": true}', "the score is not a whole number"),
        ('{"reason": "x", "score": null}', "the score is not a whole number"),
        ('{"reason": "x", "score": NaN}', "NaN is not a number of JSON"),
        ('{"reason": "x", "score": Infinity}', "Infinity is not a number of JSON"),
        ('{"reason": "x", "score": 1e999}', "the score is not a whole number"),
        ('{"reason": 3, "score": 3}', "the reason is no text"),
        ('Here: {"reason": "x", "score": 9}', "not the JSON asked for"),
        ('{"reason": "x", "score": 1} {"reason": "x", "score": 9}', "not the JSON asked for"),
        ("[" * 100_000, "not the JSON asked for"),
        ('{"reason": "x", "score": ' + "9" * 5000 + "}", "not the JSON asked for"),
    ],
)
def test_what_is_no_verdict_says_why(text: str, words: str) -> None:
    with pytest.raises(BadAnswer) as refused:
        verdicts.read(text, WHOLE)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 800


def test_a_range_of_whole_numbers_takes_one_written_with_a_point() -> None:
    assert verdicts.read('{"reason": "", "score": 7.0}', WHOLE).score == 7.0


def test_a_range_with_points_takes_any_number() -> None:
    assert verdicts.read('{"reason": "", "score": -0.25}', REAL).score == -0.25
    assert verdicts.schema(REAL, 80)["properties"]["score"]["type"] == "number"
    assert verdicts.schema(WHOLE, 80)["properties"]["score"]["type"] == "integer"


@given(st.integers(32, 4096))
def test_a_reason_leaves_room_for_the_score(max_answer_tokens: int) -> None:
    chars = verdicts.reason_chars(max_answer_tokens)
    english_tokens = chars / 3.5
    assert 0 < english_tokens < max_answer_tokens
