"""Several judges on the same completions, and one score of theirs.

    rewards: {relevance: {jury: {judges: [strict, kind, brief], combine: median, quorum: 2}}}

Columns: those of the judges. Range: its `score_range`. Cost class: judge.
"""

from __future__ import annotations

import statistics
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from reward_server.domain import HEALTHY, Blame, Call, CostClass, Health, Needs, Sample, Verdict, scored
from reward_server.errors import ConfigError
from reward_server.floor import FLOOR_FLAG, floor_of
from reward_server.options import Options, ScoreRange
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.recipes.combining import carried, follow, missing

DISAGREEMENT: Final = "disagreement"
"""The flag of a completion over which the judges are apart, and the part that says how far."""

COMBINE: Final[Mapping[str, Callable[[Sequence[float]], float]]] = {
    "mean": statistics.fmean,
    "median": statistics.median,
    "min": min,
}


class JuryOptions(Options):
    """Options of the scorer `jury`."""

    shorthand: ClassVar[str | None] = "judges"

    judges: tuple[str, ...] = Field(min_length=2, description="names of judges of the configuration")
    combine: Literal["mean", "median", "min"] = Field("mean", description="what of their grades is the score")
    max_disagreement: float | None = Field(
        0.5,
        ge=0,
        le=1,
        description="judges that are further apart, highest less lowest grade, are flagged; null: never",
    )
    quorum: int | None = Field(
        None, ge=1, description="so many judges must have given a score; absent: more than half of them"
    )
    score_range: ScoreRange = Field((0.0, 1.0), description="score of the worst and of the best completion")

    @property
    def least(self) -> int:
        """Returns how many judges must have given a score."""
        return len(self.judges) // 2 + 1 if self.quorum is None else self.quorum

    def judges_used(self) -> Collection[str]:
        """Returns the judges' names."""
        return self.judges

    @field_validator("judges")
    @classmethod
    def _once_each(cls, judges: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in judges if judges.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} sits twice: each judge has one vote")
        if DISAGREEMENT in judges:
            raise ValueError(f"a judge on a jury can't be called {DISAGREEMENT}: a part of its verdicts is")
        return judges

    @model_validator(mode="after")
    def _can_be_met(self) -> Self:
        if self.quorum is not None and self.quorum > len(self.judges):
            raise ValueError(f"a quorum of {self.quorum} can't be met by {len(self.judges)} judges")
        return self


class Jury:
    """Scores by several judges, each of which grades through its own score range.

    Judges that have no grade are left out, as long as there is a quorum. But one that is missing because the completion
    breaks it counts as having given the reward's floor: otherwise it would pay to silence the strictest. Where the floor
    is `missing`, it is left out like any other.
    """

    kind: ClassVar[str] = "jury"
    Options = JuryOptions
    cost_class = CostClass.JUDGE
    whole_prompts: ClassVar[bool] = True  # as each of its judges would be shown them

    def __init__(self, options: JuryOptions, context: ScorerContext) -> None:
        if unknown := [name for name in options.judges if name not in context.judges]:
            known = ", ".join(f"`{name}`" for name in context.judges) or "none"
            raise ConfigError(
                f"rewards.{context.reward_name}.jury: there is no judge `{unknown[0]}` (there is: {known})"
            )
        self._options = options
        self._declared_floor = context.floor
        self._judges = {name: context.judges[name] for name in options.judges}
        self.score_range: tuple[float, float] | None = options.score_range

    @property
    def needs(self) -> Needs:
        """Returns what any of the judges reads."""
        needs = Needs()
        for judge in self._judges.values():
            needs |= judge.needs
        return needs

    @property
    def compares(self) -> bool:
        """Returns whether one of the judges grades by comparing the completions of a prompt."""
        return any(judge.method.compares for judge in self._judges.values())

    async def start(self) -> None:
        """Nothing to open: the server starts the engines that the judges ask."""

    async def close(self) -> None:
        """Nothing to close."""

    def identity(self) -> Mapping[str, Any]:
        """Returns what shapes the judges' scores, by judge."""
        return {name: judge.identity() for name, judge in self._judges.items()}

    def health(self) -> Health:
        """Returns whether enough judges can serve, and what is wrong with the others."""
        healths = {name: judge.health() for name, judge in self._judges.items()}
        serving = sum(health.serving for health in healths.values())
        reason = "; ".join(f"{name}: {health.reason}" for name, health in healths.items() if health.reason)
        if serving >= self._options.least:
            return Health(reason=reason) if reason else HEALTHY
        few = f"{serving} of {len(healths)} judges can serve, and it takes {self._options.least}"
        return Health(serving=False, reason=f"{few}: {reason}")

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields each verdict as soon as all judges have given theirs."""
        async with aclosing(follow(self._judges, samples, call)) as followed:
            async for index, verdicts in followed:
                yield index, self._combined(verdicts)

    def _combined(self, verdicts: Mapping[str, Verdict]) -> Verdict:
        """Returns the jury's verdict on one sample, or why there is none."""
        grades = {name: self._grade(name, each.score) for name, each in verdicts.items() if each.score is not None}
        misses = {name: verdict for name, verdict in verdicts.items() if verdict.score is None}
        carries = carried(verdicts)
        broken = [name for name, verdict in misses.items() if verdict.blame is Blame.COMPLETION]
        if len(grades) < self._options.least:
            reasons = "; ".join(f"{name}: {verdict.status_reason}" for name, verdict in misses.items())
            few = f"{len(grades)} of {len(verdicts)} judges gave a score, and it takes {self._options.least}"
            verdict = missing(f"{few}: {reasons}", misses.values(), carries)
            # A judge that lacks a reference lacks it for the whole group: that excuses nobody who silences the others.
            enough = len(grades) + len(broken) >= self._options.least
            known = {miss.blame for miss in misses.values()} <= {Blame.COMPLETION, Blame.REFERENCE}
            return replace(verdict, blame=Blame.COMPLETION) if broken and enough and known else verdict
        floor = floor_of(self._declared_floor, self.score_range)
        broken = broken if floor is not None else []
        apart = max(grades.values()) - min(grades.values())
        flags = [*carries["flags"], *([FLOOR_FLAG] if broken else [])]
        limit = self._options.max_disagreement
        flags += [DISAGREEMENT] if limit is not None and apart > limit else []
        low, high = self._options.score_range
        floors = [] if floor is None else [(floor - low) / (high - low)] * len(broken)
        grade = COMBINE[self._options.combine]([*grades.values(), *floors])
        return scored(
            low + grade * (high - low),
            "\n".join(filter(None, [carries["explanation"], *(_about(name, misses[name]) for name in broken)])),
            parts={**carries["parts"], DISAGREEMENT: apart},
            cost=carries["cost"],
            flags=tuple(dict.fromkeys(flags)),
        )

    def _grade(self, name: str, score: float) -> float:
        """Returns a judge's score as a grade from 0 to 1."""
        bounds = self._judges[name].score_range
        return min(1.0, max(0.0, (score - bounds[0]) / (bounds[1] - bounds[0])))


def _about(name: str, miss: Verdict) -> str:
    return f"{name}: counted as the floor, since the completion breaks it: {miss.status_reason}"
