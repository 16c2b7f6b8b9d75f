"""Keeps Reasoning Gym from executing what completions and datasets say.

Some of its tasks read an answer, or a formula of the entry, by Python's `eval` or sympy's `parse_expr`, which is `eval`
too. In the modules of these tasks the two names are given functions that read the same formulas and refuse all else,
by an exception that the tasks take for an answer that they cannot read. `refused` names tasks that nobody has looked at.
"""

from __future__ import annotations

import ast
import inspect
import sys
from types import ModuleType
from typing import Any, Final

import sympy
from sympy.parsing.sympy_parser import parse_expr as parse_any_expression

from reward_server.scorers.expressions import compiled

PACKAGE: Final = "reasoning_gym"
FUNCTIONS: Final = [
    "sin",
    "cos",
    "tan",
    "sec",
    "csc",
    "cot",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "exp",
    "log",
    "ln",
    "sqrt",
    "Abs",
    "Integral",
    "pi",
]

ARITHMETIC: Final = compiled(r"(?:0[xX][0-9a-fA-F]+|[0-9]+|[-+*/%&|^~<>() \t])+")
NUMBER: Final = r"0[xX][0-9a-fA-F]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
FORMULA: Final = compiled(rf"(?:\b(?:[A-Za-z]|{'|'.join(FUNCTIONS)})\b|{NUMBER}|[-+*/^(), \t\r\n])+")
"""Numbers, letters, functions by name. No quotes, no underscores, no attributes: nothing of Python's can be named."""

EXECUTES: Final = compiled(
    r"(?:^|[^\w.])(?:eval|exec|compile|__import__)\(|\b(?:parse_expr|sympify|pickle|subprocess|os\.system)\b"
)

READ_BY_EVAL: Final = (
    "algorithmic.binary_matrix",
    "algorithmic.number_sorting",
    "algorithmic.spiral_matrix",
    "algorithmic.string_insertion",
    "arithmetic.bitwise_arithmetic",
    "games.n_queens",
)
READ_BY_SYMPY: Final = {
    "algebra.intermediate_integration": "sympy",
    "algebra.polynomial_multiplication": "sp",
    "algebra.simple_integration": "sympy",
    "games.countdown": "parse_expr",
    "games.puzzle24": "parse_expr",
}
"""By module: the name through which it reaches sympy's `parse_expr`."""

MAKES_TASKS_ONLY: Final = ("arithmetic.basic_arithmetic", "code.codeio", "logic.propositional_logic")
"""These execute what they have made themselves while they make a task, or have a harmless function of such a name."""


class GuardedSympy(ModuleType):
    """Is sympy, with a `parse_expr` that executes nothing."""

    def __init__(self) -> None:
        super().__init__("sympy")

    def __getattr__(self, name: str) -> Any:
        """Returns what sympy has by that name."""
        return parse_formula if name == "parse_expr" else getattr(sympy, name)


def guard() -> None:
    """Puts the harmless functions in place, in the modules that are imported. May be called again."""
    for name in READ_BY_EVAL:
        _put(name, "eval", evaluate)
    for name, attribute in READ_BY_SYMPY.items():
        _put(name, attribute, parse_formula if attribute == "parse_expr" else GuardedSympy())


def _put(module: str, name: str, value: Any) -> None:
    loaded = sys.modules.get(f"{PACKAGE}.{module}")
    if loaded is not None:
        vars(loaded)[name] = value


def refused(dataset: type[Any]) -> bool:
    """Returns whether a task's module seems to execute texts and is none of those that are guarded or were looked at."""
    module = dataset.__module__.removeprefix(f"{PACKAGE}.")
    if module in READ_BY_EVAL or module in READ_BY_SYMPY or module in MAKES_TASKS_ONLY:
        return False
    return EXECUTES.search(inspect.getsource(sys.modules[dataset.__module__])) is not None


def evaluate(text: str) -> Any:
    """Returns the value of a Python literal or of arithmetic with whole numbers; raises `ValueError` for all else."""
    if ARITHMETIC.fullmatch(text):
        return eval(text, {"__builtins__": {}})  # noqa: S307  # numbers and operators
    return ast.literal_eval(text)


def parse_formula(text: str, *args: Any, **settings: Any) -> Any:
    """Returns what sympy reads from a formula; raises `ValueError` for what is none."""
    if not isinstance(text, str) or not FORMULA.fullmatch(text):
        raise ValueError("that is no formula")
    return parse_any_expression(text, *args, **settings)
