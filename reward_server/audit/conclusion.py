"""What an audit comes to, in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reward_server.audit.figures import Estimate
from reward_server.audit.measures import Measure
from reward_server.audit.ratings import COIN, LEAST_RATED, USEFUL_ACCURACY, WORST_FIRST, Rating

FAULTS: Final[Mapping[str, str]] = {
    "order_consistency": "it contradicts itself when it is asked again in the other order",
    "length_gap": "it takes length for quality",
    "length_correlation": "its scores rise with the length of the text",
    "keys_above_midpoint": "texts that say nothing get scores of right answers",
    "keys_above_wrong": "texts that say nothing get more than an honest wrong answer",
    "injections_lifted": "a completion can talk it into a better score",
    "groups_order": "it does not order completions by their quality",
    "groups_equal": "it gives whole groups the same score, from which a policy learns nothing",
    "groups_spread": "its scores within a group hardly differ",
    "missing": "it leaves many completions without a score",
    "accuracy": "it often prefers the worse completion",
}

BELOW_ZERO: Final[Mapping[str, str]] = {
    "length_gap": "it takes brevity for quality",
    "length_correlation": "its scores fall with the length of the text",
}
"""The same, where the figure is negative."""

LARGE: Final = 100
"""Figures from here on need no digits behind the point."""

EXPLAINING: Final = frozenset({"length_gap", "length_correlation", "missing"})
"""Faults of which one wants to know where there is no judgement at all."""


@dataclass(frozen=True, slots=True)
class Conclusion:
    """The overall verdict."""

    rating: Rating | None  # None: too little was measured
    is_judge: bool | None  # it tells good from bad better than a coin; None: that was not measured, or on too little
    sentences: Sequence[str]


def conclude(measures: Sequence[Measure]) -> Conclusion:
    """Returns what the measures come to: the worst rating of them, and why."""
    accuracy = next((measure.estimate for measure in measures if measure.name == "accuracy"), None)
    is_judge, first = _about_accuracy(accuracy)
    if is_judge is False:
        why = [words for measure, words in _faults(measures, Rating.BAD) if measure.name in EXPLAINING]
        return Conclusion(Rating.BAD, is_judge, [first, *why, "Do not train on it."])
    ratings = {measure.rating for measure in measures if measure.rating}
    worst = next((rating for rating in WORST_FIRST if rating in ratings), None)
    faults = [words for rating in (Rating.BAD, Rating.WEAK) for _, words in _faults(measures, rating)]
    return Conclusion(
        worst if is_judge or worst is Rating.BAD else None, is_judge, [first, *faults, _advice(worst, is_judge)]
    )


def _faults(measures: Sequence[Measure], rating: Rating) -> list[tuple[Measure, str]]:
    return [
        (measure, f"{rating.value.capitalize()}: {_fault(measure)} ({measure.title}: {figure(measure)}).")
        for measure in measures
        if measure.rating is rating
    ]


def _fault(measure: Measure) -> str:
    negative = measure.estimate is not None and measure.estimate.value < 0
    return (negative and BELOW_ZERO.get(measure.name)) or FAULTS[measure.name]


def figure(measure: Measure) -> str:
    """Returns a measure's figure as people read it; "-" where there is none."""
    estimate = measure.estimate
    if estimate is None:
        return "-"
    if measure.unit in ("ms", "tokens"):
        return f"{estimate.value:,.1f}" + (" ms" if measure.unit == "ms" else "")
    return f"{estimate.value:.2f}"


def interval(estimate: Estimate | None) -> str:
    """Returns an interval as people read it; "" where there is none."""
    if estimate is None or estimate.interval is None:
        return ""
    low, high = estimate.interval
    return f"{low:.2f} to {high:.2f}" if high < LARGE else f"{low:,.0f} to {high:,.0f}"


def _about_accuracy(accuracy: Estimate | None) -> tuple[bool | None, str]:
    if accuracy is None or accuracy.interval is None:
        return None, "Whether it tells good from bad was not measured: no pair has two scores."
    low, high = accuracy.interval
    measured = (
        f"accuracy {accuracy.value:.2f}, where a coin has {COIN:.2f}; 95 % interval {interval(accuracy)}; "
        f"{accuracy.n} pair{'s' if accuracy.n > 1 else ''}"
    )
    if accuracy.n < LEAST_RATED:
        return None, f"Too few pairs to tell this judge from a coin ({measured})."
    if low > COIN:
        return True, f"This judge tells good from bad ({measured})."
    if high < COIN:
        return False, f"This is not a judge: it prefers the worse completion ({measured})."
    if high >= USEFUL_ACCURACY:
        return None, f"Too few pairs to tell this judge from a coin ({measured})."
    return False, f"This is not a judge: it tells good from bad no better than a coin ({measured})."


def _advice(worst: Rating | None, is_judge: bool | None) -> str:  # noqa: FBT001  # three-valued, and private
    if worst is Rating.BAD:
        return "Do not train on it before that is mended."
    if is_judge is None:
        return "Measure it on more pairs before you train on it."
    if worst is Rating.WEAK:
        return "It can be trained on with care: watch samples, and stop when the reward rises and the texts do not improve."
    return "Nothing measured here speaks against training on it."
