"""Token F1 against SQuAD's formula, written down here once more."""

import collections
import string
from pathlib import Path

import pytest
from hostile_texts import ANY_TEXT, BOMBS
from hypothesis import given
from hypothesis import strategies as st

from reward_server.domain import Blame, Sample, Status
from reward_server.scorers.answers.token_f1 import TokenF1
from reward_server.scorers.base import RuleContext


def rule(**options):
    return TokenF1(TokenF1.Options(**options), RuleContext("r", Path()))


def score(text, gold, **options):
    return rule(**options).judge_one(Sample(text, columns={"answer": gold})).score


def squad_tokens(text):
    """Returns the words of a text in the way of SQuAD's paper: no case, no punctuation, no articles."""
    bare = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return [word for word in bare.split() if word not in ("a", "an", "the")]


def squad_f1(text, reference):
    answer, gold = squad_tokens(text), squad_tokens(reference)
    common = sum((collections.Counter(answer) & collections.Counter(gold)).values())
    if not common:
        return 0.0
    precision, recall = common / len(answer), common / len(gold)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("text", "reference", "f1"),
    [
        ("the tall tower", "tower", 2 / 3),
        ("tower", "Tower!", 1.0),
        ("red red blue", "red blue blue", 2 / 3),
        ("a b c d", "b", 1 / 2),
        ("nothing shared", "at all", 0.0),
        ("", "tower", 0.0),
        ("the", "tower", 0.0),
    ],
)
def test_it_is_the_harmonic_mean_of_precision_and_recall(text, reference, f1):
    assert score(text, reference, answer="whole") == pytest.approx(f1)


WORDS = st.lists(
    st.sampled_from(["red", "Blue", "the", "a", "tower", "Tower.", "don't", "x,y", "--", "日本"]), max_size=12
).map(" ".join)


@given(WORDS, WORDS)
def test_it_is_what_squad_computes(text, reference):
    if squad_tokens(reference):
        assert score(text, reference, answer="whole", reference="whole") == pytest.approx(squad_f1(text, reference))


@given(WORDS, st.lists(WORDS, min_size=1, max_size=4))
def test_the_best_of_several_references_counts(text, references):
    known = [reference for reference in references if squad_tokens(reference)]
    if known:
        best = max(squad_f1(text, reference) for reference in known)
        assert score(text, references, answer="whole") == pytest.approx(best)


def test_words_are_compared_as_they_are_where_nothing_is_made_equal():
    assert score("The tower", "the tower", normalize=[]) == pytest.approx(1 / 2)


@pytest.mark.parametrize("reference", [None, "", "the", [], float("inf"), True])
def test_a_reference_without_words_is_nobodys_fault(reference):
    verdict = rule().judge_one(Sample("", columns={"answer": reference}))
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.REFERENCE)


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_text_breaks_it(bomb):
    assert score(BOMBS[bomb], "Paris") == 0.0


@given(ANY_TEXT, ANY_TEXT)
def test_every_score_is_within_the_range(text, reference):
    verdict = rule(normalize=["nfkc", "lower", "whitespace"]).judge_one(Sample(text, columns={"answer": reference}))
    assert verdict.status is Status.ABSTAINED or 0.0 <= verdict.score <= 1.0
