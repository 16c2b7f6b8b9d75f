"""What came of looking at one thing before a run, and how it is shown: one line, with a sign before it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from rich.console import Console


class Mark(Enum):
    """What came of looking; the value is its sign where a terminal shows more than ASCII."""

    FINE = "✓"
    UNUSUAL = "!"  # it can be done, but should be looked at: a warning
    WRONG = "✗"
    UNKNOWN = "-"  # it could not be looked at here


ASCII_SIGNS = {Mark.FINE: "ok", Mark.UNUSUAL: "WARNING", Mark.WRONG: "FAILED", Mark.UNKNOWN: "-"}
STYLES = {Mark.FINE: "green", Mark.UNUSUAL: "yellow", Mark.WRONG: "bold red", Mark.UNKNOWN: "dim"}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    mark: Mark
    text: str  # what was found; where it is wrong or unusual, with the remedy


def fine(text: str) -> Check:
    """Returns a check that passed."""
    return Check(Mark.FINE, text)


def unusual(text: str) -> Check:
    """Returns a check that passed with a warning."""
    return Check(Mark.UNUSUAL, text)


def wrong(text: str) -> Check:
    """Returns a check that failed."""
    return Check(Mark.WRONG, text)


def unknown(text: str) -> Check:
    """Returns a check that could not be made."""
    return Check(Mark.UNKNOWN, text)


def show(found: Iterable[Check], console: Console) -> bool:
    """Prints each check as a line and returns whether nothing is wrong; warnings are no fault."""
    utf8 = (console.encoding or "").lower().startswith("utf")
    well = True
    for check in found:
        sign = check.mark.value if utf8 else ASCII_SIGNS[check.mark]
        console.print(sign, style=STYLES[check.mark], end=" ")
        console.print(check.text, markup=False, highlight=False, soft_wrap=True)
        well = well and check.mark is not Mark.WRONG
    return well
