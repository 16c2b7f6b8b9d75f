"""Regular expressions that no text makes slow: RE2's, which have no look-around and no back-references."""

from __future__ import annotations

from typing import Any

import re2  # type: ignore[import-untyped]  # it comes without types


def compiled(regex: str, *, groups: bool = True) -> Any:
    """Returns the expression, compiled. Raises `re2.error` with what is wrong with it.

    Args:
        regex: the expression.
        groups: whether anybody reads what its groups match; finding that out takes many times as long.
    """
    options = re2.Options()
    options.log_errors = False
    options.never_capture = not groups
    return re2.compile(regex, options)


def complaint(error: re2.error) -> str:
    """Returns what is wrong with an expression, in RE2's words."""
    return error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
