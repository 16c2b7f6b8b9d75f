"""Another reward on another scale: cut off at bounds, or mapped from one range to another.

    capped: {clip: {of: rambling, high: 1}}
    grade: {rescale: {of: reward_model, from: [-5, 5]}}            # to 0 … 1; outside of `from`: cut off
    penalty: {rescale: {of: rambling, to: [0, -1]}}                # turned round: a high score is bad

Columns: those of the part. Range: `to`, or what the bounds leave of the part's. Cost class: the part's.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import ClassVar, Self

from pydantic import Field, field_validator, model_validator

from reward_server.errors import ConfigError
from reward_server.options import Options, ScoreRange
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.recipes.base import Number, Recipe
from reward_server.scorers.recipes.extents import Extent, known


class _OfOne(Options):
    """What options of one part share."""

    of: str = Field(description="name of another reward")

    def rewards_used(self) -> Collection[str]:
        """Returns the part's name."""
        return (self.of,)


class ClipOptions(_OfOne):
    """Options of the scorer `clip`."""

    low: Number | None = Field(None, description="lower scores become this")
    high: Number | None = Field(None, description="higher scores become this")

    @model_validator(mode="after")
    def _bounds_something(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("give low, high, or both")
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ValueError(f"low must be less than high; here they are {self.low:g} and {self.high:g}")
        return self


class Clip(Recipe):
    """Another reward, cut off at bounds."""

    kind: ClassVar[str] = "clip"
    Options = ClipOptions

    def __init__(self, options: ClipOptions, context: ScorerContext) -> None:
        super().__init__([options.of], context)
        self._options = options

    def extent(self, parts: Mapping[str, Extent]) -> Extent:
        """Returns between what the score lies."""
        low, high = parts[self._options.of]
        return self._clipped(low), self._clipped(high)

    def _clipped(self, score: float) -> float:
        low, high = self._options.low, self._options.high
        score = score if low is None else max(low, score)
        return score if high is None else min(high, score)


class RescaleOptions(_OfOne):
    """Options of the scorer `rescale`."""

    from_: ScoreRange | None = Field(
        None, alias="from", description="its scores that become the two of `to`; absent: its score range"
    )
    to: tuple[Number, Number] = Field((0.0, 1.0), description="what they become; the first may be the higher one")
    clip: bool = Field(default=True, description="scores outside of `from` are cut off; false: the line goes on")

    @field_validator("to")
    @classmethod
    def _differ(cls, to: tuple[float, float]) -> tuple[float, float]:
        if to[0] == to[1]:
            raise ValueError("its two numbers must differ")
        return to


class Rescale(Recipe):
    """Another reward, mapped from one range to another by a straight line."""

    kind: ClassVar[str] = "rescale"
    Options = RescaleOptions

    def __init__(self, options: RescaleOptions, context: ScorerContext) -> None:
        super().__init__([options.of], context)
        self._options = options
        self._from = options.from_ or (0.0, 1.0)

    async def start(self) -> None:
        """Takes the part's range where none is given. Raises `ConfigError` where there is none either."""
        if self._options.from_ is None:
            name = self._options.of
            found = known(self.part_range(name))
            if found is None or found[0] == found[1]:
                what = "is unknown" if found is None else "is a single score"
                raise ConfigError(
                    f"rewards.{self.name}.rescale: the score range of {name!r} {what}: give the scores that count, "
                    "as in `from: [0, 10]`"
                )
            self._from = found
        await super().start()

    def extent(self, parts: Mapping[str, Extent]) -> Extent:
        """Returns between what the score lies."""
        ends = [self._mapped(score) for score in parts[self._options.of]]
        return min(ends), max(ends)

    def _mapped(self, score: float) -> float:
        (low, high), (first, second) = self._from, self._options.to
        if self._options.clip:
            if score <= low:
                return first
            if score >= high:
                return second
        share = (score - low) / (high - low)
        mapped = first + share * (second - first)
        return min(max(first, second), max(min(first, second), mapped)) if self._options.clip else mapped
