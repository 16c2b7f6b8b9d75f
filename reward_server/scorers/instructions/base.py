"""What an instruction is: an id, arguments with IFEval's names, and whether a text follows it.

A kind is a frozen model whose fields are its arguments and whose docstring is its line in docs/rewards.md. `follows`
must be linear in the text and must not raise for any text: texts are hostile, so no `re` here, whose expressions
may take exponential time.
"""

from __future__ import annotations

import abc
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Relation = Literal["less than", "at least"]

MAX_COUNT: Final = 1_000_000_000


def _no_truth(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("a truth value is no number")  # noqa: TRY004  # pydantic makes messages of ValueError
    return value


def _not_blank(value: str) -> str:
    if not value.strip():
        raise ValueError("it is blank")
    return value


Count = Annotated[int, BeforeValidator(_no_truth), Field(ge=0, le=MAX_COUNT)]
"""A number of something; 3.0 is 3, since tables with gaps turn whole numbers into such."""

Place = Annotated[int, BeforeValidator(_no_truth), Field(ge=1, le=MAX_COUNT)]
"""The place of something, from 1."""

Phrase = Annotated[str, AfterValidator(_not_blank)]
"""A text with something in it."""

Phrases = Annotated[tuple[Phrase, ...], Field(min_length=1)]
"""Texts with something in them, at least one."""


class Instruction(BaseModel, abc.ABC):
    """One instruction with its arguments."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    id: ClassVar[str]

    @abc.abstractmethod
    def follows(self, text: str) -> bool:
        """Returns whether the text, which is not blank, follows the instruction."""


def compare(count: int, relation: Relation, bound: int) -> bool:
    """Returns whether the count is `less than` the bound, or `at least` it."""
    return count < bound if relation == "less than" else count >= bound
