"""The method `rating`: the rubric as a whole, answered by one digit, read as the mean over all digits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from reward_server.judge.methods.grades import HIGHEST_DIGIT, of_example
from reward_server.judge.methods.labelled import Labelled, Line
from reward_server.judge.prompt import render
from reward_server.judge.rubric import Example, Rubric


class Rating(Labelled):
    """Asks once for a digit; the grade is the expected value of the digits' probabilities."""

    name: ClassVar[str] = "rating"

    def lines(self, rubric: Rubric) -> Sequence[Line]:  # noqa: ARG002  # the rubric stands in the static part
        """Returns the one question."""
        return [Line("rating", render("rating_question.jinja"), digits=True)]

    def system(self, rubric: Rubric) -> str:
        """Returns instructions, all criteria, anchors, examples and how to answer."""
        words = self._showing.words
        return render(
            "rating.jinja",
            instructions=words(rubric.instructions),
            criteria=[criterion.model_copy(update={"text": words(criterion.text)}) for criterion in rubric.criteria],
            anchors=[(grade, words(text)) for grade, text in sorted(rubric.anchors.items())],
            examples=self.examples(),
        )

    def said_of(self, example: Example) -> Mapping[str, str]:
        """Returns the digit that the example's grades come to."""
        return {"rating": str(round(of_example(example, self._rubric) * HIGHEST_DIGIT))}
