"""Keywords: shares, forbidden words, whole words, phrases, columns."""

from pathlib import Path

import pytest
from hostile_texts import ANY_TEXT, BOMBS
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_server.domain import Blame, Sample, Status
from reward_server.scorers.base import RuleContext
from reward_server.scorers.keywords import MAX_PLACES, READ_CHARS, Keywords
from reward_server.scorers.texts import visible


def rule(**options):
    return Keywords(Keywords.Options(**options), RuleContext("r", Path()))


def score(text, **options):
    return rule(**options).judge_one(Sample(text)).score


@pytest.mark.parametrize(
    ("text", "share"),
    [("red, green and blue", 1.0), ("Red\nGREEN", 2 / 3), ("blueish", 0.0), ("", 0.0), ("blue blue", 1 / 3)],
)
def test_the_share_of_required_words_counts(text, share):
    assert score(text, required=["red", "green", "blue"]) == pytest.approx(share)


@pytest.mark.parametrize(
    ("text", "required", "found"),
    [
        ("a party", "art", False),
        ("art", "art", True),
        ("(art)", "art", True),
        ("art's", "art", True),
        ("state-of-the-art", "art", True),
        ("art_1", "art", False),
        ("smart", "art", False),
        ("élan", "lan", False),
        ("Straße", "straße", True),
        ("ÉTÉ", "été", True),
        ("C++ is", "C++", True),
        ("C++11", "C++", True),
        ("use .NET.", ".net", True),
        ("thank\n  you", "thank you", True),
        ("thankyou", "thank you", False),
        ("thank your", "thank you", False),
        ("a.b", "a?b", False),
        ("我喜欢苹果和梨", "苹果", True),
        ("用AI技术", "AI", True),
        ("cafe\u0301", "cafe", False),
        ("arts art", "art", True),
        ("thanks thank your thank you", "thank you", True),
        ("カタカナ", "カタ", True),
        ("사과를", "사과", True),
    ],
)
def test_a_word_is_found_as_a_whole(text, required, found):
    assert score(text, required=[required]) == float(found)


def test_parts_of_words_count_where_that_is_asked_for():
    assert score("a party", required=["art"], whole_words=False) == 1.0


def test_case_counts_where_that_is_asked_for():
    assert score("NASA", required=["nasa"]) == 1.0
    assert score("NASA", required=["nasa"], case_sensitive=True) == 0.0


def test_a_forbidden_word_makes_it_zero():
    assert score("please, whatever", required=["please"], forbidden=["what", "whatever"]) == 0.0
    assert score("please", required=["please"], forbidden=["whatever"]) == 1.0
    assert score("fine", forbidden=["whatever"]) == 1.0


def test_a_penalty_is_taken_off_once_instead():
    options = {"required": ["please"], "forbidden": ["so", "what"], "penalty": 0.5}
    assert score("please, so what", **options) == 0.5
    assert score("so what", **options) == -0.5
    assert rule(**options).score_range == (-0.5, 1.0)
    assert rule(forbidden=["so"]).score_range == (0.0, 1.0)


@pytest.mark.parametrize("text", ["x word17 y", "C++", "苹果汁", "two words"])
def test_any_of_many_forbidden_ones_is_found(text):
    many = [*(f"word{number}" for number in range(300)), "C++", "苹果", "two words"]
    assert score(text, forbidden=many) == 0.0
    assert score("nothing of it", forbidden=many) == 1.0


def test_words_may_stand_in_columns_and_add_to_those_of_the_options():
    asked = rule(required=["red"], required_column="must", forbidden_column="must_not")
    assert asked.needs.required_columns == {"must", "must_not"}
    columns = {"must": ["green"], "must_not": "black"}
    assert asked.judge_one(Sample("red", columns=columns)).score == 0.5
    assert asked.judge_one(Sample("red green", columns=columns)).score == 1.0
    assert asked.judge_one(Sample("red green black", columns=columns)).score == 0.0
    assert asked.judge_one(Sample("red", columns={"must": [], "must_not": None})).score == 1.0


@pytest.mark.parametrize("value", [None, [], "", " ", 5, [5], ["a", ""], {"a": 1}, "x" * 201])
@pytest.mark.parametrize("text", ["a", ""])
def test_a_column_without_words_is_nobodys_fault(value, text):
    verdict = rule(required_column="must").judge_one(Sample(text, columns={"must": value}))
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.REFERENCE)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "give at least one of: required, forbidden"),
        ({"required": [""]}, "at least 1 character"),
        ({"required": [" "]}, "should match pattern"),
        ({"required": ["a"], "penalty": -1}, "greater than or equal to 0"),
        ({"required": ["x" * 201]}, "at most 200"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_would_be_right(options, told):
    with pytest.raises(ValidationError) as caught:
        Keywords.Options(**options)
    assert told in str(caught.value)


def test_behind_very_many_parts_of_words_a_word_is_no_longer_looked_for():
    assert score("arts " * (MAX_PLACES - 1) + "art", required=["art"]) == 1.0
    assert score("arts " * MAX_PLACES + "art", required=["art"]) == 0.0


def test_very_many_parts_of_words_hide_no_forbidden_word():
    assert score("arts " * MAX_PLACES + "art", forbidden=["art"]) == 0.0
    assert score("arts " * MAX_PLACES, forbidden=["art"]) == 1.0


@pytest.mark.parametrize("unseen", ["\u00ad", "\u200b", "\u200d", "\u2060", "\ufeff"])
def test_characters_that_nobody_sees_hide_no_word(unseen):
    assert score(f"b{unseen}ad", forbidden=["bad"]) == 0.0
    assert score(f"go{unseen}od", required=["good"]) == 1.0
    assert score("good", required=[f"{unseen}good"]) == 1.0
    with pytest.raises(ValidationError, match="nobody sees"):
        rule(required=[unseen])
    verdict = rule(required_column="words").judge_one(Sample("good", columns={"words": [f"{unseen} "]}))
    assert verdict.blame is Blame.REFERENCE


def test_for_many_phrases_less_of_a_text_is_read():
    many = [f"word{number}" for number in range(400)]
    assert score(" " * (READ_CHARS // 400 - 5) + "word7", forbidden=many) == 0.0
    assert score(" " * (READ_CHARS // 400) + "word7", forbidden=many) == 1.0
    assert score(" " * (READ_CHARS // 400) + "word7", forbidden=many[:20]) == 0.0


def test_a_conversation_says_which_view_it_needs():
    assert rule(required=["a"]).judge_one(Sample([])).status is Status.FAILED


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_text_breaks_it(bomb):
    assert 0.0 <= score(BOMBS[bomb], required=["a", "b c", "日本"], forbidden=["d", "C++"]) <= 1.0


@given(ANY_TEXT, st.text(min_size=1, max_size=20).filter(lambda phrase: visible(phrase).strip()))
def test_every_phrase_is_found_in_a_text_that_has_it(text, phrase):
    assert score(f"{text} {phrase} {text}", required=[phrase]) == 1.0
    assert score(f"{text} {phrase} {text}", forbidden=[phrase]) == 0.0
