"""Grading by log-probabilities: each question is answered in one token, and read from what could have stood there.

A question's own words come after the completion. So a host that has read the completion once reads, for each further
question, only that question; and all of them are asked at one place, where it was read.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from reward_server.engines.base import MAX_ALTERNATIVES, ChatMessage, Place
from reward_server.judge.labels import DIGITS, YES_NO, LabelReading, first_position, read_labels
from reward_server.judge.material import Material
from reward_server.judge.methods.base import Opinion, Unit
from reward_server.judge.methods.grades import HIGHEST_DIGIT, weighted
from reward_server.judge.methods.settings import MethodSettings, affinity_of, unit_key
from reward_server.judge.methods.worded import Pointwise
from reward_server.judge.rubric import Answer, Example, Rubric
from reward_server.judge.showing import Showing, material_of


@dataclass(frozen=True, slots=True)
class Line:
    """One question about a completion."""

    name: str
    words: str  # all that is said after the completion
    weight: float = 1.0
    digits: bool = False  # answered by a digit, not by yes or no
    good: Answer = "yes"  # of yes and no: the answer that speaks for the completion

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Returns the answers there are, with their spellings."""
        return DIGITS if self.digits else YES_NO

    def grade(self, reading: LabelReading) -> float:
        """Returns what the answer comes to, 0 to 1: the mean over the labels by their probabilities."""
        if not self.digits:
            return min(1.0, reading.probabilities[self.good])
        mean = sum(int(digit) * probability for digit, probability in reading.probabilities.items())
        return min(1.0, mean / HIGHEST_DIGIT)


class Labelled(Pointwise):
    """Base of the methods that ask about each completion by itself, one token a question."""

    needs_logprobs: ClassVar[bool] = True
    shows_parts: ClassVar[bool] = False  # each question's grade is of interest by itself

    def __init__(self, rubric: Rubric, showing: Showing, settings: MethodSettings) -> None:
        super().__init__(rubric, showing, settings)
        self._lines = self.lines(rubric)
        self._system = ChatMessage("system", self.system(rubric))

    @abc.abstractmethod
    def lines(self, rubric: Rubric) -> Sequence[Line]:
        """Returns the questions."""

    @abc.abstractmethod
    def system(self, rubric: Rubric) -> str:
        """Returns what all prompts begin with; called after `lines`."""

    @abc.abstractmethod
    def said_of(self, example: Example) -> Mapping[str, str]:
        """Returns the right answers to the questions about an example, by the questions' names."""

    @property
    def max_answer_tokens(self) -> int:
        """Returns the one token of a label."""
        return 1

    def asked(self) -> Mapping[str, Any]:
        """Returns the questions."""
        return {"lines": [[line.name, line.words, line.weight, line.digits, line.good] for line in self._lines]}

    def opinion(self, reading: Sequence[LabelReading]) -> Opinion:
        """Returns the weighted mean over the questions."""
        parts = {line.name: line.grade(labels) for line, labels in zip(self._lines, reading, strict=True)}
        return Opinion(weighted(parts, self._lines), parts=parts if self.shows_parts else {})

    def examples(self) -> list[str]:
        """Returns the rubric's examples in words: shown as samples are, each question with its right answer."""
        shown = []
        for example in self._rubric.examples:
            material, said = material_of(example, self._rubric), self.said_of(example)
            answers = "\n".join(f"{line.words}\n{said[line.name]}" for line in self._lines if line.name in said)
            shown.append(self._showing.task(material) + self._showing.completion(material) + answers)
        return shown

    def unit(self, material: Material) -> Unit:
        """Returns all questions about a completion, asked at one place."""
        task = self._showing.task(material)
        beginning = task + self._showing.completion(material)
        prompts = [(self._system, ChatMessage("user", beginning + line.words)) for line in self._lines]

        async def read(place: Place) -> tuple[LabelReading, ...]:
            return tuple([await self._labels(place, *both) for both in zip(self._lines, prompts, strict=True)])

        key = unit_key([self._settings.question(each, max_tokens=1, alternatives=MAX_ALTERNATIVES) for each in prompts])
        return Unit(key, affinity_of(self._system.content, task), read, prompts)

    async def _labels(self, place: Place, line: Line, prompt: Sequence[ChatMessage]) -> LabelReading:
        question = self._settings.question(
            prompt, place.attempt, max_tokens=1, alternatives=MAX_ALTERNATIVES, labels=line.labels
        )
        answer = await place.ask(question)
        return read_labels(first_position(answer), line.labels, self._settings.min_label_mass)
