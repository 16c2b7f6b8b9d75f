"""Rewards made of others, opened as a server opens them, and leaves whose verdicts a test writes into the completion."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from small_rewards import config_of, rule

from reward_server.config import RewardConfig
from reward_server.domain import Blame, Call, Sample, Verdict, abstained, failed, scored
from reward_server.registry import SCORERS
from reward_server.rewards import Rewards
from reward_server.scoring import Selector

MISSES: Final[Mapping[str, Verdict]] = {
    "broken": failed("the completion breaks it", blame=Blame.COMPLETION),
    "no reference": abstained("no reference", blame=Blame.REFERENCE),
    "silent": abstained("nothing to say"),
    "crashed": failed("it crashed"),
    "away": abstained("its host is away", blame=Blame.OUTAGE),
}


def leaf(name: str, score_range: tuple[float, float] | None = (0.0, 1.0), **attributes: Any) -> type[Any]:
    """Returns a rule that says of a sample what `saying` has written there for it."""

    def judge_one(sample: Sample) -> Verdict:
        said = json.loads(str(sample.completion))[name]
        return MISSES[said] if isinstance(said, str) else scored(said)

    return rule(judge_one, score_range=score_range, **attributes)


def leaves(**ranges: tuple[float, float] | None) -> dict[str, type[Any]]:
    """Returns a leaf of each name and range."""
    return {name: leaf(name, score_range) for name, score_range in ranges.items()}


def saying(said: Mapping[str, float | str], **sample: Any) -> Sample:
    """Returns a sample on which each leaf gives this score, or this miss."""
    return Sample(json.dumps(dict(said)), **sample)


def made_of(
    scorers: Mapping[str, type[Any]],
    recipes: Mapping[str, Mapping[str, Any]],
    *,
    floors: Mapping[str, Any] | None = None,
) -> Rewards:
    """Returns the rewards of a configuration: each scorer by its name, then `{name: {kind: options}}`, not open yet."""
    config = config_of(scorers)
    rewards = dict(config.rewards)
    for name, body in recipes.items():
        ((kind, options),) = body.items()
        made = SCORERS[kind].Options.model_validate(options)
        rewards[name] = RewardConfig(name=name, kind=kind, options=made)
    rewards = {n: each.model_copy(update={"floor": (floors or {}).get(n, each.floor)}) for n, each in rewards.items()}
    kinds = {kind: SCORERS[kind] for body in recipes.values() for kind in body}
    return Rewards(config.model_copy(update={"rewards": rewards}), scorers={**scorers, **kinds})


async def verdicts_of(
    rewards: Rewards, samples: Sequence[Sample], *names: str, deadline_s: float = 5.0
) -> dict[str, list[Verdict]]:
    """Returns the verdicts of one call that asks for these rewards."""
    call = Call(deadline=time.monotonic() + deadline_s)
    scoring = rewards.begin([Selector(name) for name in names], samples, call)
    try:
        return {result.name: list(result.verdicts) for result in await scoring.results(call.deadline)}
    finally:
        scoring.close()


async def scores_of(
    scorers: Mapping[str, type[Any]], recipe: Mapping[str, Any], *said: Mapping[str, float | str], **parts: Any
) -> list[float | None]:
    """Returns what a recipe makes of what its leaves say."""
    async with made_of(scorers, {"it": recipe}, **parts) as rewards:
        found = await verdicts_of(rewards, [saying(each) for each in said], "it")
    return [verdict.score for verdict in found["it"]]


async def range_of(scorers: Mapping[str, type[Any]], recipe: Mapping[str, Any]) -> tuple[float, float] | None:
    """Returns the score range of a recipe."""
    async with made_of(scorers, {"it": recipe}) as rewards:
        return rewards.describe()[-1].score_range
