"""What all rewards share that are made of other rewards.

A recipe says one thing of its own: between what the whole lies if its parts lie between these bounds (`extent`). From
that follow its score range, its score, and what it is worth where a completion breaks a part: the worst that any score of
that part could make of the whole. So it never pays to break a part, also where a part is subtracted, multiplied by
something negative, turned round, or the condition of a gate, and however deep it is nested.
"""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import islice
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, Field

from reward_server.domain import HEALTHY, Blame, Call, CostClass, Health, Needs, Sample, Status, Verdict, scored
from reward_server.errors import ConfigError
from reward_server.floor import FLOOR_FLAG
from reward_server.scorers.base import RewardPart, ScorerContext
from reward_server.scorers.recipes.combining import carried, follow, missing
from reward_server.scorers.recipes.extents import UNKNOWN, Extent, known

FROM_CHEAP_TO_DEAR: Final = (CostClass.TRIVIAL, CostClass.COMPUTE, CostClass.JUDGE)

MAX_PARTS: Final = 256
"""So many parts are told of one verdict: recipes of recipes may have more of them than anybody reads."""

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
MissingParts = Literal["missing", "skip"]


def _once_each(names: tuple[str, ...]) -> tuple[str, ...]:
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"{', '.join(twice)} stands here twice: name each part once")
    return names


PartNames = Annotated[tuple[str, ...], Field(min_length=2), AfterValidator(_once_each)]


class Recipe(abc.ABC):
    """A reward made of other rewards, each seen through its own view. Override `extent`.

    A whole with a missing part is missing: half of it would be a wrong number. It has failed if a part has, otherwise it
    has abstained. It is blamed on the completion only where every missing part is: part by part, since each part's own
    floor has stepped in before.
    """

    kind: ClassVar[str] = ""
    needs: Needs = Needs()
    score_range: Extent | None = None
    cost_class: CostClass = CostClass.TRIVIAL

    def __init__(self, names: Iterable[str], context: ScorerContext, missing_parts: MissingParts = "missing") -> None:
        self.name = context.reward_name
        self._parts: Mapping[str, RewardPart] = {name: context.reward(name) for name in names}
        self._skips = missing_parts == "skip"

    @abc.abstractmethod
    def extent(self, parts: Mapping[str, Extent]) -> Extent:
        """Returns between what the whole lies if its parts lie between these; without a part that is skipped."""

    def range_of(self, parts: Mapping[str, Extent]) -> Extent:
        """Returns between what all scores lie, from the parts' ranges."""
        return self.extent(parts)

    @property
    def asked_for_all(self) -> Iterable[RewardPart]:
        """Returns the parts that are asked about every sample."""
        return self._parts.values()

    @property
    def compares(self) -> bool:
        """Returns whether a verdict may depend on the samples beside it, as a part's may."""
        return any(part.compares for part in self._parts.values())

    async def start(self) -> None:
        """Takes over what the parts need, which some know only once they are started."""
        for part in self._parts.values():
            self.needs |= part.needs
        self.cost_class = max((part.cost_class for part in self._parts.values()), key=FROM_CHEAP_TO_DEAR.index)
        self.score_range = known(self.range_of({name: self.part_range(name) for name in self._parts}))

    async def close(self) -> None:  # noqa: B027  # of all recipes
        """Closes nothing: the parts are closed as rewards of their own."""

    def identity(self) -> Mapping[str, Any]:
        """Returns the parts' versions, and which of them have no number as their floor."""
        parts = {name: part.identity() for name, part in self._parts.items()}
        return {"parts": parts, "lowest": [name for name, part in self._parts.items() if part.floor_is_lowest]}

    def health(self) -> Health:
        """Returns that it can score, or which parts can't."""
        sick = [(name, health) for name, part in self._parts.items() if not (health := part.health()).serving]
        if not sick:
            return HEALTHY
        reason = "; ".join(f"{name}: {health.reason}" for name, health in sick)
        return Health(serving=False, reason=reason, refuses=any(health.refuses for _, health in sick))

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields each verdict as soon as its parts are there."""
        async with aclosing(follow(self._parts, samples, call)) as followed:
            async for index, verdicts in followed:
                yield index, self.verdict_on(samples[index], verdicts)

    def verdict_on(self, sample: Sample, verdicts: Mapping[str, Verdict]) -> Verdict:  # noqa: ARG002  # for overriding
        """Returns the verdict on one sample from those of the parts."""
        return self.combined(verdicts, self.extent)

    def combined(self, verdicts: Mapping[str, Verdict], extent: Callable[[Mapping[str, Extent]], Extent]) -> Verdict:
        """Returns what `extent` makes of one sample's parts, or why there is nothing."""
        carries = carried(verdicts)
        carries["parts"] = _with_their_parts(verdicts)
        misses = {name: each for name, each in verdicts.items() if each.score is None and not self._may_skip(each)}
        there = {name: self._extent_of(name, each) for name, each in verdicts.items() if each.score is not None}
        if misses or not there:
            misses = misses or dict(verdicts)
            reason = "; ".join(f"part {name!r} is missing: {miss.status_reason}" for name, miss in misses.items())
            return missing(reason, misses.values(), carries)
        worst, best = extent(there)
        verdict = scored(worst, **carries)
        return replace(verdict, ceiling=best) if FLOOR_FLAG in verdict.flags else verdict

    def part_range(self, name: str) -> Extent:
        """Returns between what a part's scores lie."""
        return self._parts[name].score_range or UNKNOWN

    def check_decides(self, key: str, name: str, at_least: float) -> None:
        """Raises `ConfigError` where a part's range says that all of its scores reach a bound, or none does."""
        low, high = self.part_range(name)
        if low < at_least <= high:
            return
        words = (
            f"nothing ever reaches it: {name!r} reaches {_exactly(high)} at most"
            if high < at_least
            else f"everything reaches it: {name!r} scores {_exactly(low)} at least"
        )
        raise ConfigError(f"rewards.{self.name}.{self.kind}.{key}: {_exactly(at_least)} decides nothing, {words}")

    def _extent_of(self, name: str, verdict: Verdict) -> Extent:
        """Returns between what a part lies: at its score, or anywhere above its floor if the completion breaks it.

        A floor that is declared as a number is taken for what it says.
        """
        score = verdict.score or 0.0
        if FLOOR_FLAG not in verdict.flags:
            return score, score
        part = self._parts[name]
        highest = part.score_range[1] if part.floor_is_lowest and part.score_range is not None else score
        return score, max(score, highest if verdict.ceiling is None else verdict.ceiling)

    def _may_skip(self, verdict: Verdict) -> bool:
        """Returns whether a missing part may be left out: its scorer looked and had nothing to say about this sample.

        Not one that is broken or away, which says nothing about the sample, and not one that the completion breaks.
        """
        return self._skips and verdict.status is Status.ABSTAINED and verdict.blame in (Blame.REFERENCE, Blame.UNKNOWN)


def _exactly(number: float) -> str:
    """Returns a number as people write it, and with all its digits where that would hide a difference."""
    return f"{number:g}" if float(f"{number:g}") == number else repr(number)


def _with_their_parts(verdicts: Mapping[str, Verdict]) -> dict[str, float | None]:
    """Returns the parts' scores by name, and those of their own parts as `part/its part`.

    A reward's name has no slash, so no two of them have one name.
    """
    parts = {name: verdict.score for name, verdict in verdicts.items()}
    for name, verdict in verdicts.items():
        for part in islice(verdict.parts, max(0, MAX_PARTS - len(parts))):
            parts[f"{name}/{part}"] = verdict.parts[part]
    return parts
