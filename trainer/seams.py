"""Where the trainer's subclass goes in between the methods of `GRPOTrainer`, and the check that they are still there.

Needs trl; import it only where a run is made.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, Final

import trl

from trainer.errors import BadOptions

SEAMS: Final[Mapping[str, Sequence[str]]] = {
    "_calculate_rewards": ("self", "inputs", "prompts", "completions", "completion_ids_list"),
    "_generate_and_score_completions": ("self", "inputs"),
    "_prepare_inputs": ("self", "generation_batch"),
    "_generate": ("self", "prompts"),
    "compute_loss": ("self", "model", "inputs", "return_outputs", "num_items_in_batch"),
    "log": ("self", "logs", "start_time"),
}
"""The methods that are overridden, with their parameters."""


def check_seams(base: type[Any]) -> None:
    """Raises `BadOptions` where a method that is overridden is not what it is expected to be."""
    for name, expected in SEAMS.items():
        found = _parameters(base, name)
        if found != tuple(expected):
            there = "is not there" if found is None else f"takes ({', '.join(found)})"
            raise BadOptions(
                f"{base.__module__}.{base.__qualname__}.{name} {there}, and should take ({', '.join(expected)}): trl "
                f"{trl.__version__} is not one that this trainer knows. Install trl>=1.14,!=1.15.0,<1.17"
            )


def _parameters(base: type[Any], name: str) -> tuple[str, ...] | None:
    """Returns the parameters of a method, None if there is none. Unsloth puts wrappers over methods, which name nothing."""
    for owner in base.__mro__:
        if name in vars(owner):
            parameters = tuple(inspect.signature(vars(owner)[name]).parameters)
            if parameters != ("self", "args", "kwargs"):
                return parameters
    return None
