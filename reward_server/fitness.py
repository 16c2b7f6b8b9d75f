"""Whether a reward can score a call's samples at all: asked before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from reward_server.domain import Sample
from reward_server.errors import MissingColumn, NotServable
from reward_server.reward import Reward


def check_servable(reward: Reward) -> None:
    """Raises `NotServable` where the reward refuses all calls."""
    health = reward.health()
    if health.refuses:
        raise NotServable(f"the reward {reward.name!r} cannot be served: {health.reason}")


def check_needs(reward: Reward, samples: Sequence[Sample]) -> None:
    """Raises `MissingColumn` where the samples lack what the reward reads."""
    needs = reward.scorer.needs
    if needs.prompts_required and any(sample.prompt is None for sample in samples):
        raise MissingColumn(f"the reward {reward.name!r} reads prompts, and the request has none: send them too")
    if not needs.required_columns:
        return
    for sample in samples:
        missing = needs.required_columns - sample.columns.keys()
        if missing:
            raise MissingColumn(
                f"the reward {reward.name!r} needs the column{'s' if len(needs.required_columns) > 1 else ''} "
                f"{_listed(needs.required_columns)}; the request lacks {_listed(missing)} "
                f"and has {_listed(sample.columns) if sample.columns else 'no columns'}{_renamed(reward, missing)}"
            )


def _renamed(reward: Reward, missing: Collection[str]) -> str:
    """Returns which options say that a column is called otherwise, where there are some."""
    options = [option for option, column in reward.columns_named.items() if column in missing]
    return f". Is it called otherwise? Say so in the reward's {', '.join(options)}" if options else ""


def _listed(names: Any) -> str:
    return ", ".join(repr(name) for name in sorted(names))
