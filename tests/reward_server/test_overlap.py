"""BLEU, chrF and ROUGE: the libraries' own values, examples worked out by hand, and references that are none."""

import math
from pathlib import Path

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF

from reward_server.domain import Blame, Sample, Status
from reward_server.scorers.base import RuleContext
from reward_server.scorers.overlap.bleu import Bleu
from reward_server.scorers.overlap.chrf import ChrF
from reward_server.scorers.overlap.porter import stem
from reward_server.scorers.overlap.rouge import Rouge

KINDS = [Bleu, ChrF, Rouge]
PUBLISHED = ["The dog bit the man.", "It wasn't surprising.", "The man had just bitten him."]
PUBLISHED_REFERENCES = [
    ["The dog bit the man.", "It was not unexpected.", "The man bit him first."],
    ["The dog had bit the man.", "No one was surprised.", "The man had bitten the dog."],
]
"""sacrebleu's README has these, with BLEU 48.53 and chrF2 59.73 for the three together."""

QUICK = "The quick brown fox jumps over the lazy dog"
TEXTS = [
    *PUBLISHED,
    *PUBLISHED_REFERENCES[0],
    *PUBLISHED_REFERENCES[1],
    QUICK,
    "The quick brown dog jumps on the log.",
    "",
    "one",
    "Das Haus ist groß, 3,5 Zimmer!",
    "她看见了那只狗。",
    "a \ud800 b\x00 c 😀",
    "the " * 50,
    "Generalizations, happily relational; dying skies flies 1.2.3 &quot;quoted&quot;",
]

words = st.sampled_from(
    ["the", "cat", "sat", "on", "mats", "matting", "hopping", "relational", "3,5", ".", "-", "naïve", "日本"]
)
texts = st.lists(words, max_size=25).map(" ".join) | st.text(max_size=40)


def scored(kind, text, reference, **options):
    rule = kind(kind.Options(**options), RuleContext("r", Path()))
    return rule.judge_one(Sample(text, columns={"answer": reference}))


def test_sacrebleu_computes_what_it_has_published():
    assert round(sacrebleu.corpus_bleu(PUBLISHED, PUBLISHED_REFERENCES).score, 2) == 48.53
    assert round(sacrebleu.corpus_chrf(PUBLISHED, PUBLISHED_REFERENCES).score, 2) == 59.73


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("tokenize", ["13a", "intl", "zh", "char", "none"])
def test_bleu_is_sacrebleus_sentence_bleu_over_100(tokenize, lowercase):
    theirs = BLEU(effective_order=True, tokenize=tokenize, lowercase=lowercase)
    for text in TEXTS:
        for references in [*zip(*PUBLISHED_REFERENCES, strict=True), [QUICK], ["她看见了狗。", "3,5 Zimmer"]]:
            ours = scored(Bleu, text, list(references), tokenize=tokenize, lowercase=lowercase).score
            assert ours == pytest.approx(theirs.sentence_score(text, references).score / 100)


@pytest.mark.parametrize(
    "options",
    [
        {"smooth_method": "floor"},
        {"smooth_method": "floor", "smooth_value": 0.5},
        {"smooth_method": "add-k"},
        {"smooth_method": "none"},
        {"effective_order": False},
        {"max_ngram_order": 2},
    ],
)
def test_bleus_options_are_sacrebleus(options):
    theirs = BLEU(**{"effective_order": True} | options)
    for text in TEXTS:
        ours = scored(Bleu, text, PUBLISHED[0], **options).score
        assert ours == pytest.approx(theirs.sentence_score(text, [PUBLISHED[0]]).score / 100)


def test_bleu_worked_out_by_hand():
    got = scored(Bleu, "the cat sat on the mat", "the cat is on the mat").score
    assert got == pytest.approx((5 / 6 * 3 / 5 * 1 / 4 * 1 / 6) ** 0.25)  # no run of four: half of one in three
    assert scored(Bleu, "the cat", "the cat is on", smooth_method="none").score == pytest.approx(math.exp(1 - 4 / 2))


@pytest.mark.parametrize("options", [{}, {"word_order": 2}, {"char_order": 3, "beta": 1}, {"lowercase": True}, {"whitespace": True}, {"eps_smoothing": True}])  # fmt: skip
def test_chrf_is_sacrebleus_sentence_chrf_over_100(options):
    theirs = CHRF(**options)
    for text in TEXTS:
        for references in [*zip(*PUBLISHED_REFERENCES, strict=True), ["她看见了狗。"]]:
            ours = scored(ChrF, text, list(references), **options).score
            assert ours == pytest.approx(theirs.sentence_score(text, references).score / 100)


def test_chrf_worked_out_by_hand():
    assert scored(ChrF, "abc", "abd", char_order=1, beta=1).score == pytest.approx(2 / 3)
    assert scored(ChrF, "ab", "abcd", char_order=1, beta=2).score == pytest.approx(5 * 1 * 0.5 / (4 * 1 + 0.5))


@pytest.mark.parametrize(
    ("rouge_type", "precision", "recall"),
    [("rouge1", 6 / 8, 6 / 9), ("rouge2", 2 / 7, 2 / 8), ("rougeL", 5 / 8, 5 / 9)],
)
def test_rouge_of_the_example_in_rouge_scores_readme(rouge_type, precision, recall):
    expected = {"precision": precision, "recall": recall, "fmeasure": 2 * precision * recall / (precision + recall)}
    for measure, value in expected.items():
        got = scored(Rouge, "The quick brown dog jumps on the log.", QUICK, rouge_type=rouge_type, measure=measure)
        assert got.score == pytest.approx(value)


ROUGE_TYPES = ["rouge1", "rouge2", "rouge3", "rouge4", "rougeL"]


@pytest.mark.parametrize("use_stemmer", [True, False])
def test_rouge_is_that_of_rouge_score(use_stemmer):
    theirs = RougeScorer(ROUGE_TYPES, use_stemmer=use_stemmer)
    for text in TEXTS:
        for references in [*zip(*PUBLISHED_REFERENCES, strict=True), [QUICK], ["skies happy generalization 1 2 3"]]:
            expected = theirs.score_multi(references, text)
            for rouge_type in ROUGE_TYPES:
                for measure in ("precision", "recall", "fmeasure"):
                    ours = scored(
                        Rouge, text, list(references), rouge_type=rouge_type, measure=measure, use_stemmer=use_stemmer
                    )
                    assert ours.score == pytest.approx(getattr(expected[rouge_type], measure))


@given(texts, texts, st.booleans(), st.sampled_from(ROUGE_TYPES))
@settings(deadline=None)
def test_rouge_of_any_texts_is_that_of_rouge_score(text, reference, use_stemmer, rouge_type):
    got = scored(Rouge, text, reference, rouge_type=rouge_type, use_stemmer=use_stemmer)
    if got.status is Status.ABSTAINED:  # there is nothing that it counts
        assert not RougeScorer([rouge_type])._tokenizer.tokenize(reference)
    else:
        assert got.score == pytest.approx(
            RougeScorer([rouge_type], use_stemmer=use_stemmer).score(reference, text)[rouge_type].fmeasure
        )


@given(st.text("abcdeiouylmnrstz", max_size=6), st.sampled_from(["s", "es", "ies", "ied", "ed", "ing", "eed", "y", "ly", "ally", "fully", "logi", "ational", "ization", "ement", "ion", "ll", "e"]))  # fmt: skip
@settings(deadline=None, max_examples=500)
def test_words_lose_their_endings_as_with_nltk(root, ending):
    from nltk.stem.porter import PorterStemmer

    assert stem(root + ending) == PorterStemmer().stem(root + ending)


@pytest.mark.parametrize("kind", KINDS)
def test_a_copy_scores_1_and_a_stranger_0(kind):
    assert scored(kind, QUICK, QUICK).score == pytest.approx(1.0)
    assert scored(kind, "xxx 77", QUICK, **({"max_ngram_order": 1} if kind is Bleu else {})).score == pytest.approx(
        0.0, abs=0.06
    )


@pytest.mark.parametrize("kind", KINDS)
def test_the_best_of_several_references_counts(kind):
    assert scored(kind, QUICK, ["nothing of it", QUICK, ""]).score == pytest.approx(1.0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reference", [None, "", " \n", [], [""], 5, {"a": "b"}])
@pytest.mark.parametrize("completion", ["a text", "", [{"role": "assistant", "content": "a"}]])
def test_a_reference_that_is_none_is_missing_for_every_completion_alike(kind, reference, completion):
    got = scored(kind, completion, reference)
    assert (got.status, got.blame) == (Status.ABSTAINED, Blame.REFERENCE)
    assert "in column 'answer'" in got.status_reason


def test_a_reference_without_words_for_rouge_is_missing_and_not_zero():
    got = scored(Rouge, "她看见了那只狗。", "她看见了那只狗。")
    assert (got.status, got.blame) == (Status.ABSTAINED, Blame.REFERENCE)
    assert "a to z" in got.status_reason


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_says_which_view_it_needs(kind):
    got = scored(kind, [{"role": "assistant", "content": "a"}], "a")
    assert got.status is Status.FAILED
    assert "'view: full'" in got.status_reason


@pytest.mark.parametrize("kind", KINDS)
@given(texts, texts)
@settings(max_examples=60, deadline=None)
def test_every_text_scores_within_the_range(kind, text, reference):
    got = scored(kind, text, reference)
    assert got.status is Status.ABSTAINED or 0.0 <= got.score <= 1.0


def test_sacrebleus_tokenizers_keep_no_texts():
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
    from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

    scored(Bleu, "a text that is long", "another text")
    assert Tokenizer13a.__call__.cache_info().currsize == TokenizerRegexp.__call__.cache_info().currsize == 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_identity_and_the_needs_say_what_shapes_the_score(kind):
    rule = kind(kind.Options(reference_column="gold"), RuleContext("r", Path()))
    assert set(rule.identity()) == set(kind.libraries) != set()
    assert rule.needs.required_columns == {"gold"}


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        (Bleu, {"tokenize": "ja-mecab"}, "'13a'"),
        (Bleu, {"smooth_value": 1.0}, "'exp' takes no smooth_value: only floor and add-k do"),
        (Bleu, {"max_ngram_order": 0}, "greater than or equal to 1"),
        (ChrF, {"char_order": 0}, "greater than or equal to 1"),
        (ChrF, {"beta": 0.5}, "beta"),
        (Rouge, {"rouge_type": "rougeLsum"}, "'rougeL'"),
        (Rouge, {"measure": "f1"}, "'fmeasure'"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_would_be_right(kind, options, told):
    with pytest.raises(ValidationError) as caught:
        kind.Options(**options)
    assert told in str(caught.value)
