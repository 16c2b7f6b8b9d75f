"""A weighted sum of other rewards."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, model_validator

from reward_server.domain import HEALTHY, Call, CostClass, Health, Needs, Sample, Verdict, scored
from reward_server.floor import FLOOR_FLAG
from reward_server.options import Options
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.combining import carried, follow, missing

FROM_CHEAP_TO_DEAR: Final = (CostClass.TRIVIAL, CostClass.COMPUTE, CostClass.JUDGE)

Weight = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class SumOptions(Options):
    """What a sum is made of. In the configuration the names stand under `sum` itself: `sum: {brevity: 0.5}`."""

    parts: dict[str, Weight] = Field(min_length=1, description="names of other rewards and their weights")

    @model_validator(mode="before")
    @classmethod
    def _names_are_parts(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and not (len(value) == 1 and isinstance(value.get("parts"), Mapping)):
            return {"parts": value}
        return value

    def rewards_used(self) -> Collection[str]:
        """Returns the parts' names."""
        return self.parts


class Sum:
    """Adds up weighted scores of other rewards, each seen through its own view.

    A sum with a missing part is missing: half a sum would be a wrong number. It has failed if a part has, otherwise it
    has abstained. It is blamed on the completion only where every missing part is: part by part, since each part's own
    floor has stepped in before.
    """

    kind: ClassVar[str] = "sum"
    Options = SumOptions

    def __init__(self, options: SumOptions, context: ScorerContext) -> None:
        self._weights = dict(options.parts)
        self._parts = {name: context.reward(name) for name in self._weights}
        self.needs = Needs()
        self.score_range: tuple[float, float] | None = None
        self.cost_class = CostClass.TRIVIAL

    async def start(self) -> None:
        """Takes over what the parts need, which some know only once they are started."""
        for part in self._parts.values():
            self.needs |= part.needs
        self.score_range = self._range()
        self.cost_class = max((part.cost_class for part in self._parts.values()), key=FROM_CHEAP_TO_DEAR.index)

    async def close(self) -> None:
        """Closes nothing: the parts are closed as rewards of their own."""

    def identity(self) -> Mapping[str, Any]:
        """Returns the parts' versions, and which of them are worst at their highest score."""
        parts: dict[str, Any] = {name: part.identity() for name, part in self._parts.items()}
        penalties = [name for name in parts if self._is_penalty(name)]
        return {"parts": parts, "penalties": penalties} if penalties else parts

    def health(self) -> Health:
        """Returns that it can score, or which parts can't."""
        sick = [(name, health) for name, part in self._parts.items() if not (health := part.health()).serving]
        return Health(serving=False, reason="; ".join(f"{name}: {h.reason}" for name, h in sick)) if sick else HEALTHY

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields each sum as soon as its parts are there."""
        async with aclosing(follow(self._parts, samples, call)) as followed:
            async for index, verdicts in followed:
                yield index, self._combined(verdicts)

    def _combined(self, verdicts: Mapping[str, Verdict]) -> Verdict:
        """Returns the sum of one sample's parts, or why there is none."""
        total, misses = 0.0, {}
        for name, verdict in verdicts.items():
            if verdict.score is None:
                misses[name] = verdict
            else:
                total += self._weights[name] * self._counted(
                    name, verdict.score, verdict.flags
                )  # not sum(): from Python 3.12 on it rounds in another way
        if not misses:
            return scored(total, **carried(verdicts))
        reason = "; ".join(f"part {name!r} is missing: {verdict.status_reason}" for name, verdict in misses.items())
        return missing(reason, misses.values(), carried(verdicts))

    def _counted(self, name: str, score: float, flags: Collection[str]) -> float:
        """Returns a part's score as it counts: the worst for the sum where the completion breaks the part.

        What is subtracted is best when it is low: a floor at its low end would make it pay to break it.
        """
        bounds = self._parts[name].score_range
        return bounds[1] if bounds is not None and FLOOR_FLAG in flags and self._is_penalty(name) else score

    def _is_penalty(self, name: str) -> bool:
        """Returns whether a part is subtracted, and no number says what it counts where a completion breaks it."""
        return self._weights[name] < 0 and getattr(self._parts[name], "floor_is_lowest", False)

    def _range(self) -> tuple[float, float] | None:
        low = high = 0.0
        for name, weight in self._weights.items():
            bounds = self._parts[name].score_range
            if bounds is None:
                return None
            ends = (weight * bounds[0], weight * bounds[1])
            low, high = low + min(ends), high + max(ends)
        return low, high
