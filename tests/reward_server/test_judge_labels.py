"""Grades from the probabilities of labels: any list of tokens gives probabilities that sum to one, or no answer."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import said

from reward_server.engines.base import Position
from reward_server.errors import BadAnswer
from reward_server.judge.labels import DIGITS, YES_NO, first_position, read_labels

TOKENS = st.sampled_from(["yes", " Yes", "YES", "no", "▁No", "Ġno", "The", "7", " 3", ""]) | st.text(max_size=3)
LISTS = st.dictionaries(TOKENS, st.floats(allow_nan=True, allow_infinity=True), max_size=20)


def position(**probabilities: float) -> Position:
    return Position("x", {token: math.log(p) for token, p in probabilities.items()})


@given(LISTS, st.sampled_from([YES_NO, DIGITS]), st.floats(0, 1))
def test_any_list_of_tokens_gives_probabilities_or_no_answer(logprobs, labels, min_mass):
    try:
        reading = read_labels(Position("x", logprobs), labels, min_mass)
    except BadAnswer:
        return
    assert reading.probabilities.keys() == labels.keys()
    assert all(0 <= probability <= 1 for probability in reading.probabilities.values())
    assert math.isclose(sum(reading.probabilities.values()), 1)
    assert min_mass <= reading.mass <= 1


def test_all_spellings_of_a_label_count():
    logprobs = {"yes": 0.1, " Yes": 0.2, "YES": 0.1, "▁yes": 0.1, "Ġyes": 0.1, "no": 0.2, "The": 0.2}
    reading = read_labels(Position("yes", {t: math.log(p) for t, p in logprobs.items()}), YES_NO, 0.1)
    assert reading.probabilities == pytest.approx({"yes": 0.75, "no": 0.25})
    assert reading.mass == pytest.approx(0.8)


def test_a_label_that_is_not_listed_has_no_probability():
    assert read_labels(position(yes=0.4), YES_NO, 0.1).probabilities == {"yes": 1.0, "no": 0.0}


def test_a_token_that_only_begins_like_a_label_is_none():
    with pytest.raises(BadAnswer):
        read_labels(position(yesterday=0.9, nothing=0.1), YES_NO, 0.0)


def test_too_little_mass_on_the_labels_is_no_answer_and_says_what_was_likely():
    why = r"only 5\.0% .* on yes or no \(min_label_mass asks for 10%\); the likeliest tokens are 'The', 'It', 'yes'$"
    with pytest.raises(BadAnswer, match=why):
        read_labels(Position("The", {"The": math.log(0.6), "It": math.log(0.35), "yes": math.log(0.05)}), YES_NO, 0.1)


def test_digits_are_named_as_a_range():
    with pytest.raises(BadAnswer, match="on 0 … 9"):
        read_labels(position(The=1.0), DIGITS, 0.1)


def test_an_answer_without_log_probabilities_is_none():
    with pytest.raises(BadAnswer, match="without log-probabilities: 'yes'"):
        first_position(said("yes"))
