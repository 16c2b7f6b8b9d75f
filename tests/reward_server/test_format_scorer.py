"""Format: each check by itself, their sum, and patterns that cannot be used."""

import math
from importlib import metadata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_server.domain import Sample, Status
from reward_server.scorers.format import Format, FormatOptions


def formatted(text, **options):
    return Format(FormatOptions(**options), None).verdict_on(Sample(text)).score


@pytest.mark.parametrize(
    ("text", "passes"),
    [("Yes.", True), ("Yes. \n", True), ("Yes", False), ("Yes!", False), (".", True), ("Yes.)", False), ("...", True)],
)
def test_the_full_stop_at_the_end(text, passes):
    assert formatted(text, final_full_stop=0.5) == 0.5 * passes


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("Yes.", True), ("Yes!", True), ("Yes?\n", True), ("Yes…", True), ("はい。", True), ('He said "yes."', True),
        ("(Yes.)", True), ("**Yes.**", True), ("“Yes.”", True), ("Yes", False), ("Yes,", False), ("Yes:", False), ('"Yes"', False),
    ],
)  # fmt: skip
def test_the_end_of_a_sentence(text, passes):
    assert formatted(text, final_punctuation=0.5) == 0.5 * passes


@pytest.mark.parametrize(("text", "passes"), [("Yes", True), (" Yes", False), ("\nYes", False), ("\u00a0Yes", False)])
def test_the_blank_at_the_beginning(text, passes):
    assert formatted(text, no_leading_blank=0.5) == 0.5 * passes


@pytest.mark.parametrize("text", ["", " ", "\n\t\n"])
def test_an_empty_text_passes_nothing(text):
    assert formatted(text, final_full_stop=1, no_leading_blank=1, patterns=[{"regex": "x*", "score": 1}]) == 0.0


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("<think>a</think><answer>b</answer>", True),
        ("<think>\n</think>\n words between <answer></answer> and after", True),
        ("<answer>b</answer><think>a</think>", False),
        ("<think>a</think>", False),
        ("<think>a<answer>b</answer></think>", False),
        ("<think>a</think><answer>b", False),
        ("<think>a</think><answer>b</answer><answer>c</answer>", False),
        ("<think><think>a</think><answer>b</answer>", False),
        ("<think>a</think></think><answer>b</answer>", False),
        ("</think>a<think><answer>b</answer>", False),
        ("<Think>a</Think><answer>b</answer>", False),
        ("no tags", False),
    ],
)
def test_tags_stand_once_each_closed_and_in_order(text, passes):
    assert formatted(text, tags={"names": ["think", "answer"], "score": 1.0}) == 1.0 * passes


@pytest.mark.parametrize(
    ("regex", "text", "passes"),
    [
        (r"\\boxed\{[^{}]+\}", r"so \boxed{42}.", True),
        (r"\\boxed\{[^{}]+\}", r"so boxed{42}.", False),
        (r"(?s)^<think>.*</think>$", "<think>a\nb</think>", True),
        (r"(?i)as an ai", "As an AI model", True),
        (r"^日本$", "日本", True),
    ],
)
def test_a_pattern_is_found_anywhere_in_the_text(regex, text, passes):
    assert formatted(text, patterns=[{"regex": regex, "score": -0.25}]) == -0.25 * passes


def test_a_pattern_that_explodes_elsewhere_is_answered_at_once():
    assert formatted("a" * 20_000 + "b", patterns=[{"regex": "^(a+)+$", "score": 1}]) == 0.0


def test_weights_add_up_and_the_range_holds_them():
    options = FormatOptions(
        final_full_stop=0.5,
        no_leading_blank=0.25,
        patterns=[{"regex": "bad", "score": -1}, {"regex": "good", "score": 2}],
    )
    scorer = Format(options, None)
    assert scorer.score_range == (-1.0, 2.75)
    assert scorer.verdict_on(Sample("good and bad.")).score == 1.75


@given(st.text())
def test_every_text_gets_a_score_within_the_range(text):
    options = FormatOptions(
        final_full_stop=0.1,
        final_punctuation=0.2,
        no_leading_blank=-0.3,
        tags={"names": ["think"], "score": 0.7},
        patterns=[{"regex": "[a-z]+", "score": 0.1}],
    )
    scorer = Format(options, None)
    verdict = scorer.verdict_on(Sample(text))
    assert verdict.status is Status.SCORED
    assert scorer.score_range[0] <= verdict.score <= scorer.score_range[1] + 1e-12


def test_a_conversation_says_which_view_it_needs():
    verdict = Format(FormatOptions(final_full_stop=1), None).verdict_on(
        Sample([{"role": "assistant", "content": "a."}])
    )
    assert verdict.status is Status.FAILED
    assert "'view: full'" in verdict.status_reason


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "give at least one check of: final_full_stop, final_punctuation, no_leading_blank, tags, patterns"),
        ({"patterns": []}, "give at least one check"),
        ({"full_stop": 1}, "full_stop"),
        ({"final_full_stop": math.nan}, "finite"),
        ({"final_full_stop": "0.5"}, "valid number"),
        ({"patterns": [{"regex": "(a", "score": 1}]}, "missing ): (a"),
        ({"patterns": [{"regex": "a(?=b)", "score": 1}]}, "RE2's syntax: it has no look-around and no back-references"),
        ({"patterns": [{"regex": "", "score": 1}]}, "at least 1 character"),
        ({"patterns": [{"regex": "a"}]}, "Field required"),
        ({"tags": {"names": [], "score": 1}}, "at least 1 item"),
        ({"tags": {"names": ["<think>"], "score": 1}}, "should match pattern"),
        ({"tags": {"names": ["think"]}}, "Field required"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_would_be_right(options, told):
    with pytest.raises(ValidationError) as caught:
        FormatOptions(**options)
    assert told in str(caught.value)


def test_its_identity_names_the_library_behind_its_patterns_and_only_those():
    assert Format(FormatOptions(final_full_stop=1.0), None).identity() == {}
    searching = Format(FormatOptions(patterns=[{"regex": "a", "score": 1.0}]), None)
    assert searching.identity() == {"google-re2": metadata.version("google-re2")}
