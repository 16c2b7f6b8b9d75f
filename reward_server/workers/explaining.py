"""Puts an exception of somebody's code into words.

Standard library only: worker processes import this.
"""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from typing import Final

MAX_MESSAGE_CHARS: Final = 1_000
LIBRARIES: Final = (
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")),
    str(Path(__file__).parent),
    "<frozen",
)
"""Where code lies that is not a person's own."""


class Explained(Exception):
    """An error whose message is written for people: it reaches them as it is, without its class and place."""


def explain(error: BaseException) -> str:
    """Returns the error's class, message and place in one line of bounded length."""
    try:
        message = str(error)
    except Exception as second:  # noqa: BLE001  # a person's own exception class may be broken
        message = f"(its message cannot be had: {type(second).__name__})"
    if len(message) > MAX_MESSAGE_CHARS:
        message = message[:MAX_MESSAGE_CHARS] + " ..."
    if isinstance(error, Explained):
        return message
    told = f"{type(error).__name__}: {message}" if message else type(error).__name__
    return told + _place(error)


def _place(error: BaseException) -> str:
    """Returns in brackets where it was raised: the innermost line of code that is not an installed library's."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(LIBRARIES):
            return f" ({Path(frame.filename).name}, line {frame.lineno}, in {frame.name})"
    return ""
