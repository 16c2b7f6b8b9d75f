"""How long before a deadline work is stopped, so that its end can still be told."""

from __future__ import annotations

from typing import Final

TELLING_SHARE: Final = 0.1
TELLING_S: Final = 2.0
"""Telling the end takes this share of the time left, but never more seconds than this."""


def before_deadline(left_s: float) -> float:
    """Returns how many of the seconds left to a deadline work may take where nothing is to follow it."""
    return left_s - min(TELLING_SHARE * left_s, TELLING_S)
