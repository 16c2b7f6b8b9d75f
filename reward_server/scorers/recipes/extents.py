"""Between what and what a score lies: the arithmetic in which all recipes are computed.

An extent is one number twice where a part has its score. Where a completion breaks a part, it is all that the part could
have said. What a recipe makes of such extents has the worst for the whole as its low end, however the part counts there:
added, subtracted, multiplied, or as the condition of a gate. From the parts' score ranges the same arithmetic makes the
whole's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

Extent = tuple[float, float]
"""The least and the most that a score can be."""

UNKNOWN: Final[Extent] = (-math.inf, math.inf)


def times(one: float, other: float) -> float:
    """Returns the product, 0 where either is 0: what is unknown, taken not once, adds nothing."""
    return 0.0 if one == 0.0 or other == 0.0 else one * other


def product(one: Extent, other: Extent) -> Extent:
    """Returns between what the product of two scores lies."""
    ends = [times(this, that) for this in one for that in other]
    return min(ends), max(ends)


def hull(extents: Iterable[Extent]) -> Extent:
    """Returns the smallest extent that holds all of these."""
    lows, highs = zip(*extents, strict=True)
    return min(lows), max(highs)


def known(extent: Extent) -> Extent | None:
    """Returns the extent as a score range: None where one of its ends is unknown."""
    return extent if math.isfinite(extent[0]) and math.isfinite(extent[1]) else None
