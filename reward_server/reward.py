"""A reward: one named recipe of the configuration, ready to score, and how other recipes use it as a part."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from reward_server import __version__
from reward_server.config import RewardConfig
from reward_server.domain import Call, CostClass, Health, Needs, Sample, Verdict
from reward_server.errors import ConfigError
from reward_server.floor import LOWEST, floor_of
from reward_server.options import Options
from reward_server.scorers.base import Rule, Scorer
from reward_server.scoring import Scoring, ScoringCall
from reward_server.views import View

VERSION_HEX_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class RewardInfo:
    """What a trainer is told of a reward."""

    name: str
    version: str
    kind: str
    needs: Needs
    score_range: tuple[float, float] | None
    cost_class: CostClass
    health: Health
    description: str
    floor: float | None = None  # score of a completion that itself breaks its grader; None = such a verdict is missing


class Reward:
    """A scorer with its view, its name and its version."""

    def __init__(self, config: RewardConfig, scorer: Scorer, parts: frozenset[str], origin: str = "") -> None:
        self.name = config.name
        self.kind = config.kind
        self.description = config.description
        self.scorer = scorer
        self.parts = parts  # names of the rewards that it is made of
        # Each part has a view of its own, so what is made of parts must pass on what was sent.
        self.view = View.MESSAGES if parts else config.view
        self.whole_prompts: bool = getattr(scorer, "whole_prompts", False)  # see `Scorer`
        # A rule that has not its own way to score many samples can be asked sample by sample.
        self.rule = scorer if isinstance(scorer, Rule) and type(scorer).score is Rule.score else None
        self._floor = config.floor
        self._origin = origin  # the distribution of a plug-in, and its version
        self._options = config.options.model_dump(mode="json")
        self._shape = config.options.shape() if isinstance(config.options, Options) else self._options
        self._identity: Mapping[str, Any] | None = None
        self._version = ""

    @property
    def columns_named(self) -> Mapping[str, str]:
        """Returns the columns that its own options name, by option."""
        options = self._options.items()
        return {key: name for key, name in options if key.endswith("_column") and isinstance(name, str)}

    @property
    def compares(self) -> bool:
        """Returns whether a verdict may depend on the samples beside it; assumed where nothing is known, see `Scorer`."""
        return bool(getattr(self.scorer, "compares", True))

    @property
    def asked_for_all(self) -> Iterable[Reward]:
        """Returns the parts that this reward asks about every sample that it is asked about, as far as it says."""
        parts: Iterable[Part] = getattr(self.scorer, "asked_for_all", ())
        return [part.reward for part in parts]

    @property
    def floor(self) -> float | None:
        """Returns the score of a completion that itself breaks its grader; None = such a verdict is missing."""
        return floor_of(self._floor, self.scorer.score_range)

    @property
    def floor_is_lowest(self) -> bool:
        """Returns whether the floor is declared as the low end of the range, whatever that is."""
        return self._floor == LOWEST

    def check_floor(self) -> None:
        """Raises `ConfigError` for a floor outside the score range, which is known once the scorer is started."""
        try:
            _ = self.floor
        except ValueError as error:
            raise ConfigError(f"rewards.{self.name}.floor: {error}") from None

    def version(self) -> str:
        """Returns the hash of all that shapes a score. It changes when the scorer's identity does."""
        identity = self.scorer.identity()
        if identity != self._identity:
            self._identity = deepcopy(identity)
            self._version = self._hash(identity)
        return self._version

    def health(self) -> Health:
        """Returns whether it can score now."""
        return self.scorer.health()

    def info(self) -> RewardInfo:
        """Returns what a trainer is told."""
        scorer = self.scorer
        return RewardInfo(
            self.name,
            self.version(),
            self.kind,
            scorer.needs,
            scorer.score_range,
            scorer.cost_class,
            self.health(),
            self.description,
            self.floor,
        )

    def _hash(self, identity: Mapping[str, Any]) -> str:
        shape = {
            "kind": self.kind,
            "options": self._shape,
            "view": self.view.value,
            "floor": self.floor,
            "identity": identity,
            "server": __version__,
        }
        if self._origin:
            shape["plugin"] = self._origin
        try:
            text = json.dumps(shape, sort_keys=True, separators=(",", ":"))
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"rewards.{self.name}: the identity of a scorer of kind {self.kind!r} is not JSON-able: {error}"
            ) from error
        return hashlib.sha256(text.encode()).hexdigest()[:VERSION_HEX_DIGITS]


class Part:
    """A reward as a scorer for another recipe. It takes samples as they were sent and applies the reward's own view.

    A reward that the call asks for too, or that is part of several recipes, is computed once.
    """

    kind: ClassVar[str] = "part"

    def __init__(self, reward: Reward, tasks: set[asyncio.Task[None]]) -> None:
        self.reward = reward
        self._tasks = tasks

    @property
    def needs(self) -> Needs:
        """Returns what the reward needs."""
        return self.reward.scorer.needs

    @property
    def score_range(self) -> tuple[float, float] | None:
        """Returns the reward's range."""
        return self.reward.scorer.score_range

    @property
    def floor_is_lowest(self) -> bool:
        """Returns whether what breaks the reward gets the low end of its range. Of a penalty that is the best end."""
        return self.reward.floor_is_lowest

    @property
    def compares(self) -> bool:
        """Returns whether the reward's verdict on a sample may depend on the samples beside it."""
        return self.reward.compares

    @property
    def cost_class(self) -> CostClass:
        """Returns the reward's cost class."""
        return self.reward.scorer.cost_class

    async def start(self) -> None:
        """Starts nothing: the reward is started as itself, before those that it is part of."""

    async def close(self) -> None:
        """Closes nothing: the reward is closed as itself."""

    def identity(self) -> Mapping[str, Any]:
        """Returns the reward's version, which stands for all that shapes its scores."""
        return {"version": self.reward.version()}

    def health(self) -> Health:
        """Returns the reward's health."""
        return self.reward.health()

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields the reward's verdicts."""
        shared = call.scoring if isinstance(call, ScoringCall) else None
        if shared is not None and shared.samples is samples:
            async for index, verdict in shared.arrivals(self.reward).follow():
                yield index, verdict
            return
        own = Scoring(samples, call, self._tasks)
        try:
            async for index, verdict in own.arrivals(self.reward).follow():
                yield index, verdict
        finally:
            own.close()

    async def score_some(
        self, samples: Sequence[Sample], indexes: Sequence[int], call: Call
    ) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields the reward's verdicts on these of the samples; nothing else is asked for.

        Where the call has the reward computed for all of its samples anyway, those verdicts are taken. Not so where it
        compares samples: among all of them it would say another thing, and a score must not depend on what else a call
        asks for.
        """
        shared = call.scoring if isinstance(call, ScoringCall) else None
        if self.compares or shared is None or shared.samples is not samples or not shared.computes(self.reward):
            async for position, verdict in self.score([samples[index] for index in indexes], call):
                yield indexes[position], verdict
            return
        async for index, verdict in shared.arrivals(self.reward).follow_some(indexes):
            yield index, verdict
