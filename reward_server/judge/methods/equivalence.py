"""The method `equivalence`: does the completion say the same as the reference?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from reward_server.judge.methods.grades import of_example
from reward_server.judge.methods.labelled import Labelled, Line
from reward_server.judge.prompt import render
from reward_server.judge.rubric import Example, Rubric

SAME_FROM: Final = 0.5
"""An example with at least this grade shows a completion that says the same."""


class Equivalence(Labelled):
    """Asks once, yes or no. Of the rubric it takes the instructions and the examples: what to ask it knows itself."""

    name: ClassVar[str] = "equivalence"
    needs_reference: ClassVar[bool] = True

    def lines(self, rubric: Rubric) -> Sequence[Line]:  # noqa: ARG002  # see the class
        """Returns the one question."""
        return [Line("equivalence", render("equivalence_question.jinja"))]

    def system(self, rubric: Rubric) -> str:
        """Returns instructions, what counts as the same, examples and how to answer."""
        instructions = self._showing.words(rubric.instructions)
        return render("equivalence.jinja", instructions=instructions, examples=self.examples())

    def said_of(self, example: Example) -> Mapping[str, str]:
        """Returns whether the example says the same."""
        return {"equivalence": "yes" if of_example(example, self._rubric) >= SAME_FROM else "no"}
