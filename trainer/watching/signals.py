"""The logged steps of a run as detectors look at them: the last few, the first few, and the settings beside them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from trainer.history import History, is_number
from trainer.watching.finding import Finding, Remedy, change, do
from trainer.watching.settings import Settings

WINDOW = 5
"""Logged steps that "now" and "at first" are the median of: one step of a few prompts says little, and five come soon. A
median, so that one odd step is no illness, and that a new one shows in its full size."""

BETAS = (0.01, 0.04, 0.1, 0.2)
"""The usual weights of the KL term; 0.04 is TRL's former default and DeepSeekMath's."""

CALM_LEARNING_RATE = 5e-6
"""What guides of GRPO go back to where a run is unstable."""


@dataclass(frozen=True, slots=True)
class Signals:
    """What is known of a run so far."""

    history: History
    settings: Settings

    @property
    def rows(self) -> list[Mapping[str, Any]]:
        """Returns the logged steps, in order."""
        return self.history.rows

    @property
    def last(self) -> Mapping[str, Any]:
        """Returns the newest logged step."""
        return self.rows[-1]

    @property
    def has_both_ends(self) -> bool:
        """Returns whether there are steps enough that "at first" and "now" don't overlap."""
        return len(self.rows) >= 2 * WINDOW

    def weights(self) -> dict[str, float]:
        """Returns the rewards that count, by name."""
        return {name: weight for name, weight in self.settings.weights.items() if weight}

    def now(self, key: str, steps: int = WINDOW) -> float | None:
        """Returns a metric's median over the last steps; None before there are as many, or if few of them have it."""
        values = self.tail(key, steps)
        return statistics.median(values) if len(self.rows) >= steps and 2 * len(values) > steps else None

    def at_first(self, key: str) -> float | None:
        """Returns a metric's median over the first steps; None while they are the last ones too."""
        values = _values(self.rows[:WINDOW], key)
        return statistics.median(values) if values and self.has_both_ends else None

    def tail(self, key: str, steps: int) -> list[float]:
        """Returns a metric's values in the last steps, those that are numbers."""
        return _values(self.rows[-steps:], key)

    def range_of(self, reward: str) -> tuple[float, float] | None:
        """Returns the smallest and the largest score of a reward that was seen in the run."""
        lows, highs = (_values(self.rows, f"rewards/{reward}/{end}") for end in ("min", "max"))
        return (min(lows), max(highs)) if lows and highs else None


Detector = Callable[[Signals], Iterable[Finding]]


def higher_beta(settings: Settings, why: str = "it holds the policy near the model it came from") -> Remedy:
    """Returns the remedy of a stronger KL term."""
    higher = next((beta for beta in BETAS if beta > settings.beta * 1.5), settings.beta * 2)
    return change("grpo.beta", float(settings.beta), higher, why)


def lower_learning_rate(settings: Settings) -> Remedy:
    """Returns the remedy of smaller steps."""
    present = float(settings.learning_rate)
    lower = CALM_LEARNING_RATE if present > CALM_LEARNING_RATE else present / 2
    return change("grpo.learning_rate", present, lower)


def fewer_generations(settings: Settings) -> list[Remedy]:
    """Returns the remedy of the simplest group, where it is larger."""
    if settings.num_generations <= 2:  # noqa: PLR2004  # a group of one compares nothing
        return []
    return [change("grpo.num_generations", settings.num_generations, 2, "more again once it is stable")]


def lower_weight(settings: Settings, reward: str, factor: float = 0.5) -> Remedy:
    """Returns the remedy of a reward that counts less."""
    weight = float(settings.weights.get(reward, 1.0))
    return change(f"weight of {reward}", weight, float(f"{weight * factor:.2g}"))


def against_hacking(signals: Signals, reward: str = "") -> list[Remedy]:
    """Returns what helps where a policy has found a way to score without getting better."""
    settings = signals.settings
    about = [lower_weight(settings, reward)] if reward and not settings.single_reward else []
    second = "a second reward beside it that looks at something else" if settings.single_reward else ""
    of = reward or "REWARD"
    more = [
        "read the last completions: is the text better, or only its score",
        second,
        "a `diversity` reward on the server, at a weight of about 0.2 of the others'",
        f"a cap, `clip: {{of: {of}, high: ...}}`, so that more of the same pays no more",
    ]
    return [*about, *(do(each) for each in more if each), higher_beta(settings)]


def percent(share: float) -> str:
    """Returns a share as people say it."""
    return f"{share * 100:.0f} %"


def _values(rows: Iterable[Mapping[str, Any]], key: str) -> list[float]:
    return [row[key] for row in rows if is_number(row.get(key))]
