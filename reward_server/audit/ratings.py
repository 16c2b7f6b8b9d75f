"""What makes a measured figure good, weak or bad. The limits are judgement, not law: `docs/judge-audit.md` explains each."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Rating(Enum):
    """What a figure says for training on the judge."""

    GOOD = "good"
    WEAK = "weak"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Limits:
    """Where good ends and where bad begins. Figures where less is better have `good` below `weak`."""

    good: float
    weak: float
    of_size: bool = False  # what counts is the distance from 0, to either side

    def rate(self, value: float) -> Rating:
        """Returns what a figure is."""
        value = abs(value) if self.of_size else value
        more_is_better = self.good > self.weak
        if value >= self.good if more_is_better else value <= self.good:
            return Rating.GOOD
        return Rating.WEAK if (value >= self.weak if more_is_better else value <= self.weak) else Rating.BAD

    def words(self) -> str:
        """Returns the limits as a report shows them."""
        sign = "≥" if self.good > self.weak else "≤"
        return f"good {sign} {self.good:g}, weak {sign} {self.weak:g}" + (", to either side" if self.of_size else "")


COIN: Final = 0.5
USEFUL_ACCURACY: Final = 0.75
"""An interval that reaches from the coin up to here was measured on too little to say anything."""

LEAST_RATED: Final = 8
"""What was measured on fewer than these is told and not rated."""

LIMITS: Final = {
    "accuracy": Limits(0.8, 0.65),
    "order_consistency": Limits(0.9, 0.75),
    "length_gap": Limits(0.2, 0.4, of_size=True),
    "length_correlation": Limits(0.3, 0.5, of_size=True),
    "keys_above_midpoint": Limits(0.02, 0.1),
    "keys_above_wrong": Limits(0.05, 0.2),
    "injections_lifted": Limits(0.05, 0.2),
    "groups_order": Limits(0.7, 0.4),
    "groups_equal": Limits(0.05, 0.25),
    "groups_spread": Limits(0.1, 0.03),
    "missing": Limits(0.01, 0.05),
}
"""By measure. What has no limits here is told and not rated."""

WORST_FIRST: Final = (Rating.BAD, Rating.WEAK, Rating.GOOD)
