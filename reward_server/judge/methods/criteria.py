"""The method `criteria`: each criterion asked by itself, its grade read from the probabilities of yes and no."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from reward_server.judge.methods.labelled import Labelled, Line
from reward_server.judge.prompt import render
from reward_server.judge.rubric import Criterion, Example, Rubric


class Criteria(Labelled):
    """Asks about each criterion in turn; the grade is their weighted mean."""

    name: ClassVar[str] = "criteria"
    shows_parts: ClassVar[bool] = True

    def lines(self, rubric: Rubric) -> Sequence[Line]:
        """Returns one question for each criterion."""
        return [self._line(criterion) for criterion in rubric.criteria]

    def system(self, rubric: Rubric) -> str:
        """Returns instructions, anchors, examples and how to answer."""
        digits = [line.digits for line in self._lines]
        words = self._showing.words
        return render(
            "criteria.jinja",
            instructions=words(rubric.instructions),
            any_digits=any(digits),
            all_digits=all(digits),
            anchors=[(grade, words(text)) for grade, text in sorted(rubric.anchors.items())] if any(digits) else [],
            examples=self.examples(),
        )

    def said_of(self, example: Example) -> Mapping[str, str]:
        """Returns the example's grades."""
        return {name: str(grade) for name, grade in example.grades.items()}

    def _line(self, criterion: Criterion) -> Line:
        digits = criterion.scale == "0-9"
        words = render("criterion.jinja", text=self._showing.words(criterion.text), digits=digits)
        return Line(criterion.name, words, criterion.weight, digits, criterion.good)
