"""Takes what assertions expect out of them, so that it never enters the sandbox.

`assert add(1, 2) == 3` becomes `_tell(add(1, 2))` there and `== 3` here: a program can look at everything beside it, but the
3 is not there to be seen. This is done wherever an assertion stands in straight lines of a dataset's code, also in those
of `check(candidate)` and of test functions:

| assertion | told by the sandbox | compared here |
|---|---|---|
| `assert E == LITERAL`, either way round | the value of E | equal, as Python compares |
| `assert E is True` (False, None) | the value of E | the same |
| `assert math.isclose(E, NUMBER, rel_tol=NUMBER)` | the value of E | close |
| `assert abs(E - NUMBER) < NUMBER` | the value of E | close |
| `assert f(...)`, `assert not f(...)` | whether it is true | True, False |

All others stay as they are: in loops and branches, with `!=`, `<`, `in`, with anything computed on both sides.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, Final

TELL: Final = "_tell"
MAX_LITERAL_DEPTH: Final = 50
REMEMBERED: Final = 1024
"""Pieces of test code: those of a prompt come with each of its completions."""

_NO_LITERAL: Final = (ValueError, TypeError, RecursionError, MemoryError)
_COLLECTIONS: Final[dict[str, Callable[[Any], Any]]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "frozenset": frozenset,
}


class How(Enum):
    """How a value told is compared with the one expected."""

    EQUAL = "=="
    SAME = "is"
    CLOSE = "math.isclose"  # with both tolerances
    BELOW = "abs(a - b) <"  # the absolute tolerance


@dataclass(frozen=True, slots=True)
class Expected:
    """What a value told by the sandbox must be."""

    value: Any
    how: How = How.EQUAL
    relative: float = 0.0
    absolute: float = 0.0


@lru_cache(REMEMBERED)
def hidden(code: str) -> tuple[str, tuple[Expected, ...]]:
    """Returns a dataset's code that tells values in place of asserting them, and what they must be, in order.

    Code that is no Python, or has no such assertion, is returned as it is.
    """
    try:
        tree = ast.parse(code)
        found: list[Expected] = []
        if any(isinstance(each, ast.ImportFrom) and each.module == "__future__" for each in tree.body):
            return code, ()  # must come first, and what tells values comes before
        tree.body = list(_told(tree.body, found, _called(tree.body)))
        return (ast.unparse(ast.fix_missing_locations(tree)), tuple(found)) if found else (code, ())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return code, ()


def _called(body: Sequence[ast.stmt]) -> ast.FunctionDef | None:
    """Returns the function whose straight lines run once: the last line calls it, and nothing else names it."""
    last = body[-1].value if body and isinstance(body[-1], ast.Expr) else None
    if not isinstance(last, ast.Call) or not isinstance(last.func, ast.Name):
        return None
    name = last.func.id
    defined = [each for each in body if isinstance(each, ast.FunctionDef) and each.name == name]
    named = [each for part in body for each in ast.walk(part) if isinstance(each, ast.Name) and each.id == name]
    if len(defined) != 1 or len(named) != 1 or defined[0].decorator_list or _leaves(defined[0]):
        return None
    return defined[0]


def _leaves(function: ast.FunctionDef) -> bool:
    """Tells whether it may end before its last line, or is no plain function."""
    return any(isinstance(each, ast.Return | ast.Yield | ast.YieldFrom) for each in ast.walk(function))


def _told(body: Sequence[ast.stmt], found: list[Expected], called: ast.FunctionDef | None) -> Iterator[ast.stmt]:
    """Yields statements with their assertions turned into values told; adds what those must be."""
    after: list[Expected] = []
    for statement in body:
        if statement is called and called is not None:
            called.body = list(_told(called.body, after, None))
            yield called
        elif isinstance(statement, ast.Assert) and (part := _part(statement.test)) is not None:
            found.append(part[1])
            call = ast.Call(ast.Name(TELL, ast.Load()), [part[0]], [])
            yield ast.copy_location(ast.Expr(call), statement)
        else:
            yield statement
    found += after  # its call is the last line


def _part(test: ast.expr) -> tuple[ast.expr, Expected] | None:
    """Returns the expression of a test whose value is to be told, with what it must be; None where there is none."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and isinstance(test.operand, ast.Call):
        return _truth(test.operand), Expected(value=False, how=How.SAME)
    if isinstance(test, ast.Call):
        return _close(test) or (_truth(test), Expected(value=True, how=How.SAME))
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return _compared(test.left, test.ops[0], test.comparators[0])
    return None


def _compared(left: ast.expr, operator: ast.cmpop, right: ast.expr) -> tuple[ast.expr, Expected] | None:
    if isinstance(operator, ast.Is) and isinstance(right, ast.Constant) and isinstance(right.value, bool | None):
        return left, Expected(right.value, How.SAME)
    if isinstance(operator, ast.Eq) and (pair := _beside_literal(left, right)):
        return pair[0], Expected(pair[1])
    return _below(left, right) if isinstance(operator, ast.Lt) else None


def _close(call: ast.Call) -> tuple[ast.expr, Expected] | None:
    """Reads `math.isclose(E, NUMBER, rel_tol=NUMBER, abs_tol=NUMBER)`."""
    name = ast.unparse(call.func)
    pair = _beside_literal(*call.args) if name in ("math.isclose", "isclose") and len(call.args) == 2 else None  # noqa: PLR2004
    with suppress(ValueError, TypeError):
        given = {str(keyword.arg): float(ast.literal_eval(keyword.value)) for keyword in call.keywords}
        if (
            pair
            and _is_number(pair[1])
            and given.keys() <= {"rel_tol", "abs_tol"}
            and min(given.values(), default=0) >= 0
        ):
            close = Expected(pair[1], How.CLOSE, given.get("rel_tol", 1e-9), given.get("abs_tol", 0.0))
            return pair[0], close
    return None


def _below(left: ast.expr, right: ast.expr) -> tuple[ast.expr, Expected] | None:
    """Reads `abs(E - NUMBER) < NUMBER`."""
    if not (isinstance(left, ast.Call) and ast.unparse(left.func) in ("abs", "math.fabs") and len(left.args) == 1):
        return None
    difference = left.args[0]
    if isinstance(difference, ast.BinOp) and isinstance(difference.op, ast.Sub):
        pair, most = _beside_literal(difference.left, difference.right), _beside_literal(left, right)
        if pair and most and _is_number(pair[1]) and _is_number(most[1]):
            return pair[0], Expected(pair[1], How.BELOW, absolute=most[1])
    return None


def _beside_literal(one: ast.expr, other: ast.expr) -> tuple[ast.expr, Any] | None:
    """Returns the one of two expressions that is no literal, and the value of the one that is."""
    for told, literal in (one, other), (other, one):
        with suppress(*_NO_LITERAL):
            value = _literal(literal)
            return None if _is_literal(told) else (told, value)
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _truth(expression: ast.expr) -> ast.expr:
    """Returns the expression `not not E`: `bool` may be anything in the program's module."""
    return ast.UnaryOp(ast.Not(), ast.UnaryOp(ast.Not(), expression))


def _is_literal(node: ast.expr) -> bool:
    with suppress(*_NO_LITERAL):
        _literal(node)
        return True
    return False


def _literal(node: ast.expr) -> Any:
    """Returns the plain value of a literal, `set([1, 2])` included. Raises `ValueError` or `TypeError` for all else."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1 and not node.keywords:
        if make := _COLLECTIONS.get(node.func.id):
            return _plain(make(ast.literal_eval(node.args[0])), 0)
        raise ValueError("a call")
    return _plain(ast.literal_eval(node), 0)


def _plain(value: Any, depth: int) -> Any:
    """Returns a value that `values.same` can compare. Raises `ValueError` for another."""
    if depth > MAX_LITERAL_DEPTH or not isinstance(
        value, bool | int | float | str | bytes | None | list | tuple | set | frozenset | dict
    ):
        raise ValueError(f"{type(value).__name__} is not compared outside")
    if isinstance(value, float) and math.isnan(value):
        raise ValueError("equal to nothing")
    items: Any = ()
    if isinstance(value, dict):
        items = (*value.keys(), *value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        items = value
    for item in items:
        _plain(item, depth + 1)
    return value
