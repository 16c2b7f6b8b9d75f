"""The sandboxes of a server: rewards that ask for the same share one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Discriminator, Field, Tag

from reward_server.options import Options
from reward_server.sandbox.base import Sandbox
from reward_server.sandbox.bubblewrap import Bubblewrap
from reward_server.sandbox.fusion import Fusion, FusionOptions


class BubblewrapOptions(Options):
    """How programs are run on the server's own machine."""

    never_shape_a_score: ClassVar[frozenset[str]] = frozenset({"max_jobs"})

    python: Path | None = Field(
        None, description="the programs' Python, with the packages that they may use; none = the server's own"
    )
    max_jobs: int | None = Field(
        None, strict=True, ge=1, le=1024, description="completions at a time; none = one per core of the server's"
    )


BUBBLEWRAP: Final = BubblewrapOptions.model_validate({})


def _sort_of(given: Any) -> str:
    """Returns which of the options something is meant as: those of a service have its URL or token."""
    if isinstance(given, str):
        return "name"
    keys = given if isinstance(given, dict) else getattr(given, "model_fields_set", ())
    if isinstance(given, FusionOptions) or {"url", "in_flight", "token_env", "token_file"} & set(keys):
        return "sandboxfusion"
    return "bubblewrap"


SandboxChoice = Annotated[
    Annotated[Literal["bubblewrap"], Tag("name")]
    | Annotated[BubblewrapOptions, Tag("bubblewrap")]
    | Annotated[FusionOptions, Tag("sandboxfusion")],
    Discriminator(_sort_of),
]
"""As a configuration names one; the bare name means all the defaults."""


class Sandboxes:
    """Makes each sandbox once. They are started by those who use them, and closed here."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[BubblewrapOptions | FusionOptions, Sandbox] = {}

    def get(self, choice: Literal["bubblewrap"] | BubblewrapOptions | FusionOptions, where: str) -> Sandbox:
        """Returns the sandbox of that sort, not started if nobody has; `where` is its place in the configuration."""
        options = BUBBLEWRAP if choice == "bubblewrap" else choice
        if options not in self._made:
            self._made[options] = self._make(options, where)
        return self._made[options]

    def _make(self, options: BubblewrapOptions | FusionOptions, where: str) -> Sandbox:
        if isinstance(options, FusionOptions):
            return Fusion(options, self._folder, where)
        return Bubblewrap(options.max_jobs, python=str(self._folder / options.python) if options.python else None)

    async def close(self) -> None:
        """Closes all of them."""
        for sandbox in self._made.values():
            await sandbox.close()
