"""What a verdict tells of an answer and its reference: "read '24', the reference is '72'", short whatever these are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

QUOTED_CHARS: Final = 40
"""So much is quoted of an answer and of a reference: a verdict never carries a whole completion."""

SHOWN_REFERENCES: Final = 2


def told(read: str | None, place: str | None, references: Sequence[str]) -> str:
    """Returns in words what was compared.

    Args:
        read: the answer, None where none was read.
        place: the text in which it was to stand, None where there was no such place.
        references: what it was compared with, quoted.
    """
    found = f"read {quoted(read)}" if read is not None else _unread(place)
    others = len(references) - SHOWN_REFERENCES
    wanted = " or ".join(references[:SHOWN_REFERENCES])
    return f"{found}, the reference is {wanted}" + (f" or {others} more" if others > 0 else "")


def _unread(place: str | None) -> str:
    if place is None:
        return "no answer found in it"
    return f"no answer could be read from {quoted(place)}" if place.strip() else "its answer is empty"


def quoted(text: str) -> str:
    """Returns the beginning of a text between quotes, in printable characters."""
    text = text[: 2 * QUOTED_CHARS].strip()  # nobody needs all of it to be stripped
    shown = text if len(text) <= QUOTED_CHARS else text[: QUOTED_CHARS - 1] + "\u2026"
    if not shown.isprintable():
        shown = "".join(each if each.isprintable() else " " if each.isspace() else "\ufffd" for each in shown)
    return f"'{shown}'"
