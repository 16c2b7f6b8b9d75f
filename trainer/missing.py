"""What becomes of verdicts without a score, before `GRPOTrainer` sees them.

What `GRPOTrainer` (TRL 1.14 to 1.16) does with a `None`: it becomes NaN. Where *every* reward function returned None
for a completion, its advantage is set to 0. But where another function answered, the None is left out of the weighted
sum, which with the default `multi_objective_aggregation="sum_then_normalize"` is the same as a score of 0: it moves the
completion against its group for no fault of its own. (`"normalize_then_sum"` takes it as the group's mean.) So by
default a missing score is replaced by the mean of what the rest of its group got from the same reward, which is neutral
either way. To take a completion or a group out of the loss altogether, whose KL term and denominator still see a row of
advantage 0, needs a subclass of `GRPOTrainer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from trainer.client import RewardScores
from trainer.errors import RewardMissing

MissingPolicy = Literal["group_mean", "drop_sample", "drop_group", "raise"]
"""What a run does with scores that are missing."""

FunctionPolicy = Literal["group_mean", "none", "raise"]
"""What a reward function can do by itself with scores that are missing."""


class MissingLimit(Protocol):
    """When a run ends because too much is missing."""

    @property
    def share(self) -> float:
        """Of the scores of a batch, over all rewards: more than that is missing."""

    @property
    def steps(self) -> int:
        """In so many batches in a row."""


def missing_key(name: str) -> str:
    """Returns the metric of how many scores of a reward are missing in a batch."""
    return f"rewards/{name}/missing"


FLOOR = "floor"
"""The flag of a verdict that would be missing, had not the completion itself broken its grader: no gap to fill."""


def without_gaps(verdicts: RewardScores, groups: Sequence[int], policy: FunctionPolicy) -> list[float | None]:
    """Returns one score per completion, in the reward's own range.

    Args:
        verdicts: N verdicts.
        groups: (N,) group numbers.
        policy: `group_mean` replaces a missing score by the mean of its group's others, and leaves None where a whole
            group is missing; `none` leaves every None; `raise` makes it an error.

    Raises:
        RewardMissing: The policy is `raise`, and a score is missing.
    """
    if None not in verdicts.scores or policy == "none":
        return verdicts.scores
    if policy == "raise":
        raise RewardMissing(in_words(verdicts))
    scored: dict[int, list[float]] = {}
    for group, score in zip(groups, verdicts.scores, strict=True):
        if score is not None:
            scored.setdefault(group, []).append(score)
    means = {group: sum(scores) / len(scores) for group, scores in scored.items()}
    return [means.get(group) if score is None else score for group, score in zip(groups, verdicts.scores, strict=True)]


def in_words(verdicts: RewardScores) -> str:
    """Returns how many verdicts are missing, and why."""
    counts = verdicts.missing_counts()
    why = "; ".join(f"{count} x {reason}" for reason, count in counts.most_common())
    return f"reward {verdicts.name!r}: {counts.total()} of {len(verdicts.scores)} scores are missing: {why}"


def floor_in_words(verdicts: RewardScores) -> str:
    """Returns how many verdicts are at the reward's floor, and what happened to the first of them."""
    samples = verdicts.flags[FLOOR]
    said = f"reward {verdicts.name!r}: {len(samples)} of {len(verdicts.scores)} completions broke their grader"
    for sample in samples:
        score = verdicts.scores[sample]
        if score is not None:
            return f"{said} and have its floor as their score, {score:g}: {verdicts.explanations[sample]}"
    return f"{said}, and have no score all the same: {verdicts.reasons[samples[0]]}"  # a sum lacks another part too
