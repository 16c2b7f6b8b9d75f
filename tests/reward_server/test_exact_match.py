"""Exact match: what is made equal, several references, references that are none."""

from pathlib import Path

import pytest
from hostile_texts import ANY_TEXT, BOMBS
from hypothesis import given
from pydantic import ValidationError

from reward_server.domain import Blame, Sample, Status
from reward_server.scorers.answers.exact import ExactMatch
from reward_server.scorers.base import RuleContext

ALL = ["nfkc", "lower", "punctuation", "articles", "whitespace"]


def rule(**options):
    return ExactMatch(ExactMatch.Options(**options), RuleContext("r", Path()))


def score(text, reference, **options):
    return rule(**options).judge_one(Sample(text, columns={"answer": reference})).score


@pytest.mark.parametrize(
    ("text", "reference", "normalize", "equal"),
    [
        ("The  Eiffel Tower!", "eiffel tower", ["lower", "punctuation", "articles", "whitespace"], True),
        ("Eiffel Tower", "eiffel tower", [], False),
        ("Eiffel Tower", "eiffel tower", ["lower"], True),
        ("U.S.", "US", ["punctuation"], True),
        ("U.S.", "US", ["lower", "articles", "whitespace"], False),
        ("the cat", "cat", ["articles", "whitespace"], True),
        ("theatre", "tre", ALL, False),
        ("a\n b", "a b", ["whitespace"], True),
        ("a\n b", "a b", [], False),
        ("\uff14\uff12", "42", ALL, True),
        ("\uff14\uff12", "42", [], False),
        ("Paris", "London", ALL, False),
        ("", "Paris", ALL, False),
        (" Paris\n", "Paris", [], True),
    ],
)
def test_what_does_not_matter_is_made_equal_first(text, reference, normalize, equal):
    assert score(text, reference, normalize=normalize) == float(equal)


def test_the_default_is_that_of_squad():
    assert score("It's the Tower, of course.", "its tower of course") == 1.0


def test_the_order_in_which_steps_are_written_does_not_matter():
    assert score("The Cat", "cat", normalize=["whitespace", "articles", "lower"]) == 1.0


@pytest.mark.parametrize(
    "reference", [["London", "Paris"], ("Paris",), {"text": ["Paris"], "answer_start": [3]}, ["", "Paris", None]]
)
def test_any_of_several_references_will_do(reference):
    assert score("Paris", reference) == 1.0
    assert score("Rome", reference) == 0.0


def test_a_reference_that_is_a_number_is_compared_as_it_is_written():
    assert score("42", 42) == 1.0
    assert score("42", 42.5) == 0.0


@pytest.mark.parametrize("reference", [None, "", " ", "the", [], [""], {}, True, "?!"])
@pytest.mark.parametrize("text", ["Paris", ""])
def test_a_reference_of_which_nothing_is_left_is_nobodys_fault(reference, text):
    verdict = rule().judge_one(Sample(text, columns={"answer": reference}))
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.REFERENCE)


def test_a_reference_is_read_from_the_column_that_is_named():
    named = rule(reference_column="gold")
    assert named.needs.required_columns == {"gold"}
    assert named.judge_one(Sample("x", columns={"gold": "x", "answer": "y"})).score == 1.0
    assert "'gold'" in named.judge_one(Sample("x", columns={"gold": ""})).status_reason


def test_where_the_answer_stands_can_be_said():
    assert score("thinking <answer>Paris</answer>", "Paris", answer="tag:answer") == 1.0
    assert score("Paris", "Paris", answer="tag:answer") == 0.0


def test_a_step_that_does_not_exist_is_refused():
    with pytest.raises(ValidationError, match="'nfkc', 'lower', 'punctuation'"):
        ExactMatch.Options(normalize=["stem"])


def test_the_library_of_expressions_is_part_of_its_identity_where_it_is_used():
    assert rule().identity() == {}
    assert set(rule(answer="regex:a+").identity()) == set(rule(reference="regex:a+").identity()) == {"google-re2"}


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_text_breaks_it(bomb):
    assert score(BOMBS[bomb], "Paris", normalize=ALL) == 0.0


@given(ANY_TEXT)
def test_every_text_is_right_or_wrong(text):
    assert score(text, "Paris", normalize=ALL) == score(text, "Paris", normalize=ALL) == 0.0
