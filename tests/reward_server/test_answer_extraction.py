"""Where an answer stands: each place, what has precedence, and words that name no place."""

import pickle

import pytest
from hostile_texts import ANY_TEXT, BOMBS
from hypothesis import given
from pydantic import ValidationError

from reward_server.options import Options
from reward_server.scorers.answers.extraction import MAX_MATCHES, WINDOW_CHARS, Extraction, Found, How

PLACES = [
    *("auto", "whole", "boxed", "last_line", "last_number", "tag:answer", "after:####", "regex:[0-9]+", "regex:a[^b]*b|a"),
]  # fmt: skip


class Shaped(Options):
    answer: Extraction = Extraction()


def found(text, place="auto"):
    answer = Extraction(place).find(text)
    return None if answer is None else answer.text


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"\boxed{\boxed{3}}", "3"),
        (r"\boxed{ 4 } and \fbox{5}", "5"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed {6}", "6"),
        (r"{ \boxed{7}", "7"),
        (r"} \boxed{8} }", "8"),
        (r"\\boxed{9}", "9"),
        (r"\boxed{}", ""),
        (r"\boxed{{1}", None),
        (r"\boxed{", None),
        ("boxed{1}", None),
        ("", None),
    ],
)
def test_a_box_is_the_last_one_that_is_closed(text, answer):
    assert found(text, "boxed") == answer


@pytest.mark.parametrize(
    ("place", "text", "answer"),
    [
        ("whole", " 42\n", "42"),
        ("last_line", "a\nb \n\n", "b"),
        ("last_line", "\n", None),
        ("last_number", "7 apples and 1,234.5 pears", "1,234.5"),
        ("last_number", "from \u22125 on", "-5"),
        ("last_number", "none", None),
        ("tag:solution", "<solution>1</solution><solution> 2 </solution>", "2"),
        ("tag:solution", "<solution>1</solution><solution>2", "1"),
        ("tag:solution", "1</solution>", None),
        ("after:####", "x #### 1\n#### 2 \nbye", "2"),
        ("after:Result =", "Result =\n\n5", "5"),
        ("after:####", "####", None),
        ("regex:(?i)final: (\\w+)", "final: a, FINAL: b", "b"),
        ("regex:[0-9]+", "12 and 345", "345"),
        ("regex:x(y)?", "x", None),
        ("regex:[0-9]+", "none", None),
    ],
)
def test_an_answer_stands_where_the_option_says(place, text, answer):
    assert found(text, place) == answer


@pytest.mark.parametrize(
    ("text", "answer", "how"),
    [
        (r"#### 1 The answer is 2. \boxed{3}. <answer>4</answer>", "4", How.EXACTLY),
        (r"\boxed{3} #### 1 The answer is 2.", "3", How.EXACTLY),
        ("The answer is 2.\n#### 1", "1", How.BEGINS),
        ("The answer is 1. No, the answer is 2.", "2.", How.BEGINS),
        ("<answer>so \\boxed{3}</answer>", "3", How.EXACTLY),
        ("**Answer:** Paris", "Paris", How.BEGINS),
        ("**Answer: Paris**", "Paris", How.BEGINS),
        ("Final answer:\n\n**Paris**", "Paris", How.BEGINS),
        ("the correct option would be B", "B", How.BEGINS),
        ("答案是42", "42", How.BEGINS),
        ("an option is to wait", "an option is to wait", How.WITHIN),
        (" Paris ", "Paris", How.WITHIN),
        ("", "", How.WITHIN),
    ],
)
def test_auto_takes_the_plainest_mark(text, answer, how):
    assert Extraction().find(text) == Found(answer, how)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("He has 6 * 7 = 42 apples.\n#### 42", "42"),
        (r"so it is $\boxed{42}$.", "42"),
        ("The Answer Is Blowing in the Wind", "The Answer Is Blowing in the Wind"),
        (" Paris ", "Paris"),
    ],
)
def test_of_a_reference_auto_reads_solutions_and_leaves_titles_alone(text, answer):
    assert Extraction().find_in_reference(text).text == answer


def test_a_mark_before_the_window_is_not_seen():
    assert found(r"\boxed{1}" + "." * WINDOW_CHARS, "boxed") is None
    assert found("." * WINDOW_CHARS + r"\boxed{1}", "boxed") == "1"


def test_a_whole_text_longer_than_the_window_is_no_answer():
    assert found("a" * WINDOW_CHARS, "whole") == "a" * WINDOW_CHARS
    assert found("a" * (WINDOW_CHARS + 1), "whole") is None


def test_an_expression_with_too_many_matches_has_no_answer():
    assert found("1 " * MAX_MATCHES, "regex:[0-9]") == "1"
    assert found("1 " * (MAX_MATCHES + 1), "regex:[0-9]") is None


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("bomb", BOMBS)
def test_no_text_breaks_it(place, bomb):
    Extraction(place).find(BOMBS[bomb])


@given(ANY_TEXT)
def test_every_text_has_the_same_answer_twice_or_none(text):
    for place in PLACES:
        answer = Extraction(place).find(text)
        assert answer == Extraction(place).find(text)
        assert answer is None or isinstance(answer.text, str)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("boxes", "'boxes' is no place of an answer: write auto, whole, boxed"),
        ("tag:", "no place of an answer"),
        ("tag:<answer>", "tag:NAME (as in tag:answer)"),
        ("after:", "no place of an answer"),
        ("boxed:x", "no place of an answer"),
        ("regex:(a", "missing ): (a (RE2's syntax"),
        ("regex:(a)(b)", "has 2 groups"),
        ("", "no place of an answer"),
        (5, "valid string"),
    ],
)
def test_words_that_name_no_place_are_refused_with_what_would_be_right(value, told):
    with pytest.raises(ValidationError) as caught:
        Shaped(answer=value)
    assert told in str(caught.value)
    assert caught.value.error_count() == 1
    assert "instance of" not in str(caught.value)


def test_it_is_a_text_in_the_configuration_and_survives_the_way_to_a_worker():
    options = Shaped(answer="after:####")
    assert options.model_dump(mode="json") == {"answer": "after:####"}
    copy = pickle.loads(pickle.dumps(options))  # noqa: S301
    assert copy == options
    assert copy.answer.find("#### 1").text == "1"
    assert Shaped.model_validate(options.model_dump()) == options
