"""Small scorers for tests of the server's core, and configurations made of them without a file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from reward_server.config import Drain, Limits, RewardConfig, ServerConfig, Workers
from reward_server.domain import HEALTHY, Call, CostClass, Health, Needs, Sample, Verdict, scored
from reward_server.options import Options
from reward_server.rewards import Rewards
from reward_server.scorers.base import Rule, ScorerContext
from reward_server.scorers.recipes.sum import Sum, SumOptions
from reward_server.views import View

Score = Callable[[Sequence[Sample], Call], AsyncIterator[tuple[int, Verdict]]]


class Chars(Rule):
    """Scores the number of characters."""

    kind = "chars"
    Options = Options

    def __init__(self, options: Options, context: ScorerContext) -> None:
        """Needs neither."""

    def judge_one(self, sample: Sample) -> Verdict:
        return scored(len(sample.completion))


def rule(judge_one: Callable[[Sample], Any], **attributes: Any) -> type[Rule]:
    """Returns a rule made of a function of one sample."""
    members = {"judge_one": lambda self, sample: judge_one(sample), **attributes}
    return type("ScriptedRule", (Chars,), members)


class Scripted:
    """A scorer whose every answer a test decides; `scripted` makes classes of it."""

    kind = "scripted"
    Options = Options
    needs = Needs()
    score_range: tuple[float, float] | None = None
    cost_class = CostClass.COMPUTE
    said_health = HEALTHY
    said_identity: Mapping[str, Any] = {}
    script: Any = None
    events: list[str]

    def __init__(self, options: Options, context: ScorerContext) -> None:
        self.name = context.reward_name

    async def start(self) -> None:
        self.events.append(f"start {self.name}")

    async def close(self) -> None:
        self.events.append(f"close {self.name}")

    def identity(self) -> Mapping[str, Any]:
        return type(self).said_identity

    def health(self) -> Health:
        return type(self).said_health

    def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        self.events.append(f"score {self.name}")
        return type(self).script(samples, call)


def scripted(script: Score, **attributes: Any) -> type[Scripted]:
    """Returns a scorer class with this `score`; its `events` note what happened to its instances."""
    return type("ScriptedScorer", (Scripted,), {"script": staticmethod(script), "events": [], **attributes})


def config_of(
    scorers: Mapping[str, type[Any]],
    *,
    sums: Mapping[str, Mapping[str, float]] | None = None,
    views: Mapping[str, View] | None = None,
    folder: Path = Path("/"),
    **parts: Any,
) -> ServerConfig:
    """Returns a configuration in which each scorer class is a reward, its name also its kind; then the sums."""
    views = views or {}
    rewards = {
        name: RewardConfig(name=name, kind=name, options=kind.Options(), view=views.get(name, View.FULL))
        for name, kind in scorers.items()
    }
    for name, weights in (sums or {}).items():
        rewards[name] = RewardConfig(name=name, kind="sum", options=SumOptions(parts=dict(weights)))
    fields: dict[str, Any] = {
        "path": folder / "server.yaml",
        "folder": folder,
        "listen": "127.0.0.1:0",
        "auth": None,
        "tls": None,
        "limits": Limits(),
        "drain": Drain(notice_s=0.0, grace_s=5.0),
        "workers": Workers(count=1),
        "secret_file": folder / "judge-secret",
        "engines": {},
        "judges": {},
        "rewards": rewards,
    }
    return ServerConfig(**{**fields, **parts})


def rewards_of(scorers: Mapping[str, type[Any]], **parts: Any) -> Rewards:
    """Returns the rewards of such a configuration, not open yet."""
    return Rewards(config_of(scorers, **parts), scorers={**scorers, "sum": Sum})
