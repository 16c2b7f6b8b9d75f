"""What a person's reward function is called with: as TRL, verl or OpenRLHF would call it.

Which of them it was written for is read from the names of its parameters, or said in the configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Any, Final, Protocol

from reward_server.domain import Needs, Sample
from reward_server.workers.calling import Arguments

Parameter = tuple[str, str, bool]
"""Name, kind as `inspect` names it, whether it has a default."""

NONE: Final[Mapping[str, Any]] = MappingProxyType({})


class Style(Enum):
    """Whom a function was written for."""

    AUTO = "auto"  # whom its parameters' names tell
    TRL = "trl"
    VERL = "verl"
    OPENRLHF = "openrlhf"


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the configuration says about a function's parameters."""

    columns: Sequence[str] | None = None  # that it reads from its **kwargs; None = all there are
    columns_as: Mapping[str, str] = field(default_factory=lambda: NONE)  # parameter -> the column it gets
    arguments: Mapping[str, Any] = field(default_factory=lambda: NONE)  # parameter -> the same value in every call


class Signature(Protocol):
    """What a function is called with."""

    @property
    def needs(self) -> Needs:
        """Returns what must be sent for it."""

    @property
    def one_at_a_time(self) -> bool:
        """Returns whether it takes one sample only."""

    def missing(self, sample: Sample) -> str:
        """Returns why it cannot be called on a sample: what the sample lacks. Empty: it can."""

    def keywords(self, samples: Sequence[Sample]) -> Arguments:
        """Returns what it is called with on these samples."""


@dataclass(frozen=True, slots=True)
class Parameters:
    """A function's parameters, read once."""

    named: Mapping[str, bool]  # those that a keyword can name -> has a default
    by_position: Sequence[str]  # those that can be passed by position
    positional_only: Sequence[str]  # of these, those that no keyword can name and that have no default
    any_keyword: bool  # it has **kwargs
    any_position: bool  # it has *args

    @classmethod
    def read(cls, parameters: Iterable[Parameter]) -> Parameters:
        """Returns the parameters in groups."""
        listed = list(parameters)
        kinds = {kind for _, kind, _ in listed}
        return cls(
            {name: default for name, kind, default in listed if kind in ("POSITIONAL_OR_KEYWORD", "KEYWORD_ONLY")},
            [name for name, kind, _ in listed if kind in ("POSITIONAL_ONLY", "POSITIONAL_OR_KEYWORD")],
            [name for name, kind, default in listed if kind == "POSITIONAL_ONLY" and not default],
            "VAR_KEYWORD" in kinds,
            "VAR_POSITIONAL" in kinds,
        )

    def refuse_positional(self) -> None:
        """Raises `ValueError` for a parameter that no keyword can name."""
        for name in self.positional_only:
            raise ValueError(f"its parameter {name!r} is positional only, and rewards are called by keyword")

    def refuse_untaken(self, wishes: Wishes, *, never: Iterable[str] = ()) -> None:
        """Raises `ValueError` for wishes about parameters that it does not take, or that are not to be wished for."""
        for key, wished in (("columns_as", wishes.columns_as), ("arguments", wishes.arguments)):
            for name in wished:
                if name in never:
                    raise ValueError(f"{key}: {name!r} is passed as it is")
                if name not in self.named and not self.any_keyword:
                    raise ValueError(f"{key}: it takes no {name!r}, and has no **kwargs")
        if both := sorted(wishes.columns_as.keys() & wishes.arguments.keys()):
            raise ValueError(f"{both[0]!r} cannot be a column (columns_as) and a fixed value (arguments) at once")


def style_of(parameters: Iterable[Parameter]) -> Style:
    """Returns whom a function was written for, by the names that only one of them passes."""
    names = {name for name, _, _ in parameters}
    if names & {"completions", "completion_ids"}:
        return Style.TRL
    if names & {"solution_str", "solution_strs"}:
        return Style.VERL
    return Style.OPENRLHF if "queries" in names else Style.TRL


def others_without_value(parameters: Parameters, given: Iterable[str], wishes: Wishes) -> list[str]:
    """Returns the parameters that must have a value and get none."""
    valued = {*given, *wishes.columns_as, *wishes.arguments}
    return [name for name, default in parameters.named.items() if not default and name not in valued]
