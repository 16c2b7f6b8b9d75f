"""YAML with line marks: what is read, what is refused, and that no text can hang or crash the reader."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.configfile import ConfigFileError, dotted, parse, read


def test_scalars_mean_what_they_say():
    text = "{a: no, b: 1:30, c: 2026-01-01, d: 1e-4, e: 5, f: '5', g: true, h: ~, i: 0.5, j: 30m, k: -.inf, l: }"
    assert parse(text, "f").value == {
        "a": "no",
        "b": "1:30",
        "c": "2026-01-01",
        "d": 1e-4,
        "e": 5,
        "f": "5",
        "g": True,
        "h": None,
        "i": 0.5,
        "j": "30m",
        "k": float("-inf"),
        "l": None,
    }


@pytest.mark.parametrize("number", ["1e-5", "1E-5", "1.e-5", ".1e-4", "+1e-05"])
def test_a_learning_rate_is_a_number_however_it_is_written(number):
    assert parse(f"learning_rate: {number}", "f").value == {"learning_rate": 1e-5}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e3", 1000.0),
        ("010", 10),
        ("0x1f", 31),
        ("0o17", 15),
        ("-7", -7),
        ("1.", 1.0),
        ("1_000", "1_000"),
        ("on", "on"),
        ("null", None),
        ("127.0.0.1:8470", "127.0.0.1:8470"),
    ],
)
def test_a_scalar_has_the_type_that_it_looks_like(text, value):
    found = parse(f"key: {text}", "f").value["key"]
    assert found == value
    assert type(found) is type(value)


def test_every_value_knows_its_line():
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - {d: 2}\n", "f")
    assert {dotted(place): mark.line for place, mark in document.marks.items()} == {
        "a": 1,
        "a.b": 2,
        "a.c": 3,
        "a.c[0]": 4,
        "a.c[1]": 5,
        "a.c[1].d": 5,
    }


def test_an_alias_is_followed_and_keeps_the_line_of_its_anchor():
    document = parse("a: &x\n  b: 1\nc: *x\n", "f")
    assert document.value["c"] == {"b": 1}
    assert document.marks["c",].line == 3
    assert document.marks["c", "b"].line == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "f.yaml:3: a: is given twice, first in line 1: keep one"),
        ("x:\n  a: 1\n  'a': 3\n", "f.yaml:3: x.a: is given twice, first in line 2: keep one"),
        (
            "a: !!python/name:os.system x",
            "f.yaml:1: a: has the tag tag:yaml.org,2002:python/name:os.system: tags are not",
        ),
        ("a: &b {}\nc:\n  <<: *b", "f.yaml:3: c.<<: merge keys are not read: write the keys out"),
        ("!!python/name:os.system a: 1", "f.yaml:1: a: has the tag tag:yaml.org,2002:python/name:os.system"),
        ("? [a]\n: 1", "f.yaml:1: a key must be text, not a list or a mapping"),
    ],
)
def test_a_slip_in_valid_yaml_is_noted_with_its_line(text, message):
    (problem,) = parse(text, "f.yaml").problems
    assert str(problem).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b: c", "f.yaml:1:5: is no YAML: mapping values are not allowed in this context"),
        ("a:\n\t- b", "found character that cannot start any token: a tab, where YAML wants spaces"),
        ("a: [1, 2", "while parsing a flow sequence (begun in line 1), "),
        ("a: 1\n---\nb: 2", "f.yaml:2:1: a second document begins here (---): one file has one"),
        ("a: *x", "f.yaml:1:4: the alias *x has no anchor &x above it"),
        ("a: &x [*x]", "f.yaml:1:8: the alias *x stands inside what it names"),
        ("a: 1\nb: \x00", "f.yaml:2: the character '\\x00' can't stand in YAML: remove it"),
        ("[" * 100_000, "f.yaml:1:52: is nested deeper than 50 levels"),
    ],
)
def test_what_is_no_yaml_is_refused_with_line_and_column(text, message):
    with pytest.raises(ConfigFileError) as caught:
        parse(text, "f.yaml")
    assert str(caught.value).startswith("f.yaml:")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "leaf", ["[x, x, x, x, x, x, x, x, x]", "{a: 1, b: 1, c: 1, d: 1, e: 1, f: 1, g: 1, h: 1, i: 1}"]
)
def test_a_bomb_of_nested_aliases_is_refused_at_once(leaf):
    levels = [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    begun = time.monotonic()
    with pytest.raises(ConfigFileError, match="holds more than 50000 values once aliases are followed"):
        parse("\n".join([f"a0: &a0 {leaf}", *levels]), "f.yaml")
    assert time.monotonic() - begun < 20


def test_depth_that_aliases_pile_up_is_refused():
    levels = [f"a{i}: &a{i} {'[' * 40}*a{i - 1}{']' * 40}" for i in range(1, 40)]
    with pytest.raises(ConfigFileError, match=r"f\.yaml:2: is nested deeper than 50 levels once aliases are followed"):
        parse("\n".join(["a0: &a0 x", *levels]), "f.yaml")


def test_files_that_cannot_be_read_say_why(tmp_path):
    latin, large = tmp_path / "latin.yaml", tmp_path / "large.yaml"
    latin.write_bytes(b"a: 1\nb: caf\xe9\n")
    large.write_text("#" * (2 << 20))
    messages = {
        tmp_path / "none.yaml": "none.yaml: there is no such file",
        tmp_path: ": is a folder; name the YAML file in it",
        latin: "latin.yaml:2: is not UTF-8 (byte 0xe9): save it as UTF-8",
        large: "large.yaml: is larger than 1 MiB; a configuration has some kilobytes",
        tmp_path / "a\0b": ": can't be read: ",
    }
    for path, message in messages.items():
        with pytest.raises(ConfigFileError) as caught:
            read(path)
        assert message in str(caught.value)


def test_an_absent_file_is_told_with_the_remedy(tmp_path):
    with pytest.raises(ConfigFileError) as caught:
        read(tmp_path / "none.yaml", if_absent="`make config` writes one")
    assert str(caught.value) == f"{tmp_path}/none.yaml: there is no such file; `make config` writes one"


def test_a_byte_order_mark_is_no_part_of_the_first_key(tmp_path):
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(path).value == {"a": 1}


PIECES = st.sampled_from(
    [*"[]{}:,-?&*!|>'\"%@`#~ \t\n", "a", "b", "1", "&a ", "*a", "- ", ": ", "---\n", "<<: ", "\n  "]
)


def said_of(reading, what):
    """Returns what reading says is wrong; an exception other than ConfigFileError ends the test."""
    try:
        return [str(problem) for problem in reading(what).problems]
    except ConfigFileError as error:
        return list(error.problems)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=60).map("".join) | st.text(max_size=200))
def test_any_text_is_read_or_refused_and_nothing_else(text):
    assert all(line.startswith("f.yaml:") for line in said_of(lambda text: parse(text, "f.yaml"), text))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_as_a_file_are_read_or_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("config") / "f.yaml"
    path.write_bytes(content)
    assert all(line.startswith(str(path)) for line in said_of(read, path))
