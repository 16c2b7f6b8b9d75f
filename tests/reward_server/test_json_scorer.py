"""JSON: what is JSON, where it may stand, schemas that it fits or not, and schemas that cannot be applied."""

import json
import pickle
from pathlib import Path

import pytest
from hostile_texts import ANY_TEXT, BOMBS
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_server.domain import Sample, Status
from reward_server.errors import ConfigError
from reward_server.scorers.base import RuleContext
from reward_server.scorers.json_text import MAX_DEPTH, MAX_DIGITS, Json
from reward_server.scorers.json_work import MAX_STEPS

HERE = RuleContext("r", Path())
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name"],
    "additionalProperties": False,
}
TREE = {
    "type": "object",
    "properties": {"kids": {"type": "array", "items": {"$ref": "#"}}},
    "additionalProperties": False,
}


def score(text, **options):
    return Json(Json.Options(**options), HERE).judge_one(Sample(text)).score


@pytest.mark.parametrize(
    "text",
    [
        '{"a": [1, 2.5, true, null]}',
        "[]",
        " 1 \n",
        '"x"',
        "null",
        '"\\ud800"',
        '"\ud800"',
        '{"": 0}',
        "1e300",
        "-0",
        "1" * MAX_DIGITS,
    ],
)
def test_strict_json_is_json(text):
    assert score(text) == 1.0


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            " ",
            "{",
            "{'a': 1}",
            "[1,]",
            "{} {}",
            "so: {}",
            "NaN",
            "[Infinity]",
            "-Infinity",
            "01",
            "1e999",
            "\ufeff{}",
            "\0",
        ),
        *(
            '{"a": 1, "a": 1}',
            '[{"a": {"b": 1, "b": 2}}]',
            "1" * (MAX_DIGITS + 1),
            "0." + "1" * MAX_DIGITS,
            "[1] // one",
            '"\n"',
        ),
    ],
)
def test_what_is_not_strictly_json_is_none(text):
    assert score(text, partial=0.5) == 0.0


def test_json_may_be_so_deep_and_no_deeper():
    assert score("[" * MAX_DEPTH + "]" * MAX_DEPTH) == 1.0
    assert score("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)) == 0.0
    assert score('{"a":' * MAX_DEPTH + "1" + "}" * MAX_DEPTH) == 1.0


@pytest.mark.parametrize(
    ("text", "allow", "need", "refuse"),
    [
        ("{}", 1, 0, 1),
        ("```json\n{}\n```", 1, 1, 0),
        ("Here:\n\n```JSON\n{\n}\n```\nDone.", 1, 1, 0),
        ("```\n{}\n```", 1, 1, 0),
        ("```python\n{}\n```", 0, 0, 0),
        ("```python\nx\n```\n```json\n{}\n```", 1, 1, 0),
        ("```json\n{}\n```\n```json\n{}\n```", 0, 0, 0),
        ("```json\n{}", 0, 0, 0),
        ("```json {} ```", 0, 0, 0),
        ("```json\nno\n```", 0, 0, 0),
    ],
)
def test_it_may_stand_in_a_fence_as_the_option_says(text, allow, need, refuse):
    assert [score(text, fenced=fenced) for fenced in ("allow", "need", "refuse")] == [allow, need, refuse]


@pytest.mark.parametrize(
    ("text", "whole", "items"), [("{}", 1.0, 0.3), ("[]", 0.3, 1.0), ("1", 0.3, 0.3), ("x", 0.0, 0.0)]
)
def test_the_whole_may_have_to_be_an_object_or_a_list(text, whole, items):
    assert score(text, root="object", partial=0.3) == whole
    assert score(text, root="array", partial=0.3) == items


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"name": "Ada", "age": 36}', 1.0),
        ('{"name": "Ada"}', 1.0),
        ('{"name": ""}', 0.5),
        ('{"name": "Ada", "age": 1.5}', 0.5),
        ('{"name": "Ada", "born": 1815}', 0.5),
        ('{"age": 36}', 0.5),
        ("[]", 0.5),
        ("{", 0.0),
    ],
)
def test_json_must_fit_the_schema(text, expected):
    assert score(text, json_schema=PERSON, partial=0.5) == expected


@pytest.mark.parametrize(
    ("schema", "fits", "fails"),
    [
        ({"pattern": "^[0-9]+$"}, '"12"', '"1a"'),
        ({"pattern": "^[0-9]+$"}, '"1"', '"1\\n"'),
        ({"enum": [1, [2], {"a": True}]}, '{"a": true}', '{"a": 1}'),
        ({"enum": [1, [2]]}, "1.0", "true"),
        ({"patternProperties": {"^x-": {"type": "integer"}}}, '{"x-a": 1, "y": "z"}', '{"x-a": "1"}'),
        ({"patternProperties": {"^x-": {}}, "additionalProperties": False}, '{"x-a": 1}', '{"y": 1}'),
        (
            {"properties": {"a": {}}, "additionalProperties": {"type": "string"}},
            '{"a": 1, "b": "c"}',
            '{"a": 1, "b": 1}',
        ),
        ({"prefixItems": [{"type": "integer"}], "items": False}, "[1]", "[1, 2]"),
        ({"multipleOf": 0.5}, "1e300", "0.3"),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "null"}}}, "null", "1"),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "integer"}]}, "[1]", '["a"]'),
        (TREE, '{"kids": [{"kids": []}]}', '{"kids": [{"kid": []}]}'),
        (False, None, "1"),
    ],
)
def test_schemas_are_read_as_the_drafts_have_them(schema, fits, fails):
    schema = schema if isinstance(schema, dict) else {"not": {}}
    assert fits is None or score(fits, json_schema=schema) == 1.0
    assert score(fails, json_schema=schema) == 0.0


def test_a_pattern_that_explodes_elsewhere_is_answered_at_once():
    schema = {
        "pattern": "^(a+)+$",
        "patternProperties": {"^(a+)+$": {}},
        "additionalProperties": False,
    }
    hostile = "a" * 50_000 + "b"
    assert score(json.dumps(hostile), json_schema=schema) == 0.0
    assert score(json.dumps({hostile: 1}), json_schema=schema) == 0.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"),
        ("0", "-0.0"),
        ("1e22", "10000000000000000000000"),
        ('{"a": 1, "b": [2]}', '{"b": [2.0], "a": 1}'),
        ('"\\u00e9"', '"é"'),
    ],
)
def test_items_that_mean_the_same_are_not_unique(one, other):
    assert score(f"[{one}, 7, {other}]", json_schema={"uniqueItems": True}) == 0.0
    assert score(f"[[{one}], 7, {other}]", json_schema={"uniqueItems": True}) == 1.0


@pytest.mark.parametrize(
    "items", ["[1, true]", "[0, false]", "[null, 0]", '["1", 1]', "[[], {}]", '["[]", []]', '["a,b", ["a", "b"]]']
)
def test_items_that_differ_are_unique(items):
    assert score(items, json_schema={"uniqueItems": True}) == 1.0


def test_unique_items_are_told_without_comparing_each_with_each(monkeypatch):
    def compared(*_):
        raise AssertionError("quadratic")

    monkeypatch.setattr("jsonschema._utils.equal", compared)
    monkeypatch.setattr("jsonschema._keywords.uniq", compared)
    monkeypatch.setattr("jsonschema._keywords.equal", compared)
    many = json.dumps([{"a": number} for number in range(1_500)])
    assert score(many, json_schema={"uniqueItems": True, "items": {"enum": [{"a": n} for n in range(2_000)]}}) == 1.0


EITHER = {"anyOf": [{"required": [key], "properties": {"a": {"$ref": "#"}}} for key in "zyx"] + [{"type": "null"}]}


def test_a_value_that_takes_too_much_work_does_not_fit():
    """The steps double and more with each level: without a limit this takes longer than the world is old."""
    assert score('{"a":' * 60 + "null" + "}" * 60, json_schema=EITHER, partial=0.5) == 0.5


def test_the_limit_of_work_is_that_of_each_value():
    rule = Json(Json.Options(json_schema={"items": {"type": "integer"}}), HERE)
    text = json.dumps([1] * (MAX_STEPS * 2 // 3))
    assert [rule.judge_one(Sample(text)).score for _ in range(3)] == [1.0] * 3
    assert rule.judge_one(Sample(json.dumps([1] * (MAX_STEPS + 1)))).score == 0.0


def test_complaints_that_quote_a_large_value_count_as_work():
    schema = {"anyOf": [{"type": "integer"}] * 1_000 + [{}]}
    assert score('"short"', json_schema=schema) == 1.0
    assert score(json.dumps([1] * 10_000), json_schema=schema) == 0.0


@pytest.mark.parametrize("inside", ["\u2028", "\u0085", "\u2029", "\x0b", "\x0c", "\x1c"])
def test_other_line_ends_of_unicode_are_part_of_a_text_in_a_fence(inside):
    told = json.dumps({"a": f"```{inside}```"}, ensure_ascii=inside < " ")
    assert score(f"```json\r\n{told}\r\n```", fenced="need") == 1.0


def test_a_value_as_deep_as_may_be_is_compared_with_a_schema_that_refers_to_itself():
    levels = (MAX_DEPTH - 1) // 2
    assert score('{"kids":[' * levels + "{}" + "]}" * levels, json_schema=TREE) == 1.0


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "objekt"}, "type: 'objekt' is not valid"),
        ({"properties": {"a": {"type": 5}}}, "properties/a/type: "),
        ({"required": "a"}, "required: 'a' is not of type 'array'"),
        ({"pattern": "("}, "pattern: '(' is not a 'regex'"),
        ({"pattern": "^(?=a)"}, "pattern '^(?=a)': invalid perl operator: (?= (RE2's syntax: no look-around"),
        ({"items": {"patternProperties": {"^(?!a)": {}}}}, "no look-around, no back-references"),
        ({"pattern": "(a)\\1"}, "no look-around, no back-references"),
        (
            {"items": {"unevaluatedProperties": False}, "$defs": {"x": {"patternProperties": {"^(a+)+$": {}}}}},
            "unevaluatedProperties together with patternProperties",
        ),
        ({"$defs": {"x": {"$schema": "http://json-schema.org/draft-07/schema#"}}}, "$schema may stand at the top only"),
        ({"$ref": "https://example.org/x.json"}, "leads out of the schema, and nothing is fetched"),
        ({"items": {"$ref": "other.json#/a"}}, "leads out of the schema"),
        ({"$ref": "#/$defs/nope"}, "leads nowhere"),
        ({"$ref": "#"}, "refers to itself without end"),
        ({"allOf": [{"$ref": "#"}]}, "refers to itself without end"),
    ],
)
def test_a_schema_that_cannot_be_applied_is_refused_with_its_place(schema, told):
    with pytest.raises(ValidationError) as caught:
        Json.Options(json_schema=schema)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    "schema",
    [
        {"$id": "https://example.org/root", "$defs": {"x": {"type": "object"}}, "$ref": "#/$defs/x"},
        {"$defs": {"a": {"$id": "https://example.org/a", "type": "object"}}, "$ref": "https://example.org/a"},
        {"$ref": "https://json-schema.org/draft/2020-12/schema"},
    ],
)
def test_references_that_need_no_fetching_are_followed(schema):
    assert score("{}", json_schema=schema) == 1.0
    assert score("1", json_schema=schema) == 0.0


def test_a_schema_may_stand_in_a_file_and_workers_get_what_was_read(tmp_path):
    (tmp_path / "person.json").write_text(json.dumps(PERSON))
    rule = Json(Json.Options(schema_file="person.json"), RuleContext("r", tmp_path))
    (tmp_path / "person.json").unlink()
    options = pickle.loads(pickle.dumps(rule._pooled_options))  # noqa: S301
    for each in (rule, Json(options, RuleContext("r", tmp_path))):
        assert each.judge_one(Sample('{"name": "Ada"}')).score == 1.0
        assert each.judge_one(Sample('{"nam": "Ada"}')).score == 0.0
        assert each.identity() == rule.identity()


def test_another_schema_in_the_file_is_another_identity(tmp_path):
    identities = []
    for schema in ({"type": "object"}, {"type": "array"}):
        (tmp_path / "s.json").write_text(json.dumps(schema))
        identities.append(Json(Json.Options(schema_file="s.json"), RuleContext("r", tmp_path)).identity())
    assert identities[0] != identities[1]


@pytest.mark.parametrize("content", ["{", "[]", '{"type": "objekt"}', "[" * 100_000, "\udcff"])
def test_a_file_without_a_sound_schema_is_refused_by_name(tmp_path, content):
    (tmp_path / "s.json").write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(ConfigError, match=r"rewards\.r\.json\.schema_file: .*s\.json"):
        Json(Json.Options(schema_file="s.json"), RuleContext("r", tmp_path))


def test_two_schemas_are_refused():
    with pytest.raises(ValidationError, match="either json_schema or schema_file"):
        Json.Options(json_schema={}, schema_file="s.json")


def test_a_conversation_says_which_view_it_needs():
    assert Json(Json.Options(), HERE).judge_one(Sample([])).status is Status.FAILED


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("fenced", ["allow", "need", "refuse"])
def test_no_text_breaks_it(bomb, fenced):
    assert score(BOMBS[bomb], fenced=fenced, json_schema=TREE) == 0.0


@given(ANY_TEXT)
def test_every_text_has_the_same_score_twice(text):
    assert score(text, partial=0.5, json_schema=PERSON) in (0.0, 0.5, 1.0)
    assert score(text) == score(text)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(PLAIN, st.sampled_from([None, 2]))
def test_whatever_python_writes_as_json_is_json(value, indent):
    text = json.dumps(value, indent=indent, ensure_ascii=indent is None)
    assert score(text) == 1.0
    assert score(f"Here it is:\n```json\n{text}\n```") == 1.0
