"""What options in the configuration are: those of scorers, judges and engines."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from reward_server.views import View


def _rising(score_range: tuple[float, float]) -> tuple[float, float]:
    low, high = score_range
    if not (low < high and high - low < float("inf")):
        raise ValueError(f"{low:g} to {high:g} is no range: write the lower score first, as in [0, 1]")
    return score_range


ScoreRange = Annotated[tuple[float, float], AfterValidator(_rising)]
"""The score of the worst and that of the best completion."""

Seconds = Annotated[float, Field(strict=True, gt=0, le=86_400, allow_inf_nan=False)]
"""A limit of time, a day at most."""
Mebibytes = Annotated[int, Field(strict=True, ge=16, le=1_048_576)]
"""A limit of memory; less than its least starts no process."""


class Options(BaseModel):
    """Base of all options: unknown keys are refused, values are frozen.

    `shorthand` names the field that a bare value in the configuration stands for: `judge: relevance` is
    `judge: {judge: relevance}` where `shorthand = "judge"`. A field of type `Path` names a file to read, which must be
    there (relative paths start at the configuration's folder); one whose name ends in `_env` names an environment
    variable, which must be set. Both are checked when the configuration is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    shorthand: ClassVar[str | None] = None
    never_shape_a_score: ClassVar[frozenset[str]] = frozenset()
    """Names of fields that another value may take without another version of the reward: how many at a time, tokens."""

    def shape(self) -> dict[str, Any]:
        """Returns, as JSON-able data, what of the options may shape a score."""
        shown = self.model_dump(mode="json", exclude=set(self.never_shape_a_score))
        inner = {name: getattr(self, name) for name in shown}
        return shown | {name: value.shape() for name, value in inner.items() if isinstance(value, Options)}

    def view_refused(self, view: View) -> str:  # noqa: ARG002  # for overriding
        """Returns why a reward with these options is not to have that view, and the remedy; empty where it may."""
        return ""

    def judges_used(self) -> Collection[str]:
        """Returns the names of the judges that these options name, for the check that they are configured."""
        return ()

    def rewards_used(self) -> Collection[str]:
        """Returns the names of the other rewards that these options name, for the check that they are configured."""
        return ()
