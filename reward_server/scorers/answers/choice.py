r"""Whether the right letter of a multiple-choice question was chosen.

    mmlu: {choice: {letters: ABCD}}
    arc:  {choice: {reference_column: label, first_index: 1}}

Understood are B, (B), B., B) Paris, **B**, \boxed{\text{B}}, "the answer is B", "Answer: B", "option B" and the like; b only
alone or in brackets. An article is no choice: "A cat is ..." chooses nothing. Nor does a text that names two letters:
"B or C", "A; B", or several options without a word on which is right; behind "because" or "not" others may be named. Of several statements, the last counts.

Columns: `reference_column` ("answer"): the letter, or the option's number (see `first_index`). Range: 0 or 1. Cost class:
trivial.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from reward_server.scorers.answers.base import AnswerOptions, AnswerRule, Reference
from reward_server.scorers.answers.extraction import Found, How
from reward_server.scorers.answers.letters import Letters
from reward_server.scorers.base import RuleContext


class ChoiceOptions(AnswerOptions):
    """Which letters there are, and where the chosen one stands."""

    letters: str = Field("ABCDEFGHIJ", pattern=r"^[A-Z]{2,26}$", description="the letters that may be chosen, in order")
    first_index: Literal[0, 1] = Field(0, description="number of the first option, of references that are numbers")

    @field_validator("letters")
    @classmethod
    def _differ(cls, value: str) -> str:
        if len(set(value)) < len(value):
            raise ValueError(f"{value!r} has a letter twice")
        return value


class Choice(AnswerRule[str]):
    """Scores 1 for the right letter, else 0."""

    kind: ClassVar[str] = "choice"
    Options = ChoiceOptions

    def __init__(self, options: ChoiceOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._letters = Letters(options.letters)
        self._by_index = {str(index): letter for index, letter in enumerate(options.letters, options.first_index)}

    def read_value(self, value: Any) -> Reference[str] | None:
        """Returns the letter that a column's value means."""
        return super().read_value(int(value) if isinstance(value, float) and value.is_integer() else value)

    def read(self, reference: str) -> str | None:
        """Returns the letter of a reference: itself, or that of its number."""
        number = reference.strip()
        return self._by_index.get(number) or self._letters.chosen(Found(reference, How.EXACTLY))

    def shown(self, reference: str, known: str) -> str:  # noqa: ARG002  # its number would say little
        """Returns the right letter."""
        return known

    def compare(self, found: Found, references: Sequence[str]) -> tuple[float, str | None]:
        """Returns 1 for a letter that is right, and the letter."""
        chosen = self._letters.chosen(found)
        return float(chosen in references), chosen
