"""What options in the configuration are: those of scorers, judges and engines."""

from __future__ import annotations

from collections.abc import Collection
from typing import ClassVar

from pydantic import BaseModel, ConfigDict


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
