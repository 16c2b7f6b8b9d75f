"""What all methods share: how a judge samples, and how what is asked gets its key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from reward_server.engines.base import ChatMessage, Question

SHAKEN_TEMPERATURE: Final = 0.5
"""A model asked again at temperature 0 would say the same again, whatever the seed: other attempts get at least this."""


@dataclass(frozen=True, slots=True)
class MethodSettings:
    """A judge's options as its method sees them."""

    max_answer_tokens: int = 200  # of an answer in words; an answer of one label has one token
    temperature: float = 0.0
    min_label_mass: float = 0.1  # less probability than this on all legal labels together is no answer
    answer_timeout_s: float = 30.0
    opponents: int | None = None  # of each completion, where a method compares them in pairs; None = all
    extras: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))  # what else shapes an opinion

    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, what of it shapes an opinion: all but the time-out."""
        return {
            "max_answer_tokens": self.max_answer_tokens,
            "temperature": self.temperature,
            "shaken_temperature": SHAKEN_TEMPERATURE,
            "min_label_mass": self.min_label_mass,
            "opponents": self.opponents,
            "extras": dict(self.extras),
        }

    def question(
        self,
        messages: Sequence[ChatMessage],
        attempt: int = 0,
        *,
        max_tokens: int | None = None,
        schema: Mapping[str, Any] | None = None,
        alternatives: int = 0,
        labels: Mapping[str, Sequence[str]] | None = None,
    ) -> Question:
        """Returns a question. Each attempt has a seed of its own, and those after the first are not greedy.

        Where log-probabilities are asked for, they are those before sampling: then the likeliest token is written.
        """
        temperature = max(self.temperature, SHAKEN_TEMPERATURE) if attempt else self.temperature
        return Question(
            messages,
            max_tokens=self.max_answer_tokens if max_tokens is None else max_tokens,
            schema=schema,
            temperature=0.0 if alternatives else temperature,
            seed=attempt,
            answer_timeout_s=self.answer_timeout_s,
            alternatives=alternatives,
            labels=labels,
        )


def unit_key(questions: Sequence[Question]) -> bytes:
    """Returns the hash of all that is asked, for `Unit.key`; how long the host may take for it is no part of it."""
    asked = [
        (
            [(message.role, message.content) for message in question.messages],
            question.max_tokens,
            question.schema,
            question.temperature,
            question.seed,
            question.alternatives,
        )
        for question in questions
    ]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).digest()


def affinity_of(*texts: str) -> str:
    """Returns the name of a prompt's beginning, for `Unit.affinity`: the system's text and the task."""
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:16]
