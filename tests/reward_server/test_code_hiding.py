"""What assertions expect is taken out of them and compared outside, exactly as Python would have compared."""

import json
import math
from collections import Counter, OrderedDict, namedtuple
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.scorers.code.hiding import Expected, How, hidden
from reward_server.scorers.code.values import TELLING, differing, same

Point = namedtuple("Point", "x y")  # noqa: PYI024  # as programs have it


def told(*values):
    """Returns what the code in the sandbox writes of values."""
    names = {}
    exec(TELLING, names)  # noqa: S102
    for value in values:
        names["_tell"](value)
    return json.dumps(names["_tell"].__defaults__[0])


def equal(value, expected):
    return differing(told(value), [Expected(expected)]) is None


@pytest.mark.parametrize(
    ("code", "left", "expected"),
    [
        ("assert f(1) == 2", "_tell(f(1))", [Expected(2)]),
        ("assert f(1) == 2, 'twice'", "_tell(f(1))", [Expected(2)]),
        ("assert [1, 'a'] == f()", "_tell(f())", [Expected([1, "a"])]),
        ("assert set(f(1)) == set([4, 5])", "_tell(set(f(1)))", [Expected({4, 5})]),
        ("assert f() == {'a': (-1, None)}", "_tell(f())", [Expected({"a": (-1, None)})]),
        ("assert f(1) is None", "_tell(f(1))", [Expected(None, How.SAME)]),
        ("assert f(1) is False", "_tell(f(1))", [Expected(value=False, how=How.SAME)]),
        ("assert f(1)", "_tell(not not f(1))", [Expected(value=True, how=How.SAME)]),
        ("assert not f(1)", "_tell(not not f(1))", [Expected(value=False, how=How.SAME)]),
        ("import m\nx = f(1)\nassert x == 1", "import m\nx = f(1)\n_tell(x)", [Expected(1)]),
        ("assert math.isclose(f(1), 0.5, rel_tol=0.01)", "_tell(f(1))", [Expected(0.5, How.CLOSE, 0.01)]),
        ("assert abs(f(1) - 0.5) < 1e-3", "_tell(f(1))", [Expected(0.5, How.BELOW, absolute=1e-3)]),
        (
            "def check(c):\n    assert c(1) == 2\n    assert c(2) is True\ncheck(f)",
            "def check(c):\n    _tell(c(1))\n    _tell(c(2))\ncheck(f)",
            [Expected(2), Expected(value=True, how=How.SAME)],
        ),
    ],
)
def test_what_is_expected_leaves_the_code(code, left, expected):
    assert hidden(code) == (left, tuple(expected))


@pytest.mark.parametrize(
    "code",
    [
        "assert f(1) != 2",
        "assert f(1) == g(2)",
        "assert 1 == 1",
        "assert f(1) == float('nan')",
        "assert f(1) is 2",
        "assert f(1) is not None",
        "assert f(1) < 2 == True",
        "assert f(1) == 1 == g(1)",
        "assert f(1) == {[]: 1}",
        "for x in range(3):\n    assert f(x) == 3",
        "if f(1):\n    assert f(2) == 3",
        "try:\n    assert f(1) == 1\nexcept ValueError: pass",
        "def check(c):\n    return\n    assert c(1) == 2\ncheck(f)",
        "def check(c):\n    assert c(1) == 2\ncheck(f)\ncheck(g)",
        "def check(c):\n    assert c(1) == 2\nx = check\ncheck(f)",
        "def check(c):\n    assert c(1) == 2\n    yield\ncheck(f)",
        "def never(c):\n    assert c(1) == 2\nf()",
        "from __future__ import annotations\nassert f(1) == 2",
        "assert f(1) == 2 2",
        "\0",
        "assert f(1) == " + "[" * 60 + "]" * 60,
        "assert f(1) == " + "(" * 5_000 + ")" * 5_000,
        "",
    ],
)
def test_what_cannot_be_told_apart_stays_as_it_is(code):
    assert hidden(code) == (code, ())


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers()
    | st.sampled_from([0.0, 1.0, -0.0, 0.5, math.inf, 2.0**53, 2**53, 2**53 + 1, 10**400])
    | st.text(max_size=3)
    | st.binary(max_size=2)
)
KEYS = SCALARS | st.tuples(SCALARS)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.sets(KEYS, max_size=3)
        | st.dictionaries(KEYS, inner, max_size=3)
    ),
    max_leaves=8,
)


@given(VALUES, VALUES)
def test_values_are_equal_outside_where_they_are_in_python(one, other):
    assert equal(one, one)
    assert equal(one, other) == (one == other)


@pytest.mark.parametrize(
    ("value", "expected", "is_equal"),
    [
        ([1, 2], (1, 2), False),
        ((1, 2), [1, 2], False),
        (Point(1, 2), (1, 2), True),
        (OrderedDict(a=1), {"a": 1}, True),
        (Counter("aab"), {"a": 2, "b": 1}, True),
        ({1: 2}.keys(), {1}, True),
        (frozenset([1]), {1}, True),
        (True, 1, True),
        (1.0, 1, True),
        (Decimal(3), 3, True),
        (Decimal("0.1"), 0.1, False),
        (Decimal("NaN"), 0, False),
        (Fraction(1, 2), 0.5, True),
        (range(2), [0, 1], False),
        (0.1 + 0.2, 0.3, False),
        (bytearray(b"x"), b"x", True),
        (10**4_200, 1, False),
        ({1: [2]}, {"1": [2]}, False),
        (object(), None, False),
    ],
)
def test_values_of_other_types_are_compared_as_python_does(value, expected, is_equal):
    assert equal(value, expected) is is_equal


class Anything(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


class AnyText(str):  # noqa: SLOT000  # as a program has it
    def __eq__(self, other):
        return True

    __hash__ = str.__hash__

    def __str__(self):
        raise ValueError


def test_an_object_that_is_equal_to_everything_is_taken_for_what_it_holds():
    assert not equal(Anything(1), 2)
    assert not equal([AnyText("x")], ["y"])
    assert equal(AnyText("x"), "x")


def test_a_value_is_told_as_it_was_when_its_line_ran():
    value = [1]
    names = {}
    exec(TELLING, names)  # noqa: S102
    names["_tell"](value)
    value.append(2)
    assert differing(json.dumps(names["_tell"].__defaults__[0]), [Expected([1])]) is None


@pytest.mark.parametrize(
    ("value", "expected", "holds"),
    [
        (1, Expected(value=True, how=How.SAME), False),
        (True, Expected(value=True, how=How.SAME), True),
        (None, Expected(None, How.SAME), True),
        (0, Expected(value=False, how=How.SAME), False),
        (0.501, Expected(0.5, How.CLOSE, 0.01), True),
        (0.52, Expected(0.5, How.CLOSE, 0.01), False),
        (math.nan, Expected(0.5, How.CLOSE, 0.01), False),
        (10**4_000, Expected(0.5, How.CLOSE, 0.01), False),
        (0.5005, Expected(0.5, How.BELOW, absolute=1e-3), True),
        (0.6, Expected(0.5, How.BELOW, absolute=1e-3), False),
        ("0.5", Expected(0.5, How.BELOW, absolute=1e-3), False),
    ],
)
def test_sameness_and_closeness_are_pythons(value, expected, holds):
    assert (differing(told(value), [expected]) is None) is holds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nothing",
        "[]",
        "[3, 3]",
        "{}",
        "[" * 5_000,
        "[" * 500 + "]" * 500,
        "9" * 5_000,
        '[{"int": 3}]',
        '[{"int": "zz"}]',
        '[{"ratio": ["1", "0"]}]',
        '[{"ratio": "12345"}]',
        '[{"ratio": [1]}]',
        '[{"set": [3]}]',
        '[{"tuple": [3], "set": [3]}]',
        '[{"dict": [3]}]',
        '[{"bytes": "x"}]',
        '[{"other": "int"}]',
        '["\\ud800"]',
        "[NaN]",
    ],
)
def test_whatever_a_program_writes_in_place_of_its_tests_values_is_wrong(text):
    for expected in (3, [3], (3,), {3}, {3: 3}, b"3", None):
        if text != '[{"set": [3]}]' or expected != {3}:
            assert differing(text, [Expected(expected)])


def test_a_set_that_says_one_thing_twice_is_not_two_things():
    assert not same({"set": [1, 1]}, {1, 2})
    assert not same({"dict": [[1, 1], [1, 1]]}, {1: 1, 2: 1})
