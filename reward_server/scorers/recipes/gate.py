"""A cheap reward decides whether a dear one is asked at all.

    overall: {gate: {when: shape, at_least: 1, then: relevance}}
    strict: {gate: {when: shape, at_least: 1, then: relevance, otherwise: -1}}

Columns: those of the parts. Range: of `then` and `otherwise` together. Cost class: that of the dearest part.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar, Final

from pydantic import Field

from reward_server.domain import Call, Sample, Verdict
from reward_server.errors import ConfigError
from reward_server.options import Options
from reward_server.scorers.base import RewardPart, ScorerContext
from reward_server.scorers.recipes.base import Number, Recipe
from reward_server.scorers.recipes.combining import Streams
from reward_server.scorers.recipes.extents import Extent, hull

WHEN: Final = "when"
THEN: Final = "then"
OTHERWISE: Final = "otherwise"


class GateOptions(Options):
    """Options of the scorer `gate`."""

    when: str = Field(description="name of the reward that decides")
    at_least: Number = Field(description="it lets pass what scores this or more")
    then: str = Field(description="name of the reward that scores what passes; asked about nothing else")
    otherwise: Number | str | None = Field(
        None, description="score of what does not pass, or the name of a reward; absent: the lowest score of `then`"
    )

    def rewards_used(self) -> Collection[str]:
        """Returns the parts' names."""
        return dict.fromkeys([self.when, self.then, *([self.otherwise] if isinstance(self.otherwise, str) else [])])


@dataclass(slots=True)
class _Progress:
    """How far the verdict on one sample is."""

    branches: Sequence[str] = ()  # THEN, OTHERWISE, or both where the completion breaks `when`; none if that is missing
    awaited: int = 0  # so many verdicts are still to come
    verdicts: dict[str, Verdict] = field(default_factory=dict)  # by the part's name


class Gate(Recipe):
    """Asks one reward about what another lets pass, and scores the rest without it.

    What passes is asked about group by group, as soon as `when` is through with a group: so what compares completions
    sees those of one prompt together, and whom it sees never depends on the time. Where the completion breaks `when`, so
    that it might have passed or not, both ways are gone and the worse counts.
    """

    kind: ClassVar[str] = "gate"
    Options = GateOptions

    def __init__(self, options: GateOptions, context: ScorerContext) -> None:
        super().__init__(options.rewards_used(), context)
        self._options = options
        self._names = {WHEN: options.when, THEN: options.then}
        if isinstance(options.otherwise, str):
            self._names[OTHERWISE] = options.otherwise
        self._otherwise = options.otherwise if isinstance(options.otherwise, float) else None

    @property
    def asked_for_all(self) -> Iterable[RewardPart]:
        """Returns the reward that decides."""
        return (self._part(WHEN),)

    async def start(self) -> None:
        """Finds what does not pass scores. Raises `ConfigError` where nothing says so, or where all or none passes."""
        self.check_decides("at_least", self._names[WHEN], self._options.at_least)
        if self._options.otherwise is None:
            score_range = self._part(THEN).score_range
            if score_range is None:
                raise ConfigError(
                    f"rewards.{self.name}.gate.otherwise: the score range of {self._names[THEN]!r} is unknown: say what "
                    "a completion scores that does not pass"
                )
            self._otherwise = score_range[0]
        await super().start()

    def extent(self, parts: Mapping[str, Extent]) -> Extent:
        """Returns between what all scores lie."""
        return self._extent_of_branches((THEN, OTHERWISE), parts)

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields each verdict as soon as its parts are there."""
        found = [_Progress() for _ in samples]
        undecided = Counter(sample.group for sample in samples)
        asked: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))  # by group, then by branch
        async with aclosing(Streams()) as streams:
            streams.add(WHEN, self._part(WHEN).score(samples, call))
            async with aclosing(streams.read()) as read:
                async for role, index, verdict in read:
                    progress, group = found[index], samples[index].group
                    progress.verdicts[self._names[role]] = verdict
                    if role == WHEN:
                        self._decide(progress, verdict)
                        for branch in progress.branches:
                            if branch in self._names:
                                asked[group][branch].append(index)
                        undecided[group] -= 1
                        if not undecided[group]:
                            for branch, indexes in asked.pop(group, {}).items():
                                streams.add(branch, self._part(branch).score_some(samples, sorted(indexes), call))
                    else:
                        progress.awaited -= 1
                    if not progress.awaited:
                        yield index, self._verdict_of(progress)

    def _decide(self, progress: _Progress, verdict: Verdict) -> None:
        """Notes which ways a sample goes, and how many verdicts are to come on them."""
        if verdict.score is None:
            return
        low, high = self._extent_of(self._names[WHEN], verdict)
        passes, fails = high >= self._options.at_least, low < self._options.at_least
        progress.branches = [branch for branch, open_ in ((THEN, passes), (OTHERWISE, fails)) if open_]
        progress.awaited = sum(branch in self._names for branch in progress.branches)

    def _verdict_of(self, progress: _Progress) -> Verdict:
        return self.combined(progress.verdicts, lambda parts: self._extent_of_branches(progress.branches, parts))

    def _extent_of_branches(self, branches: Sequence[str], parts: Mapping[str, Extent]) -> Extent:
        number = self._otherwise or 0.0
        return hull(parts[self._names[each]] if each in self._names else (number, number) for each in branches)

    def _part(self, role: str) -> RewardPart:
        return self._parts[self._names[role]]
