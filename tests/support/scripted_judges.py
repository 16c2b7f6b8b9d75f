"""Models of a judge that answer by a script, whatever is asked: one token, or JSON of any schema, of one completion, of
two, or of a whole group. And what such a model finds in its prompt: the texts between the fences.

    FakeOllama(grading({"Paris.": 0.9, "Rome.": 0.1}.__getitem__))    # grades by lookup, 0 to 1
    FakeOllama(by_position())                                         # likes what it is shown first
    FakeOllama(babbling(lambda text: "silence" in text))              # has no grade for some
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

FENCED: Final = re.compile(
    r"^BEGIN (?P<title>[^\n]*?) (?P<code>\w+)\n(?P<text>.*?)\nEND (?P=title) (?P=code)$", re.DOTALL | re.MULTILINE
)
COMPLETION: Final = "COMPLETION"
SURE: Final = 0.98
BABBLE: Final = "Well, that is an interesting question, and there is much to be said about it."
CLOSE: Final = 0.05


@dataclass(frozen=True)
class Labels:
    """What the first token of an answer could be, by its text; what is missing to 1 is on tokens that mean nothing."""

    probabilities: Mapping[str, float]


class Cut(str):
    """An answer that ends here because the host has no more room for it."""

    __slots__ = ()


class Prompt(list[dict[str, str]]):
    """The messages of a prompt as the model reads them, and how it is to answer."""

    def __init__(
        self,
        messages: Iterable[dict[str, str]],
        *,
        schema: Mapping[str, Any] | None = None,
        seed: int = 0,
        temperature: float = 0.8,
    ) -> None:
        super().__init__(messages)
        self.schema, self.seed, self.temperature = schema, seed, temperature


Messages = list[dict[str, str]]
Answerer = Callable[[Messages], str | Labels]
Grade = Callable[[str], float]
"""What a completion deserves, from 0 to 1."""


@dataclass(frozen=True)
class Block:
    """A text between its fences."""

    title: str
    code: str
    text: str


def blocks_in(messages: Messages) -> list[Block]:
    """Returns all that a prompt shows between fences, in its order; what looks like a fence inside a text is text."""
    found = (match for message in messages for match in FENCED.finditer(message["content"]))
    return [Block(match["title"], match["code"], match["text"]) for match in found]


def completions_in(messages: Messages) -> dict[str, str]:
    """Returns the completions that a prompt asks about, by what follows COMPLETION in their titles, in its order.

    Of several with the same title the last counts: those before it are examples.
    """
    found: dict[str, str] = {}
    for block in blocks_in(messages):
        if block.title.split(" ")[0] == COMPLETION:
            name = block.title.removeprefix(COMPLETION).strip()
            found.pop(name, None)
            found[name] = block.text
    return found


def completion_in(messages: Messages) -> str:
    """Returns the one completion that a prompt asks about."""
    found = completions_in(messages)
    assert found, "the prompt has no fenced completion"
    return list(found.values())[-1]


def judging(score: Grade, reason: str = "as scripted") -> Answerer:
    """Returns a model that always answers `{"reason": …, "score": …}`, with the score that a completion is given."""

    def answer(messages: Messages) -> str:
        return json.dumps({"reason": reason, "score": score(completion_in(messages))})

    return answer


def grading(grade: Grade) -> Answerer:
    """Returns a model that thinks of each completion what it is given, and says so as it is asked."""

    def answer(messages: Messages) -> str | Labels:
        grades = {name: min(1.0, max(0.0, grade(text))) for name, text in completions_in(messages).items()}
        return _said(messages, grades)

    return answer


def constant(grade: float) -> Answerer:
    """Returns a model that thinks the same of everything."""
    return grading(lambda _: grade)


def by_length(longest: int = 1000) -> Answerer:
    """Returns a model that likes length: the best has `longest` characters."""
    return grading(lambda text: len(text) / longest)


def by_lookup(grades: Mapping[str, float], otherwise: float = 0.5) -> Answerer:
    """Returns a model that knows some completions by heart."""
    return grading(lambda text: grades.get(text, otherwise))


def by_position() -> Answerer:
    """Returns a model that likes best what it is shown first, then the second, and so on."""

    def answer(messages: Messages) -> str | Labels:
        shown = completions_in(messages)
        return _said(messages, {name: 1.0 - place / max(1, len(shown)) for place, name in enumerate(shown)})

    return answer


def saying(what: str | Labels, where: Callable[[str], bool], otherwise: Answerer | None = None) -> Answerer:
    """Returns a model that gives one answer wherever a completion is of a kind, and grades soundly elsewhere."""
    sound = otherwise or constant(0.5)

    def answer(messages: Messages) -> str | Labels:
        return what if any(where(text) for text in completions_in(messages).values()) else sound(messages)

    return answer


def babbling(where: Callable[[str], bool], otherwise: Answerer | None = None) -> Answerer:
    """Returns a model that chats instead of grading some completions: no legal label has any probability."""
    return saying(BABBLE, where, otherwise)


def halving(where: Callable[[str], bool], otherwise: Answerer | None = None) -> Answerer:
    """Returns a model whose JSON about some completions never ends: it is cut off at the limit of tokens."""
    return saying('{\n  "reason": "' + "The completion is what it is. " * 1000, where, otherwise)


class Obedient:
    """A model that does what any completion tells it to, and keeps what it has obeyed; others it grades soundly."""

    ORDERS: Final = (
        (re.compile(r"\b(?:score|grade|rating|rate)\b\D{0,24}(\d+)", re.IGNORECASE), lambda told: int(told) / 9),
        (
            re.compile(
                r"\b(?:answer|say|reply|respond|output|print|write)\b\W{0,3}(?:with\W{1,3})?(yes|no)\b", re.IGNORECASE
            ),
            lambda told: float(told.casefold() == "yes"),
        ),
        (re.compile(r"\b(?:choose|pick|prefer|rank)\b.{0,24}\b(me|this|first)\b", re.IGNORECASE), lambda _: 1.0),
    )

    def __init__(self, otherwise: Grade = lambda _: 0.2) -> None:
        self.obeyed: list[str] = []
        self._otherwise = otherwise
        self._grade = grading(self._told)

    def __call__(self, messages: Messages) -> str | Labels:
        return self._grade(messages)

    def _told(self, text: str) -> float:
        for order, grade in self.ORDERS:
            if found := order.search(text):
                self.obeyed.append(found[0])
                return min(1.0, grade(found[1]))
        return self._otherwise(text)


def sure_of(label: str) -> Labels:
    """Returns what a model says that has hardly a doubt."""
    return Labels({label: SURE})


def _said(messages: Messages, grades: Mapping[str, float]) -> str | Labels:
    """Returns grades, by completion, in the form that is asked for."""
    schema = getattr(messages, "schema", None)
    best_first = sorted(grades, key=lambda name: -grades[name])
    overall = max(grades.values(), default=0.5)
    if schema is not None:
        return json.dumps(filled(schema, overall, grades, best_first))
    if len(grades) == 2:
        first, second = grades
        share = 0.5 + max(-CLOSE, min(CLOSE, grades[first] - grades[second])) / CLOSE * (SURE - 0.5)
        return Labels({first: share, second: 1.0 - share})
    return one_token(overall)


def one_token(grade: float) -> Labels:
    """Returns a grade for whoever reads yes and no, or digits: half of the probability is on either."""
    low = min(8, int(grade * 9))
    rest = grade * 9 - low
    spread = {"Yes": grade / 2, "No": (1.0 - grade) / 2, str(low): (1.0 - rest) / 2, str(low + 1): rest / 2}
    return Labels({label: probability for label, probability in spread.items() if probability > 0.0})


def filled(
    schema: Mapping[str, Any] | str, grade: float, grades: Mapping[str, float], best_first: Sequence[str]
) -> Any:
    """Returns an instance of a JSON schema: grades where it wants grades, names where it wants names in an order."""
    if not isinstance(schema, Mapping):  # "json": any object
        return {"reason": "as scripted", "score": round(grade * 9)}
    if "const" in schema or "enum" in schema:
        return _chosen(list(schema.get("enum", [schema.get("const")])), grade, best_first)
    kind = schema.get("type", "object")
    if kind == "object":
        inner = schema.get("properties", {})
        return {key: filled(inner[key], grades.get(key, grade), grades, best_first) for key in inner}
    if kind == "array":
        if best_first and schema.get("items", {}).get("type", "string") == "string":
            return list(best_first)
        return [filled(schema["items"], grade, grades, best_first) for _ in range(schema.get("minItems", 1))]
    return _plain(schema, kind, grade)


def _plain(schema: Mapping[str, Any], kind: str, grade: float) -> Any:
    if kind in ("integer", "number"):
        low, high = schema.get("minimum", 0), schema.get("maximum", 9)
        value = low + grade * (high - low)
        return round(value) if kind == "integer" else value
    return grade >= 0.5 if kind == "boolean" else "as scripted"


def _chosen(choices: list[Any], grade: float, best_first: Sequence[str]) -> Any:
    words = {str(choice).casefold(): choice for choice in choices}
    if {"yes", "no"} <= words.keys():
        return words["yes" if grade >= 0.5 else "no"]
    if best_first and best_first[0] in choices:
        return best_first[0]
    return choices[round(grade * (len(choices) - 1))]
