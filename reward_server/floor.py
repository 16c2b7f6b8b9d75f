"""The score of a completion that itself breaks its grader.

A missing verdict is neutral, so a policy could learn to hang a checker or to silence a judge rather than do badly. A
miss that is blamed on the completion is therefore scored at the floor that its reward declares; every other miss stays
missing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator

from reward_server.domain import Blame, Status, Verdict

LOWEST: Final = "lowest"
MISSING: Final = "missing"
FLOOR_FLAG: Final = "floor"


def _floor(value: Any) -> Any:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if is_number and value - value == 0.0:  # not NaN, not infinite
        return float(value)
    if value in (LOWEST, MISSING):
        return value
    raise ValueError(f"must be '{LOWEST}', '{MISSING}' or a finite number")


Floor = Annotated[float | Literal["lowest", "missing"], BeforeValidator(_floor)]
"""A floor as the configuration declares it: a number, the low end of the score range, or none at all."""


def floor_of(declared: float | str, score_range: tuple[float, float] | None) -> float | None:
    """Returns the score that stands for a broken grader; None = the verdict stays missing.

    Args:
        declared: see `Floor`.
        score_range: of the reward; None where it is unknown, and then has no low end.

    Raises:
        ValueError: the number is outside the range.
    """
    if isinstance(declared, str):
        return score_range[0] if declared == LOWEST and score_range is not None else None
    if score_range is not None and not score_range[0] <= declared <= score_range[1]:
        raise ValueError(
            f"{declared:g} is outside the reward's score range, {score_range[0]:g} to {score_range[1]:g}: "
            f"give a number in it, '{LOWEST}' or '{MISSING}'"
        )
    return declared


def floored(verdict: Verdict, floor: float | None) -> Verdict:
    """Returns the verdict, scored at the floor where it is missing and the completion is to blame."""
    if floor is None or verdict.blame is not Blame.COMPLETION or verdict.status is Status.SCORED:
        return verdict
    said = [verdict.status_reason or "the completion breaks its grader", verdict.explanation]
    return replace(
        verdict,
        score=floor,
        status=Status.SCORED,
        status_reason="",
        explanation="\n".join(filter(None, said)),
        blame=Blame.UNKNOWN,
        flags=tuple(dict.fromkeys((*verdict.flags, FLOOR_FLAG))),
    )
