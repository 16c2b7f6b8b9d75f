"""Repetition: the formula, both units, compression, what is tolerated."""

from pathlib import Path

import pytest
from hostile_texts import ANY_TEXT, BOMBS
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_server.domain import Sample, Status
from reward_server.scorers.base import RuleContext
from reward_server.scorers.repetition import READ_CHARS, Repetition, repeated_words

PROSE = "".join(Path(__file__).read_text().split("\n")[:20])


def rule(**options):
    return Repetition(Repetition.Options(**options), RuleContext("r", Path()))


def score(text, **options):
    return rule(**options).judge_one(Sample(text)).score


@pytest.mark.parametrize(
    ("text", "n", "penalty"),
    [
        ("a b c d", 3, 0.0),
        ("a b a b a b", 2, -3 / 5),
        ("a b c a b c", 3, -1 / 4),
        ("A b\na B", 2, -1 / 3),
        ("a a a a", 1, -3 / 4),
        ("a b", 3, 0.0),
        ("", 3, 0.0),
    ],
)
def test_the_penalty_is_the_share_of_runs_that_were_there_before(text, n, penalty):
    assert score(text, n=n) == pytest.approx(penalty)


def test_characters_are_counted_where_a_script_has_no_blanks():
    assert score("我爱你我爱你", n=3) == 0.0
    assert score("我爱你我爱你", n=3, unit="chars") == pytest.approx(-1 / 4)
    assert score("ab a\nb", n=2, unit="chars") == pytest.approx(-1 / 3)
    assert score("我", n=3, unit="chars") == 0.0


def test_the_penalty_has_the_size_that_the_option_says():
    assert score("a a a a", n=1, max_penalty=-0.5) == pytest.approx(-3 / 8)
    assert rule(max_penalty=-0.5).score_range == (-0.5, 0.0)
    assert score("a a a a", n=1, max_penalty=0) == 0.0


def test_what_is_tolerated_costs_nothing_and_the_rest_is_stretched():
    assert score("a a a a", n=1, tolerated=0.75) == 0.0
    assert score("a a a a", n=1, tolerated=0.5) == pytest.approx(-0.5)


def test_compression_tells_a_circle_from_prose():
    assert score("and so on " * 500, measure="compression") < -0.95
    assert score(PROSE, measure="compression", tolerated=0.7) == 0.0
    assert score("", measure="compression") == 0.0
    assert score("x", measure="compression") == 0.0


def test_the_end_of_a_long_text_is_read():
    varied = " ".join(map(str, range(READ_CHARS)))
    circle = "over and " * READ_CHARS
    assert score(varied + circle) < -0.9
    assert score(circle + varied) == 0.0


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"n": 51}, {"max_penalty": 1}, {"tolerated": 1}, {"measure": "words"}, {"unit": "tokens"}]
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValidationError):
        Repetition.Options(**options)


def test_its_identity_names_zlib_where_that_measures():
    assert rule().identity() == {}
    assert set(rule(measure="compression").identity()) == {"zlib"}


def test_a_conversation_says_which_view_it_needs():
    assert rule().judge_one(Sample([])).status is Status.FAILED


WAYS = [{}, {"n": 40}, {"unit": "chars"}, {"measure": "compression", "tolerated": 0.5}]


@pytest.mark.parametrize("options", WAYS)
@pytest.mark.parametrize("bomb", BOMBS)
def test_no_text_breaks_it(bomb, options):
    assert -1.0 <= score(BOMBS[bomb], **options) <= 0.0


@given(ANY_TEXT, st.sampled_from(WAYS))
def test_every_text_has_the_same_score_twice_within_the_range(text, options):
    assert -1.0 <= score(text, **options) <= 0.0
    assert score(text, **options) == score(text, **options)


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(1, 4))
def test_it_is_the_formula_whatever_the_words(words, n):
    runs = [tuple(words[start : start + n]) for start in range(len(words) - n + 1)]
    expected = len(set(runs)) / len(runs) - 1 if runs else 0.0
    assert score(" ".join(words), n=n) == pytest.approx(expected)


@pytest.mark.parametrize("loop", ["ha" * 3000, "go_" * 3000, "ha.ha." * 2000, "la\u200bla\u200b" * 1000])
def test_a_loop_without_blanks_is_a_loop(loop):
    assert repeated_words(loop, 3) > 0.9


def test_a_long_word_by_itself_repeats_nothing():
    assert repeated_words("see https://example.org/a/long/path/to/some/page.html?with=parameters for more", 3) == 0.0
