"""Tests of programs, in the forms in which datasets have them; and finding the program in a completion."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.scorers.code.cases import CallCase, CheckCase, StdinCase, Unreadable, read
from reward_server.scorers.code.comparing import Compare, same_text, same_value
from reward_server.scorers.code.finding import Where, blocks, program_in
from reward_server.scorers.code.hiding import Expected

HUMAN_EVAL = "def check(candidate):\n    assert candidate(1) == 2\n    assert candidate(2) == 3\n"
KODCODE = "from solution import f\n\ndef test_one():\n    assert f(1) == 1\n\ndef test_two():\n    assert f(2) == 2\n"

TELLS_ONE = CheckCase("_tell(f(1))", (Expected(1),))
TELLS_TWO = CheckCase("_tell(f(2))", (Expected(2),))


@pytest.mark.parametrize(
    ("tests", "cases"),
    [
        (["assert f(1) == 1", "assert f(2) == 2"], [TELLS_ONE, TELLS_TWO]),
        ("assert f(1) == 1\nassert f(2) == 2\n", [TELLS_ONE, TELLS_TWO]),
        ("x = f(1)\nassert x != 1", [CheckCase("x = f(1)\nassert x != 1")]),
        ({"inputs": ["1\n", "2\n"], "outputs": ["2\n", "4\n"]}, [StdinCase("1\n", "2\n"), StdinCase("2\n", "4\n")]),
        ({"inputs": [["1", "2"]], "outputs": [["3"]]}, [StdinCase("1\n2", "3")]),
        ({"inputs": [[1, [2]]], "outputs": [[3]], "fn_name": "f"}, [CallCase("f", [1, [2]], [3])]),
        ({"inputs": ["1\n[2]"], "outputs": ["3"], "fn_name": "f"}, [CallCase("f", [1, [2]], 3)]),
        ({"inputs": ["1\n[2]\n"], "outputs": ["3\n"], "fn_name": "f"}, [CallCase("f", [1, [2]], 3)]),
        ([{"input": "1", "output": "2"}], [StdinCase("1", "2")]),
        ([{"input": "1", "output": "2", "type": "stdin_stdout", "fn_name": None}], [StdinCase("1", "2")]),
        ([{"input": "1", "output": "2", "type": "function_call", "fn_name": "f"}], [CallCase("f", [1], 2)]),
        ({"language": "python", "test_cases": [{"input": "", "output": "hi"}]}, [StdinCase("", "hi")]),
        ({"inputs": [], "outputs": [], "test_cases": ["assert 1 < g()"]}, [CheckCase("assert 1 < g()")]),
    ],
)
def test_each_form_is_read_as_it_is_and_as_json(tests, cases):
    assert read(tests) == cases
    if not isinstance(tests, str):
        assert read(json.dumps(tests)) == cases


def test_a_checking_program_is_called_with_the_function_under_test():
    (case,) = read(HUMAN_EVAL, entry_point="inc")
    assert case.code.endswith("\ncheck(inc)")


def test_a_checking_program_without_a_name_cannot_be_read():
    with pytest.raises(Unreadable, match="entry_point_column"):
        read(HUMAN_EVAL)


def test_each_test_function_is_a_case():
    assert [case.code.rsplit("\n", 1)[-1] for case in read(KODCODE)] == ["test_one()", "test_two()"]


def test_the_setup_runs_before_each_assertion():
    assert read(["assert sqrt(4) == 2"], setup="from math import sqrt") == [
        CheckCase("from math import sqrt\n_tell(sqrt(4))", (Expected(2),))
    ]


@pytest.mark.parametrize(
    "tests",
    ["", "  ", None, 3, [], {}, {"inputs": ["1"]}, {"inputs": ["1"], "outputs": []}, [3], [{"input": "1"}], "[]", "{}"],
)
def test_what_cannot_be_read_is_said(tests):
    with pytest.raises(Unreadable):
        read(tests)


PROSE = "First:\n```python\nx = 1\n```\nthen\n~~~py\ny = 2\n~~~\nand the output:\n```text\n3\n```\n"


@pytest.mark.parametrize(
    ("text", "where", "program"),
    [
        (PROSE, Where.LAST_BLOCK, "y = 2"),
        (PROSE, Where.FIRST_BLOCK, "x = 1"),
        (PROSE, Where.ALL_BLOCKS, "x = 1\n\ny = 2"),
        (PROSE, Where.WHOLE, PROSE),
        ("x = 1", Where.LAST_BLOCK, "x = 1"),
        ("x = 1", Where.FENCED, None),
        ("```text\nno program\n```", Where.LAST_BLOCK, None),
        ("```python\nx = 1", Where.LAST_BLOCK, "x = 1"),
        ("````python\nx = '''\n```\n'''\n````", Where.LAST_BLOCK, "x = '''\n```\n'''"),
        ("```python\n\n```", Where.LAST_BLOCK, None),
        ("   ```Python title=x\n   if x:\n     y = 1\n ```", Where.FENCED, "if x:\n  y = 1"),
        ("```py\nx = 1\n```\nOutput:\n```\n3\n```", Where.LAST_BLOCK, "x = 1"),
        ("<think>a</think><answer>```python\nx = 1\n```</answer>", Where.LAST_BLOCK, "x = 1"),
        ("<answer>\nx = 1\n</answer>", Where.LAST_BLOCK, "\nx = 1\n"),
        ("```python\nx = 1\n```\n<answer>see above</answer>", Where.LAST_BLOCK, "x = 1"),
        ("<answer>```python\nx = 1", Where.FENCED, "x = 1"),
        ("```\nx = 1\n```", Where.FENCED, "x = 1"),
        ("", Where.LAST_BLOCK, None),
        (" \n", Where.WHOLE, None),
    ],
)
def test_the_program_is_found_where_it_is_said_to_be(text, where, program):
    assert program_in(text, where) == program


@pytest.mark.parametrize("inside", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\u2028```\u2028"])
def test_other_line_ends_of_unicode_stay_in_the_program(inside):
    program = f"x = 'a{inside}b'\ny = 1"
    assert program_in(f"So:\r\n```python\r\n{program}\r\n```\r\n", Where.FENCED) == program


@given(st.text(st.sampled_from("`~ \npythonx=1")))
def test_any_text_has_a_program_or_none(text):
    for where in Where:
        found = program_in(text, where)
        assert found is None or found.strip()
    assert all(block.strip() for block in blocks(text))


@pytest.mark.parametrize(
    ("written", "expected", "how", "same"),
    [
        ("3 \n\n", "3", Compare.LINES, True),
        ("3\r\n4", "3\n4", Compare.LINES, True),
        (" 3", "3", Compare.LINES, False),
        ("3  4", "3 4", Compare.LINES, False),
        ("3\n4", "3 4", Compare.TOKENS, True),
        ("0.30000000004", "0.3", Compare.TOKENS, True),
        ("1000000001", "1000000002", Compare.TOKENS, False),
        ("nan", "0.3", Compare.TOKENS, False),
        ("3\n", "3", Compare.EXACT, False),
    ],
)
def test_output_is_compared_as_it_is_said(written, expected, how, same):
    assert same_text(written, expected, how) is same


@pytest.mark.parametrize(
    ("returned", "expected", "same"),
    [
        ("3", 3, True),
        ("3", [3], True),
        ("[3]", [3], True),
        ("[1, [2, 3]]", (1, (2, 3)), True),
        ("0.30000000004", 0.3, True),
        ("true", 1, False),
        ("1", True, False),
        ("true", True, True),
        ('{"1": [2]}', {1: [2]}, True),
        ('{"1": 2}', {"1": 2, "3": 4}, False),
        ("null", None, True),
        ("[" * 5_000 + "]" * 5_000, [], False),
        ("no JSON", "no JSON", False),
        ("1" * 5_000, 1, False),
    ],
)
def test_what_a_function_returned_is_compared_as_json(returned, expected, same):
    assert same_value(returned, expected) is same


def test_a_list_that_went_through_a_table_is_read_as_pythons():
    assert read("['assert f(1) == 1', 'assert f(2) == 2']") == read(["assert f(1) == 1", "assert f(2) == 2"])


@pytest.mark.parametrize(
    "tests",
    [
        ["add(1, 2) == 3"],
        "add(1, 2) == 3",
        ["print(add(1, 2))"],
        [""],
        ["# todo"],
        ["assert add(1, 2) == 3", "add(2, 2) == 4"],
        "[add(1, 2) == 3]",
    ],
)
def test_tests_that_no_program_could_fail_are_none(tests):
    with pytest.raises(Unreadable, match="asserts nothing"):
        read(tests)


@pytest.mark.parametrize("tests", ["not tests at all", '["assert add(1,2)==3"', ["assert add(1, 2) =="], "(" * 100_000])
def test_tests_that_are_no_python_are_no_programs_fault(tests):
    with pytest.raises(Unreadable, match="is no Python"):
        read(tests)


@pytest.mark.parametrize(
    "tests",
    [
        "import unittest\nclass T(unittest.TestCase):\n    def test(self):\n        self.assertEqual(f(1), 1)\nunittest.main()",
        "def test_it():\n    with pytest.raises(ValueError):\n        f(1)",
        "if f(1) != 1:\n    raise SystemExit(1)",
    ],
)
def test_tests_that_fail_in_other_ways_are_tests(tests):
    assert read(tests)
