"""The method `reasoned`: a reason in words, then a grade for each criterion, as JSON that is held to a schema.

It needs no log-probabilities, and gives people something to read. Its grades are coarser: of what the model weighed
only what it wrote is left.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from reward_server.engines.base import ChatMessage, Place
from reward_server.errors import BadAnswer, ConfigError
from reward_server.http.complaints import excerpt
from reward_server.judge import verdicts
from reward_server.judge.guard import neutralise
from reward_server.judge.material import Material
from reward_server.judge.methods.base import Opinion, Unit
from reward_server.judge.methods.grades import value_of, weighted
from reward_server.judge.methods.settings import MethodSettings, affinity_of, unit_key
from reward_server.judge.methods.worded import Pointwise
from reward_server.judge.prompt import render
from reward_server.judge.rubric import Example, Rubric
from reward_server.judge.showing import Showing, material_of

CHARS_A_WORD: Final = 7
MIN_REASON_CHARS: Final = 30


class Reasoned(Pointwise):
    """Asks about each completion by itself, once for all criteria."""

    name: ClassVar[str] = "reasoned"

    def __init__(self, rubric: Rubric, showing: Showing, settings: MethodSettings) -> None:
        chars = verdicts.reason_chars(settings.max_answer_tokens, rubric.criteria)
        if chars < MIN_REASON_CHARS:
            lacking = (MIN_REASON_CHARS - chars) // verdicts.CHARS_A_TOKEN + 1
            raise ConfigError(
                f"max_answer_tokens: {settings.max_answer_tokens} leave no room for a reason before "
                f"{len(rubric.criteria)} grades: give at least {settings.max_answer_tokens + lacking}"
            )
        super().__init__(rubric, showing, settings)
        self._schema = verdicts.schema(rubric.criteria, chars)
        self._ending = render("reasoned_question.jinja")
        self._system = ChatMessage("system", self._static(chars))

    @property
    def max_answer_tokens(self) -> int:
        """Returns the configured length."""
        return self._settings.max_answer_tokens

    def asked(self) -> Mapping[str, Any]:
        """Returns the question, the criteria and the answer's form."""
        criteria = [criterion.model_dump(mode="json") for criterion in self._rubric.criteria]
        return {"ending": self._ending, "criteria": criteria, "schema": self._schema}

    def opinion(self, reading: verdicts.Grades) -> Opinion:
        """Returns the weighted mean of the grades, with the judge's reason."""
        criteria = self._rubric.criteria
        parts = {criterion.name: value_of(reading.grades[criterion.name], criterion) for criterion in criteria}
        return Opinion(weighted(parts, criteria), neutralise(reading.reason), parts)

    def unit(self, material: Material) -> Unit:
        """Returns the one question about a completion."""
        task = self._showing.task(material)
        shown = task + self._showing.completion(material) + self._ending
        prompt = (self._system, ChatMessage("user", shown))

        async def read(place: Place) -> verdicts.Grades:
            answer = await place.ask(self._settings.question(prompt, place.attempt, schema=self._schema))
            if answer.finish == "length":
                said = excerpt(answer.text)
                raise BadAnswer(f"the answer was cut off at {answer.decoded_token_count} tokens: {said!r}")
            return verdicts.read(answer.text, self._rubric.criteria)

        key = unit_key([self._settings.question(prompt, schema=self._schema)])
        return Unit(key, affinity_of(self._system.content, task), read, [prompt])

    def _static(self, reason_chars: int) -> str:
        words = self._showing.words
        return render(
            "reasoned.jinja",
            instructions=words(self._rubric.instructions),
            criteria=[each.model_copy(update={"text": words(each.text)}) for each in self._rubric.criteria],
            anchors=[(grade, words(text)) for grade, text in sorted(self._rubric.anchors.items())],
            reason_words=max(1, reason_chars // CHARS_A_WORD),
            examples=[self._example(example) for example in self._rubric.examples],
        )

    def _example(self, example: Example) -> str:
        """Returns an example as a sample is shown, with the answer that is right; all its grades must be there."""
        material = material_of(example, self._rubric)
        answer = {"reason": neutralise(example.reason), "grades": example.grades}
        shown = self._showing.task(material) + self._showing.completion(material)
        return shown + json.dumps(answer, ensure_ascii=False)
