"""What options in the configuration are: those of scorers, judges and engines."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict


def _rising(score_range: tuple[float, float]) -> tuple[float, float]:
    low, high = score_range
    if not (low < high and high - low < float("inf")):
        raise ValueError(f"{low:g} to {high:g} is no range: write the lower score first, as in [0, 1]")
    return score_range


ScoreRange = Annotated[tuple[float, float], AfterValidator(_rising)]
"""The score of the worst and that of the best completion."""


class Options(BaseModel):
    """Base of all options: unknown keys are refused, values are frozen.

    `shorthand` names the field that a bare value in the configuration stands for: `judge: relevance` is
    `judge: {judge: relevance}` where `shorthand = "judge"`. A field of type `Path` names a file to read, which must be
    there (relative paths start at the configuration's folder); one whose name ends in `_env` names an environment
    variable, which must be set. Both are checked when the configuration is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    shorthand: ClassVar[str | None] = None

    def judges_used(self) -> Collection[str]:
        """Returns the names of the judges that these options name, for the check that they are configured."""
        return ()

    def rewards_used(self) -> Collection[str]:
        """Returns the names of the other rewards that these options name, for the check that they are configured."""
        return ()
