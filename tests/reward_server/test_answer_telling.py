"""What verdicts tell of an answer and its reference: what was read, and never more than a little of it."""

from pathlib import Path

import pytest
from hostile_texts import ANY_TEXT, BOMBS
from hypothesis import given
from hypothesis import strategies as st

from reward_server.domain import Sample
from reward_server.scorers.answers.choice import Choice
from reward_server.scorers.answers.exact import ExactMatch
from reward_server.scorers.answers.numeric import Numeric
from reward_server.scorers.answers.telling import QUOTED_CHARS, quoted, told
from reward_server.scorers.answers.token_f1 import TokenF1
from reward_server.scorers.base import RuleContext

MOST_CHARS = 3 * QUOTED_CHARS + 60
RULES = {Choice: "B", ExactMatch: "Paris", Numeric: "72", TokenF1: "Paris"}


def explanation(cls, text, reference, **options):
    rule = cls(cls.Options(**options), RuleContext("r", Path()))
    return rule.judge_one(Sample(text, columns={"answer": reference})).explanation


@pytest.mark.parametrize(
    ("cls", "text", "reference", "words"),
    [
        (Numeric, "x" * 100 + " makes 24 in all", "5 + 67 = #### 72", "read '24', the reference is '72'"),
        (Numeric, "<answer>72 clips</answer>", 72, "read '72', the reference is '72'"),
        (Numeric, "The answer is -1,234.5%.", "3 apples", "read '-1,234.5%', the reference is '3 apples'"),
        (Numeric, "none", 72, "no answer found in it, the reference is '72'"),
        (Numeric, "<answer>71 or 72</answer>", 72, "no answer could be read from '71 or 72', the reference is '72'"),
        (Numeric, r"\boxed{}", 72, "its answer is empty, the reference is '72'"),
        (Numeric, "5", [1, 2], "read '5', the reference is '1' or '2'"),
        (Numeric, "5", [1, 2, "many", 3], "read '5', the reference is '1' or '2' or 1 more"),
        (Choice, "The answer is both.", "C", "no answer could be read from 'both.', the reference is 'C'"),
        (Choice, "The answer is (B).", 2, "read 'B', the reference is 'C'"),
        (Choice, "B or C", "B", "no answer found in it, the reference is 'B'"),
        (ExactMatch, "The answer is Rome", "The Paris", "read 'Rome', the reference is 'The Paris'"),
        (ExactMatch, "", "Paris", "no answer found in it, the reference is 'Paris'"),
        (TokenF1, "<answer>in Paris</answer>", "Paris", "read 'in Paris', the reference is 'Paris'"),
    ],
)
def test_a_verdict_says_what_was_read_and_what_was_wanted(cls, text, reference, words):
    assert explanation(cls, text, reference) == words


def test_where_there_is_no_such_place_there_is_no_answer():
    assert explanation(Numeric, "72", "72", answer="boxed") == "no answer found in it, the reference is '72'"


@pytest.mark.parametrize("cls", RULES)
@pytest.mark.parametrize("bomb", BOMBS)
def test_of_no_text_is_more_than_a_little_told(cls, bomb):
    for text in (BOMBS[bomb], f"<answer>{BOMBS[bomb]}</answer>"):
        said = explanation(cls, text, RULES[cls])
        assert len(said) <= MOST_CHARS
        assert said.isprintable()


@given(ANY_TEXT)
def test_a_quotation_is_short_and_printable(text):
    assert len(quoted(text)) <= QUOTED_CHARS + 2
    assert quoted(text).isprintable()


@given(st.none() | ANY_TEXT, st.none() | ANY_TEXT, st.lists(ANY_TEXT.map(quoted), min_size=1, max_size=5))
def test_what_is_told_is_short_and_printable(read, place, references):
    said = told(read, place, references)
    assert len(said) <= MOST_CHARS
    assert said.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (" 72\n", "'72'"),
        ("a\nb\tc", "'a b c'"),
        ("a\x00\ud800\u202eb", "'a\ufffd\ufffd\ufffdb'"),
        ("x" * QUOTED_CHARS, f"'{'x' * QUOTED_CHARS}'"),
        ("x" * (QUOTED_CHARS + 1), f"'{'x' * (QUOTED_CHARS - 1)}\u2026'"),
        (r"\frac{1}{2}", r"'\frac{1}{2}'"),
    ],
)
def test_what_cannot_be_printed_is_replaced_and_what_is_long_cut(text, shown):
    assert quoted(text) == shown
