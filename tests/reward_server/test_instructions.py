"""What a sample is told to do and whether it does: the scorer `instructions`, its columns, options, modes and verdicts."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from reward_server.config import load
from reward_server.domain import Blame, Sample, Status
from reward_server.errors import ConfigError
from reward_server.scorers.base import RuleContext
from reward_server.scorers.instructions.scorer import Instructions, loose_variants
from reward_server.scorers.texts import NOT_A_TEXT

NO_COMMA = "punctuation:no_comma"
WORDS = "length_constraints:number_words"
TWO = {"instruction_id_list": [NO_COMMA, WORDS], "kwargs": [{}, {"relation": "at least", "num_words": 3}]}


def rule(**options):
    return Instructions(Instructions.Options(**options), RuleContext("followed", Path()))


def verdict(completion, columns=TWO, **options):
    return rule(**options).judge_one(Sample(completion, columns=columns))


@pytest.mark.parametrize(
    ("text", "all_of_them", "share"), [("one two three", 1, 1), ("one two", 0, 0.5), ("one, two", 0, 0)]
)
def test_the_score_is_that_all_are_followed_or_the_share_that_is(text, all_of_them, share):
    assert verdict(text).score == all_of_them
    assert verdict(text, aggregate="fraction").score == share


def test_the_parts_say_which_instruction_is_followed():
    assert verdict("one two").parts == {NO_COMMA: 1.0, WORDS: 0.0}


def test_an_instruction_that_comes_twice_has_two_parts():
    limits = [{"relation": "at least", "num_words": 1}, {"relation": "less than", "num_words": 2}]
    found = verdict("one two", {"instruction_id_list": [WORDS, WORDS], "kwargs": limits})
    assert found.parts == {WORDS: 1.0, f"{WORDS}#2": 0.0}


@pytest.mark.parametrize("text", ["", " ", "\n\t\u2003"])
@pytest.mark.parametrize("mode", ["strict", "loose"])
def test_a_blank_text_follows_nothing(text, mode):
    assert verdict(text, mode=mode, aggregate="fraction").score == 0.0


def test_a_conversation_is_not_a_text():
    assert verdict([{"role": "assistant", "content": "one two three"}]) == NOT_A_TEXT


# Columns


@pytest.mark.parametrize(
    "columns",
    [
        {"instruction_id_list": json.dumps(TWO["instruction_id_list"]), "kwargs": json.dumps(TWO["kwargs"])},
        {"instruction_id_list": TWO["instruction_id_list"], "kwargs": [json.dumps(entry) for entry in TWO["kwargs"]]},
        {"instruction_id_list": TWO["instruction_id_list"], "kwargs": [None, TWO["kwargs"][1]]},
        {
            "instruction_id_list": [NO_COMMA, WORDS],
            "kwargs": [
                {"relation": None, "num_words": None, "language": None},
                {"relation": "at least", "num_words": 3.0, "language": None},
            ],
        },
    ],
    ids=["all in JSON", "arguments in JSON", "no arguments as None", "every argument in every entry"],
)
def test_the_columns_may_have_any_shape_that_datasets_have(columns):
    assert verdict("one two three", columns).score == 1.0
    assert verdict("one two", columns).score == 0.0


def test_without_a_column_of_arguments_none_are_given():
    assert verdict("one", {"instruction_id_list": [NO_COMMA]}).score == 1.0
    assert verdict("one", {"instruction_id_list": NO_COMMA}).score == 1.0


def test_a_lone_instruction_may_have_its_arguments_without_a_list():
    columns = {"instruction_id_list": WORDS, "kwargs": {"relation": "at least", "num_words": 3}}
    assert verdict("one two three", columns).score == 1.0


def test_the_columns_may_have_other_names():
    columns = {"ids": [NO_COMMA], "arguments": [{}]}
    assert verdict("one", columns, ids_column="ids", kwargs_column="arguments").score == 1.0
    needs = rule(ids_column="ids", kwargs_column="arguments").needs
    assert (needs.required_columns, needs.optional_columns) == ({"ids"}, {"arguments"})


@pytest.mark.parametrize(
    ("ids", "kwargs", "reason"),
    [
        (["punctuation:no_coma"], [{}], "is it punctuation:no_comma"),
        ([7], [{}], "there is no instruction 7"),
        ([WORDS], [{}], "it needs relation"),
        ([WORDS], [{"relation": "at most", "num_words": 3}], "relation = 'at most'"),
        ([WORDS], [{"relation": "at least", "num_words": -1}], "num_words = -1"),
        ([WORDS], [{"relation": "at least", "num_words": 2.5}], "num_words = 2.5"),
        ([WORDS], [{"relation": "at least", "num_words": True}], "a truth value is no number"),
        ([WORDS], [{"relation": "at least", "num_word": 3}], "it needs num_words"),
        ([NO_COMMA], [{"num_words": 3}], "it has no argument 'num_words'"),
        ([NO_COMMA], [3], "a set of arguments is int"),
        ([NO_COMMA], ["{'a': 1}"], "is no JSON"),
        ([NO_COMMA], [{}, {}], "1 ids have 2 sets of arguments"),
        ([NO_COMMA], 3, "the arguments are int"),
        ([], [], "an empty list"),
        (None, None, "NoneType"),
        ("[" * 100_000, None, "is no JSON"),
        (["keywords:existence"], [{"keywords": []}], "keywords = []"),
        (["keywords:existence"], [{"keywords": "rock"}], "keywords = 'rock'"),
        (["keywords:existence"], [{"keywords": [" "]}], "it is blank"),
        (
            ["keywords:letter_frequency"],
            [{"letter": "ab", "let_frequency": 1, "let_relation": "at least"}],
            "one letter",
        ),
        (["language:response_language"], [{"language": "xx"}], "no ISO 639-1 code"),
        (
            ["length_constraints:nth_paragraph_first_word"],
            [{"num_paragraphs": 1, "nth_paragraph": 2, "first_word": "a"}],
            "there is no paragraph 2",
        ),
        (["startend:end_checker"], [{"end_phrase": ""}], "it is blank"),
    ],
)
def test_instructions_that_cannot_be_checked_are_owed_to_the_data(ids, kwargs, reason):
    for text in ("one two three", "", [{"role": "assistant", "content": "x"}]):
        found = verdict(text, {"instruction_id_list": ids, "kwargs": kwargs})
        assert (found.status, found.blame) == (Status.ABSTAINED, Blame.REFERENCE)
        assert reason in found.status_reason
        assert len(found.status_reason) < 500


def test_a_missing_column_is_owed_to_the_data():
    found = verdict("one", {"kwargs": [{}]})
    assert found.blame is Blame.REFERENCE
    assert "instruction_id_list" in found.status_reason


# Options


def test_instructions_of_the_options_need_no_columns():
    fixed = rule(instructions=[{"id": NO_COMMA}, {"id": WORDS, "relation": "less than", "num_words": 3}])
    assert fixed.needs.required_columns == frozenset()
    assert fixed.judge_one(Sample("one two")).score == 1.0
    assert fixed.judge_one(Sample("one two three")).score == 0.0


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"id": "punctuation:no_coma"}, "is it punctuation:no_comma"),
        ({"id": WORDS, "relation": "at least", "num_word": 3}, "it needs num_words"),
        ({"id": NO_COMMA, "num_words": 3}, "it has no argument 'num_words'"),
        ({"relation": "at least"}, "needs an id"),
    ],
)
def test_instructions_of_the_options_are_checked_at_once(entry, words):
    with pytest.raises(ValidationError, match=words):
        Instructions.Options(instructions=[entry])


def test_a_mistake_in_the_configuration_names_the_file_and_what_is_meant(tmp_path):
    path = tmp_path / "server.yaml"
    path.write_text("rewards:\n  plain: {instructions: {instructions: [{id: 'punctuation:no_coma'}]}}\n")
    with pytest.raises(ConfigError, match=r"server\.yaml(.|\n)*is it punctuation:no_comma"):
        load(path)


def test_the_version_of_what_tells_languages_is_part_of_the_identity():
    assert set(rule().identity()) == {"py3langid", "numpy"}


# Modes


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        ({"id": "startend:quotation"}, 'Sure, here it is:\n"Roses are red."'),
        ({"id": "startend:end_checker", "end_phrase": "the end"}, "This is the end\nHope you like it!"),
        ({"id": "detectable_format:json_format"}, "Here:\n{}\nThat is all."),
        ({"id": "startend:end_checker", "end_phrase": "the end"}, "This is **the end**"),
        ({"id": "detectable_format:json_format"}, "**Here:**\n*{}*\nThat is all."),
        ({"id": "combination:repeat_prompt", "prompt_to_repeat": "Say so."}, "Of course!\n\nSay so.\nSo."),
    ],
    ids=["no first line", "no last line", "neither", "no asterisks", "neither nor asterisks", "and no blanks around"],
)
def test_what_is_loosely_followed_is_not_strictly_followed(instruction, text):
    assert verdict(text, instructions=[instruction]).score == 0.0
    assert verdict(text, instructions=[instruction], mode="loose").score == 1.0


@pytest.mark.parametrize(
    ("instruction", "text"),
    [
        ({"id": NO_COMMA}, "a\nb, c\nd"),
        ({"id": "startend:quotation"}, 'One\nTwo\n"Three"'),
        ({"id": NO_COMMA}, "a,"),
    ],
    ids=["in the middle", "two lines before it", "nothing is left"],
)
def test_what_is_wrong_in_every_variant_is_not_loosely_followed(instruction, text):
    assert verdict(text, instructions=[instruction], mode="loose").score == 0.0


def test_each_instruction_may_be_followed_by_another_variant():
    instructions = [{"id": "startend:quotation"}, {"id": WORDS, "relation": "at least", "num_words": 4}]
    assert verdict('Sure, here:\n"Roses are"', instructions=instructions, mode="loose").score == 1.0


def test_the_variants_are_the_eight_of_the_paper():
    assert list(loose_variants("*a*\n*b*\n c \n*d*")) == [
        *("*a*\n*b*\n c \n*d*", "*b*\n c \n*d*", "*a*\n*b*\n c", "*b*\n c"),
        *("a\nb\n c \nd", "b\n c \nd", "a\nb\n c", "b\n c"),
    ]
