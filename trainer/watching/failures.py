"""What to say when a run ends by an error that its settings have caused: no memory left, or weights that are NaN."""

from __future__ import annotations

from typing import Any

from trainer.watching import memory
from trainer.watching.finding import Finding
from trainer.watching.settings import Settings
from trainer.watching.stability import calmer

NOT_A_NUMBER = ("probability tensor contains either", "device-side assert triggered")
"""What generation says, on a CPU and on a GPU, when the policy's probabilities are NaN."""


def finding(error: BaseException, settings: Settings, model: Any = None) -> Finding | None:
    """Returns what to say of the error that ended a run, or None where the error itself says it.

    Args:
        error: What was raised.
        settings: The run's.
        model: The model, or its configuration: with its shape the memory is estimated.
    """
    if memory.is_out_of_memory(error):
        shape = None if model is None else memory.Shape.of(getattr(model, "config", model))
        return memory.finding(error, settings, shape)
    first_line = (str(error).splitlines() or [""])[0]
    if isinstance(error, RuntimeError) and any(sign in first_line for sign in NOT_A_NUMBER):
        return Finding(
            "instability, not a number",
            f"the policy's probabilities are no numbers any more ({first_line})",
            "An update has made weights NaN or far too large; go back to an earlier checkpoint, or start anew",
            calmer(settings),
            1.0,
        )
    return None
