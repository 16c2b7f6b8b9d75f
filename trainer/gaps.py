"""What a missing-reward policy makes of the rewards of a whole batch.

All tensors here have the completions of all ranks in TRL's order, groups one after another. NaN stands for missing.
The formulas are in docs/grpo.md. Needs torch; import it only where a run is made.
"""

from __future__ import annotations

import torch

from trainer.missing import MissingPolicy

NORMALIZE_THEN_SUM = "normalize_then_sum"


def without_dropped(rewards: torch.Tensor, dropped: torch.Tensor) -> torch.Tensor:
    """Returns rewards (N, F) in which nothing is left of the completions that are dropped (N,).

    `GRPOTrainer` leaves a row without any reward out of its group's mean and deviation, and gives it advantage 0.
    """
    return rewards.masked_fill(dropped.unsqueeze(1), torch.nan)


def dropped_rows(rewards: torch.Tensor, group_size: int, policy: MissingPolicy) -> torch.Tensor:
    """Returns which of N completions, with rewards (N, F), are taken out of the batch altogether; (N,) of bool."""
    lacking = rewards.isnan().any(dim=1)
    if policy == "drop_sample":
        return lacking
    if policy == "drop_group":
        return lacking.view(-1, group_size).any(dim=1).repeat_interleave(group_size)
    return torch.zeros_like(lacking)


def filled(rewards: torch.Tensor, group_size: int, aggregation: str) -> torch.Tensor:
    """Returns rewards (N, F) whose gaps are filled so that they are neutral (policy `group_mean`).

    A gap becomes the mean of what the rest of its group got from the same reward; where the whole group has none, the
    mean of all that did, so that the group's sums are on the batch's scale; where nobody has any, it stays a gap, as
    then all sums lack the same. A row that lacks every reward stays as it is: TRL leaves it out. Under
    `normalize_then_sum` every gap stays, as TRL's own means and sums are without them there.
    """
    if aggregation == NORMALIZE_THEN_SUM:
        return rewards
    grouped = rewards.view(-1, group_size, rewards.shape[1])
    of_group = grouped.nanmean(dim=1, keepdim=True)
    of_batch = rewards.nanmean(dim=0).expand_as(of_group)
    neutral = torch.where(of_group.isnan(), of_batch, of_group)
    whole = torch.where(grouped.isnan(), neutral, grouped).view_as(rewards)
    return without_dropped(whole, rewards.isnan().all(dim=1))
