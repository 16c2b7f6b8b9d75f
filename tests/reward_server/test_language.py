"""Language: texts in several, mixtures, texts too short to tell, columns, options that make no sense."""

from pathlib import Path

import pytest
from hostile_texts import ANY_TEXT, BOMBS
from hypothesis import given, settings
from pydantic import ValidationError

from reward_server.domain import Blame, Sample, Status
from reward_server.errors import ConfigError
from reward_server.scorers.base import RuleContext
from reward_server.scorers.language import Language

TEXTS = {
    "en": "The children were playing in the garden while their grandmother prepared dinner for the whole family.",
    "de": "Die Kinder spielten im Garten, während ihre Großmutter das Abendessen für die ganze Familie zubereitete.",
    "fr": "Les enfants jouaient dans le jardin pendant que leur grand-mère préparait le dîner pour toute la famille.",
    "zh": "孩子们在花园里玩耍。他们的祖母正在为全家人准备晚饭。大家都觉得非常高兴和幸福。",
    "ru": "Дети играли в саду, пока их бабушка готовила ужин для всей семьи.",
}


def rule(**options):
    return Language(Language.Options(**options), RuleContext("r", Path()))


def score(text, **options):
    return rule(**options).judge_one(Sample(text)).score


@pytest.mark.parametrize("wanted", TEXTS)
@pytest.mark.parametrize("written", TEXTS)
def test_a_text_scores_in_its_own_language_and_no_other(wanted, written):
    assert score(TEXTS[written], languages=[wanted], threshold=0.5) == float(wanted == written)


def test_without_a_threshold_the_score_is_the_probability():
    assert 0.7 < score(TEXTS["en"], languages=["en"]) <= 1.0
    assert 0.0 <= score(TEXTS["en"], languages=["de"]) < 0.1


def test_any_of_several_languages_will_do():
    both = score(TEXTS["fr"], languages=["en", "fr"])
    assert both == pytest.approx(score(TEXTS["fr"], languages=["en"]) + score(TEXTS["fr"], languages=["fr"]))


def test_few_languages_to_choose_from_make_it_surer():
    among_all = score("Hello, have a nice day.", languages=["en"], min_letters=5)
    assert score("Hello, have a nice day.", languages=["en"], min_letters=5, among=["en", "zh"]) > among_all


def test_of_a_text_that_is_half_in_another_language_half_counts():
    mixed = TEXTS["en"] * 20 + TEXTS["ru"] * 20
    assert 0.3 < score(mixed, languages=["en"], among=["en", "ru"]) < 0.7


def test_a_sentence_over_and_over_is_still_in_its_language():
    assert score(TEXTS["en"] * 1_000, languages=["en"]) > 0.7


@pytest.mark.parametrize("text", ["", "42", "Hello!", "1 + 1 = 2 " * 50, "...", "\ud800", "你好"])
def test_a_text_too_short_to_tell_scores_what_the_option_says(text):
    assert score(text, languages=["en"]) == 0.0
    assert score(text, languages=["en"], too_short=0.5) == 0.5


def test_how_short_is_too_short_can_be_said_and_a_chinese_letter_counts_as_three():
    assert score("hello you", languages=["en"], min_letters=8, too_short=1.0) < 1.0
    assert score("hello you", languages=["en"], min_letters=9, too_short=1.0) == 1.0
    assert score("今天天气好", languages=["zh"], min_letters=15, too_short=0.0) > 0.0
    assert score("今天天气好", languages=["zh"], min_letters=16, too_short=0.0) == 0.0


@pytest.mark.parametrize("value", ["de", "de-AT", "de_DE", "DE", ["fr", "de"], ("de",)])
def test_the_language_wanted_may_stand_in_a_column(value):
    asked = rule(language_column="lang", threshold=0.5)
    assert asked.needs.required_columns == {"lang"}
    assert asked.judge_one(Sample(TEXTS["de"], columns={"lang": value})).score == 1.0
    assert asked.judge_one(Sample(TEXTS["en"], columns={"lang": value})).score == 0.0


@pytest.mark.parametrize("value", [None, "", "German", "xx", 5, [], [None]])
@pytest.mark.parametrize("text", ["", TEXTS["de"]])
def test_a_column_that_names_no_language_is_nobodys_fault(value, text):
    verdict = rule(language_column="lang").judge_one(Sample(text, columns={"lang": value}))
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.REFERENCE)


def test_a_column_cannot_ask_for_a_language_that_is_not_considered():
    asked = rule(language_column="lang", among=["en", "de"])
    assert asked.judge_one(Sample(TEXTS["fr"], columns={"lang": "fr"})).blame is Blame.REFERENCE


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({}, "give either languages or language_column"),
        ({"languages": ["en"], "language_column": "lang"}, "give either languages or language_column"),
        ({"languages": ["English"]}, "should match pattern"),
        ({"languages": ["en"], "among": ["de", "fr"]}, "it lacks en"),
        ({"languages": ["en"], "among": ["en"]}, "name several"),
        ({"languages": ["en"], "threshold": 1.5}, "less than or equal to 1"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_would_be_right(options, told):
    with pytest.raises(ValidationError) as caught:
        Language.Options(**options)
    assert told in str(caught.value)


def test_a_language_that_the_model_does_not_know_is_refused_with_those_that_it_knows():
    with pytest.raises(ConfigError, match=r"rewards\.r\.language: unknown languages xx; known are .*\bde\b"):
        rule(languages=["xx"])


def test_its_identity_names_the_library_and_with_it_the_model():
    assert "py3langid" in rule(languages=["en"]).identity()


def test_a_conversation_says_which_view_it_needs():
    assert rule(languages=["en"]).judge_one(Sample([])).status is Status.FAILED


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_text_breaks_it(bomb):
    assert 0.0 <= score(BOMBS[bomb], languages=["en"], among=["en", "zh"]) <= 1.0


@settings(deadline=None)  # the first one reads the model
@given(ANY_TEXT)
def test_every_text_has_the_same_score_twice_within_the_range(text):
    asked = rule(languages=["en"], min_letters=1)
    first = asked.judge_one(Sample(text)).score
    assert 0.0 <= first <= 1.0
    assert asked.judge_one(Sample(text)).score == first
