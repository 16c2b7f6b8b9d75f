"""How dropped completions leave the loss of a batch, as if they had not been drawn.

Their tokens are masked, and the loss's denominator no longer counts them. Needs torch; import it only where a run is
made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch

MEANS_OVER_ROWS: Final = frozenset({"grpo", "sapo", "dr_grpo", "luspo"})
"""Loss types that divide by the number of completions; the others divide by the number of tokens that count."""

MEAN_OVER_MICRO_BATCHES: Final = "bnpo"
"""It divides by the tokens of a micro-batch, so that one without any would still be averaged over."""

LOSS_SCALE: Final = "reward_loss_scale"
"""The key of what a micro-batch's loss is multiplied with."""


def take_out(batch: dict[str, Any], dropped: torch.Tensor, accelerator: Any, loss_type: str) -> None:
    """Takes the completions of this rank that are dropped out of its batch of B; `dropped` (N,) is of all ranks."""
    here = batch["completion_mask"].shape[0]
    first = accelerator.process_index * here
    keep = ~dropped[first : first + here].to(batch["completion_mask"].device)
    # The mask that TRL has for the results of tools: unlike that of the completions it is none of attention's, and
    # Unsloth does not make it anew from the tokens.
    batch["tool_mask"] = batch.get("tool_mask", torch.ones_like(batch["completion_mask"])) * keep.unsqueeze(1)
    mask = _loss_mask(batch)
    batch["num_items_in_batch"] = accelerator.gather(mask.sum()).sum()
    if loss_type in MEANS_OVER_ROWS:
        kept = int((~dropped).sum())
        batch[LOSS_SCALE] = torch.tensor(len(dropped) / max(1, kept), device=mask.device)


def scale_micro_batches(micro_batches: Sequence[dict[str, Any]], accelerator: Any) -> None:
    """Has the mean over this generated batch's micro-batches, on all ranks, leave out those in which nothing is left."""
    left = torch.tensor([bool(_loss_mask(each).any()) for each in micro_batches], device=accelerator.device)
    totals = accelerator.gather(torch.stack([left.sum(), torch.tensor(len(left), device=left.device)]))
    some, count = totals.view(-1, 2).sum(dim=0).tolist()
    for each in micro_batches:
        each[LOSS_SCALE] = torch.tensor(count / max(1, some), device=left.device)


def _loss_mask(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Returns which tokens of a batch without some of its completions are in the loss, (B, C)."""
    mask: torch.Tensor = batch["completion_mask"] * batch["tool_mask"]
    return mask
