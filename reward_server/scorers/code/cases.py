"""What a program is tested with, read from the forms in which datasets have it.

| form | as in | example |
|---|---|---|
| assertions | MBPP | `["assert add(1, 2) == 3", ...]`, or one text of such lines |
| a program that checks | HumanEval, KodCode | `"def check(candidate): ..."` with the function's name in a column, or `def test_...` |
| inputs and outputs | APPS, TACO, verl | `{"inputs": [...], "outputs": [...]}`, with `"fn_name"` for calls of a function |
| cases | open-r1 | `{"test_cases": [{"input": ..., "output": ..., "type": "stdin_stdout", "fn_name": ...}]}`, or that list |

Each may be JSON, or a list as Python writes it, in a text.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

from reward_server.scorers.code.hiding import Expected, hidden


class Unreadable(ValueError):
    """The tests of a sample are in no form that is known; the message says what was found."""


@dataclass(frozen=True, slots=True)
class StdinCase:
    """The program reads a text and writes one."""

    stdin: str
    stdout: str


@dataclass(frozen=True, slots=True)
class CallCase:
    """A function of the program is called; what it returns is compared as JSON."""

    function: str
    arguments: Sequence[Any]
    returns: Any


@dataclass(frozen=True, slots=True)
class CheckCase:
    """Code that runs after the program's own, raises where that is wrong, and tells values that are compared outside."""

    code: str
    expected: Sequence[Expected] = ()  # of the values told, in order; `reward_server.scorers.code.hiding`


Case = StdinCase | CallCase | CheckCase

FAILING_CALLS: Final = ("assert", "check", "raises", "fail", "exit")
"""Parts of the names of functions that may end a test: `self.assertEqual`, `check(candidate)`, `pytest.raises`."""

SHOWN_CHARS: Final = 80
PYTEST_FUNCTION: Final = re.compile(r"^def (test\w*)\(\s*\)", re.MULTILINE)  # on the dataset's text, not a completion's


def read(tests: Any, *, setup: str = "", entry_point: str = "") -> list[Case]:
    """Returns the cases, at least one. Raises `Unreadable`.

    Args:
        tests: what the dataset's column holds.
        setup: code that runs before each check, such as imports.
        entry_point: name of the function under test, for programs that define `check(candidate)`.
    """
    value = _parsed(tests)
    if isinstance(value, str):
        _look_at(value)
        cases: list[Case] = [CheckCase(*hidden(_joined(setup, code))) for code in _checks(value, entry_point)]
    elif isinstance(value, Mapping):
        cases = _of_mapping(value, setup)
    elif isinstance(value, Sequence):
        cases = [_of_entry(entry, setup) for entry in value]
    else:
        raise Unreadable(f"they are of type {type(value).__name__}")
    if not cases:
        raise Unreadable("there are none")
    return cases


def _parsed(tests: Any) -> Any:
    """Returns the value of a text that is JSON; anything else as it is."""
    if not isinstance(tests, str):
        return tests
    if not tests.strip():
        raise Unreadable("they are empty")
    if tests.lstrip()[:1] not in ("{", "["):
        return tests
    for read_as in (json.loads, ast.literal_eval):  # a list that went through a table is Python's, not JSON's
        try:
            return read_as(tests)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
    return tests  # a program may begin with a bracket


def _look_at(code: str) -> None:
    """Raises `Unreadable` for a check that is no program, or that no program could fail."""
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Unreadable(f"{_short(code)} is no Python: {error}") from None
    if not any(map(_can_fail, ast.walk(tree))):
        raise Unreadable(f"{_short(code)} asserts nothing, so any program would pass it")


def _can_fail(node: ast.AST) -> bool:
    if isinstance(node, ast.Assert | ast.Raise):
        return True
    if not isinstance(node, ast.Call):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return any(word in name.lower() for word in FAILING_CALLS)


def _short(code: str) -> str:
    return repr(code if len(code) <= SHOWN_CHARS else f"{code[:SHOWN_CHARS]}...")


def _checks(code: str, entry_point: str) -> list[str]:
    """Returns pieces of a checking program that can fail each by itself."""
    if re.search(r"^def check\(", code, re.MULTILINE):
        if not entry_point:
            raise Unreadable(
                "they define check(candidate): name the column with the function's name (entry_point_column)"
            )
        return [f"{code}\ncheck({entry_point})"]
    if functions := PYTEST_FUNCTION.findall(code):
        return [f"{code}\n{function}()" for function in functions]
    lines = [line for line in code.split("\n") if line.strip()]
    if all(line.startswith("assert ") for line in lines):
        return lines
    return [code]


def _of_mapping(value: Mapping[str, Any], setup: str) -> list[Case]:
    if isinstance(entries := value.get("test_cases"), Sequence) and not isinstance(entries, str):
        return [_of_entry(entry, setup) for entry in entries]
    inputs, outputs, function = value.get("inputs"), value.get("outputs"), value.get("fn_name")
    if not _is_list(inputs) or not _is_list(outputs):
        raise Unreadable(
            f"a mapping with the keys {', '.join(map(str, value)) or '(none)'}: inputs and outputs are wanted"
        )
    if len(inputs) != len(outputs):
        raise Unreadable(f"{len(inputs)} inputs and {len(outputs)} outputs")
    return [_pair(given, wanted, function) for given, wanted in zip(inputs, outputs, strict=True)]


def _of_entry(entry: Any, setup: str) -> Case:
    if isinstance(entry, str):
        _look_at(entry)
        return CheckCase(*hidden(_joined(setup, entry)))
    if isinstance(entry, Mapping) and "input" in entry and "output" in entry:
        is_call = entry.get("type") == "function_call" or (entry.get("type") is None and entry.get("fn_name"))
        return _pair(entry["input"], entry["output"], entry.get("fn_name") if is_call else None)
    raise Unreadable(f"one of them is {type(entry).__name__}, neither code nor a case with input and output")


def _pair(given: Any, wanted: Any, function: str | None) -> Case:
    if function:
        arguments = _parsed_lines(given) if isinstance(given, str) else given
        return CallCase(str(function), arguments if _is_list(arguments) else [arguments], _parsed_value(wanted))
    return StdinCase(_text(given), _text(wanted))


def _parsed_lines(text: str) -> list[Any]:
    """Returns the arguments in a text that has one of them, as JSON, in each line."""
    return [_parsed_value(line) for line in text.rstrip("\r\n").split("\n")]


def _parsed_value(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _text(value: Any) -> str:
    """Returns what a program reads or writes: a text, or lines of one."""
    if isinstance(value, str):
        return value
    if _is_list(value):
        return "\n".join(map(_text, value))
    return str(value)


def _is_list(value: Any) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _joined(setup: str, code: str) -> str:
    return f"{setup}\n{code}" if setup else code
