"""The lowest or the highest score of several other rewards.

    strictest: {min: [solved, polite, brevity]}
    either: {max: {parts: [by_rule, by_judge], missing_parts: skip}}

Columns: those of the parts. Range: follows from the parts'. Cost class: that of the dearest part.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import ClassVar

from pydantic import Field

from reward_server.options import Options
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.recipes.base import MissingParts, PartNames, Recipe
from reward_server.scorers.recipes.extents import Extent, hull


class ExtremeOptions(Options):
    """Options of the scorers `min` and `max`."""

    shorthand: ClassVar[str | None] = "parts"

    parts: PartNames = Field(description="names of other rewards")
    missing_parts: MissingParts = Field(
        "missing", description="a part that abstains: the whole is `missing`, or `skip` it and take one of the rest"
    )

    def rewards_used(self) -> Collection[str]:
        """Returns the parts' names."""
        return self.parts


class _Extreme(Recipe):
    """One of the parts' scores, at one end of them."""

    Options = ExtremeOptions
    _pick: Callable[..., float]

    def __init__(self, options: ExtremeOptions, context: ScorerContext) -> None:
        super().__init__(options.parts, context, options.missing_parts)

    def extent(self, parts: Mapping[str, Extent]) -> Extent:
        """Returns between what the extreme lies."""
        lows, highs = zip(*parts.values(), strict=True)
        return self._pick(lows), self._pick(highs)

    def range_of(self, parts: Mapping[str, Extent]) -> Extent:
        """Returns between what the extreme lies; of any of the parts where others may be skipped."""
        return hull(parts.values()) if self._skips else self.extent(parts)


class Min(_Extreme):
    """The lowest score of other rewards."""

    kind: ClassVar[str] = "min"
    _pick = staticmethod(min)


class Max(_Extreme):
    """The highest score of other rewards."""

    kind: ClassVar[str] = "max"
    _pick = staticmethod(max)
