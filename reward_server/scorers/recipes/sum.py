"""A weighted sum of other rewards.

    overall: {sum: {brevity: 0.5, relevance: 1, rambling: -0.5}}
    lenient: {sum: {parts: {brevity: 0.5, solved: 1}, missing_parts: skip}}

Columns: those of the parts. Range: follows from the parts'. Cost class: that of the dearest part.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from reward_server.options import Options
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.recipes.base import MissingParts, Number, Recipe
from reward_server.scorers.recipes.extents import Extent, times


class SumOptions(Options):
    """What a sum is made of. In the configuration the names may stand under `sum` itself: `sum: {brevity: 0.5}`."""

    parts: dict[str, Number] = Field(min_length=1, description="names of other rewards and their weights")
    missing_parts: MissingParts = Field(
        "missing", description="a part that abstains: the whole is `missing`, or `skip` it and add up the rest"
    )

    @model_validator(mode="before")
    @classmethod
    def _names_are_parts(cls, value: Any) -> Any:
        given = value.get("parts", value) if isinstance(value, Mapping) else value
        names = [given] if isinstance(given, str) else given
        if isinstance(names, list) and names and all(isinstance(name, str) for name in names):
            weighted = ", ".join(f"{name}: 1.0" for name in names)
            raise ValueError(f"each part needs its weight: write sum: {{{weighted}}}")
        if isinstance(value, Mapping) and not isinstance(value.get("parts"), Mapping):
            return {"parts": value}
        return value

    def rewards_used(self) -> Collection[str]:
        """Returns the parts' names."""
        return self.parts


class Sum(Recipe):
    """Adds up weighted scores of other rewards."""

    kind: ClassVar[str] = "sum"
    Options = SumOptions

    def __init__(self, options: SumOptions, context: ScorerContext) -> None:
        super().__init__(options.parts, context, options.missing_parts)
        self._weights = dict(options.parts)

    def extent(self, parts: Mapping[str, Extent]) -> Extent:
        """Returns between what the sum lies."""
        low = high = 0.0
        for name, bounds in parts.items():  # in order, and not by sum(): from Python 3.12 on it rounds in another way
            ends = [times(self._weights[name], bound) for bound in bounds]
            low, high = low + min(ends), high + max(ends)
        return low, high

    def range_of(self, parts: Mapping[str, Extent]) -> Extent:
        """Returns between what the sum lies, with and without each of the parts that may be skipped."""
        if not self._skips:
            return self.extent(parts)
        low, high = self.extent({name: (min(0.0, low), max(0.0, high)) for name, (low, high) in parts.items()})
        return low, high
