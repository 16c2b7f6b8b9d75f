"""Format: each check by itself, their sum, and patterns that cannot be used."""

import math
from importlib import metadata

import pytest
from hostile_texts import ANY_TEXT, BOMBS
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
        (
            {},
            "give at least one check of: final_full_stop, final_punctuation, no_leading_blank, tags, thinking, patterns",
        ),
        ({"patterns": []}, "give at least one check"),
        ({"full_stop": 1}, "full_stop"),
        ({"final_full_stop": math.nan}, "finite"),
        ({"final_full_stop": "0.5"}, "valid number"),
        ({"patterns": [{"regex": "(a", "score": 1}]}, "missing ): (a"),
        ({"patterns": [{"regex": "a(?=b)", "score": 1}]}, "RE2's syntax: it has no look-around and no back-references"),
        ({"patterns": [{"regex": "", "score": 1}]}, "at least 1 character"),
        ({"patterns": [{"regex": "a"}]}, "Field required"),
        ({"tags": {"names": [], "score": 1}}, "at least 1 item"),
        ({"tags": {"names": ["<think>"], "score": 1}}, "write think, without < >"),
        ({"tags": {"names": ["two words"], "score": 1}}, "should match pattern"),
        ({"tags": {"names": ["think"]}}, "Field required"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_would_be_right(options, told):
    with pytest.raises(ValidationError) as caught:
        FormatOptions(**options)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("<think>a</think><answer>b</answer>", True),
        (" <think>a</think>\n\n<answer>b</answer>\n", True),
        ("So: <think>a</think><answer>b</answer>", False),
        ("<think>a</think> so <answer>b</answer>", False),
        ("<think>a</think><answer>b</answer> done", False),
        ("<answer>b</answer><think>a</think>", False),
    ],
)
def test_strictly_nothing_stands_outside_of_the_elements(text, passes):
    assert formatted(text, tags={"names": ["think", "answer"], "score": 1.0, "strict": True}) == float(passes)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("<think>a</think><answer>b</answer>", 1.0),
        ("x <answer>b</answer> y <think>a</think>", 1.0),
        ("<think>a</think><answer>b", 0.75),
        ("<think><think>a</think><answer>b</answer>", 0.75),
        ("<think>a</think>", 0.5),
        ("</answer>", 0.25),
        ("none", 0.0),
    ],
)
def test_each_mark_adds_its_share_where_that_is_asked_for(text, share):
    assert formatted(text, tags={"names": ["think", "answer"], "score": 2.0, "partial": True}) == 2.0 * share


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("<think>a</think>b", True),
        (" <think>\na\n</think>\n\nb", True),
        ("a</think>b", True),
        ("<think></think>b", True),
        ("<think>a</think>", False),
        ("<think>a</think> \n", False),
        ("<think>a</think>\u200b \ufeff", False),
        ("<think>a", False),
        ("a", False),
        ("x<think>a</think>b", False),
        ("<think>a</think>b</think>c", False),
        ("<think>a</think>b<think>c", False),
        ("<think>a<think>b</think>c", False),
        ("a</think><think>b", False),
    ],
)
def test_one_thinking_block_and_then_an_answer(text, passes):
    assert formatted(text, thinking={"score": 1.0}) == float(passes)


@pytest.mark.parametrize(
    ("text", "passes"),
    [
        ("<reason>a</reason><answer>b</answer>", True),
        ("a</reason>\n<answer> b </answer>\n", True),
        ("<reason>a</reason>b", False),
        ("<reason>a</reason><answer> </answer>", False),
        ("<reason>a</reason>so <answer>b</answer>", False),
        ("<reason>a</reason><answer>b</answer><answer>c</answer>", False),
        ("<reason><answer>a</answer></reason><answer>b</answer>", False),
        ("<reason>a</reason><answer>", False),
        ("<think>a</think><answer>b</answer>", False),
    ],
)
def test_the_answer_may_have_to_be_an_element(text, passes):
    assert formatted(text, thinking={"score": 1.0, "tag": "reason", "answer_tag": "answer"}) == float(passes)


@pytest.mark.parametrize(("text", "passes"), [("42", True), ("x42", False), ("42x", False), ("4\n2", False)])
def test_a_pattern_may_have_to_be_the_whole_text(text, passes):
    assert formatted(text, patterns=[{"regex": "[0-9]+|[0-9]+x?y", "score": 1.0, "full": True}]) == float(passes)


@pytest.mark.parametrize(
    ("counts", "passing"),
    [
        ({"at_least": 2}, [2, 3, 4]),
        ({"at_least": 2, "at_most": 3}, [2, 3]),
        ({"at_least": 0, "at_most": 0}, [0]),
        ({"at_most": 2}, [1, 2]),
    ],
)
def test_a_pattern_may_have_to_be_found_so_many_times(counts, passing):
    scores = [formatted("x" + "- a\n" * n, patterns=[{"regex": "- ", "score": 1.0, **counts}]) for n in range(5)]
    assert [n for n, score in enumerate(scores) if score] == passing


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tags": {"names": ["a"], "score": 1, "strict": True, "partial": True}}, "strict or partial, not both"),
        ({"patterns": [{"regex": "a", "score": 1, "full": True, "at_most": 2}]}, "a whole text matches once"),
        ({"patterns": [{"regex": "a", "score": 1, "at_least": 3, "at_most": 2}]}, "here they are 2 and 3"),
        ({"patterns": [{"regex": "a", "score": 1, "at_least": 0}]}, "give at_most too"),
        ({"patterns": [{"regex": "a", "score": 1, "at_least": 101}]}, "less than or equal to 100"),
        ({"thinking": {"score": 1, "tag": "<think>"}}, "write think, without < >"),
        ({"thinking": {"score": 1, "answer_tag": "1"}}, "should match pattern"),
    ],
)
def test_checks_that_make_no_sense_are_refused_with_what_would_be_right(options, told):
    with pytest.raises(ValidationError) as caught:
        FormatOptions(**options)
    assert told in str(caught.value)


EVERYTHING = FormatOptions(
    final_full_stop=0.1,
    tags={"names": ["think", "answer"], "score": 0.5, "partial": True},
    thinking={"score": 0.2, "answer_tag": "answer"},
    patterns=[
        {"regex": "(a|b)*c", "score": -0.1, "full": True},
        {"regex": r"[{}]+|a[^b]*b", "score": 0.1, "at_least": 2, "at_most": 100},
        {"regex": "日", "score": 0.1},
    ],
)


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_text_breaks_it(bomb):
    assert Format(EVERYTHING, None).judge_one(Sample(BOMBS[bomb])).status is Status.SCORED


@given(ANY_TEXT)
def test_every_text_even_with_halves_of_surrogate_pairs_has_the_same_score_twice(text):
    scorer = Format(EVERYTHING, None)
    verdict = scorer.judge_one(Sample(text))
    assert scorer.score_range[0] <= verdict.score <= scorer.score_range[1] + 1e-12
    assert scorer.judge_one(Sample(text)) == verdict


def test_its_identity_names_the_library_behind_its_patterns_and_only_those():
    assert Format(FormatOptions(final_full_stop=1.0), None).identity() == {}
    searching = Format(FormatOptions(patterns=[{"regex": "a", "score": 1.0}]), None)
    assert searching.identity() == {"google-re2": metadata.version("google-re2")}
