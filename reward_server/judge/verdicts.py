"""The form of a judge's answer in words, `{"reason": …, "grades": {…}}`, and what is taken for one: nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from reward_server.errors import BadAnswer
from reward_server.http.complaints import excerpt
from reward_server.judge.rubric import Criterion, Grade

FRAME_TOKENS: Final = 16
"""Tokens of an answer that are neither its reason nor its grades: braces, keys and quotes."""
GRADE_TOKENS: Final = 6
"""Tokens of one grade besides its criterion's name: quotes, colon, the grade, a comma."""
CHARS_A_TOKEN: Final = 3
"""A reason of so many characters a token fits into what is left; English has four and more."""
FENCED: Final = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Grades:
    """What a judge said of one completion."""

    reason: str
    grades: Mapping[str, Grade]  # by criterion, all of them


def reason_chars(max_answer_tokens: int, criteria: Sequence[Criterion]) -> int:
    """Returns how long a reason may be, in characters, so that the grades behind it still fit into the answer.

    Less than one: there is no room for a reason.
    """
    names = sum(len(criterion.name) // CHARS_A_TOKEN + 1 + GRADE_TOKENS for criterion in criteria)
    return (max_answer_tokens - FRAME_TOKENS - names) * CHARS_A_TOKEN


def schema(criteria: Sequence[Criterion], max_reason_chars: int) -> dict[str, Any]:
    """Returns the JSON schema of an answer. The reason comes first, so that the grades follow from it."""
    grades = {
        criterion.name: {"type": "integer", "minimum": 0, "maximum": 9}
        if criterion.scale == "0-9"
        else {"type": "string", "enum": ["yes", "no"]}
        for criterion in criteria
    }
    properties = {"reason": {"type": "string", "maxLength": max_reason_chars}, "grades": _object(grades)}
    return _object(properties)


def read(text: str, criteria: Sequence[Criterion]) -> Grades:
    """Returns the grades that the text is, or raises `BadAnswer` that says what it is instead. Never a guess.

    The whole text must be the object, though Markdown's fence around all of it is forgiven.
    """
    said = json_of(text)
    if not isinstance(said, dict) or said.keys() != {"reason", "grades"}:
        raise BadAnswer(f"not an object of reason and grades: {excerpt(text)!r}")
    reason, grades = said["reason"], said["grades"]
    if not isinstance(reason, str):
        raise BadAnswer(f"the reason is no text: {excerpt(text)!r}")
    names = [criterion.name for criterion in criteria]
    if not isinstance(grades, dict) or grades.keys() != set(names):
        raise BadAnswer(f"the grades are not those of {excerpt(', '.join(names))}: {excerpt(text)!r}")
    return Grades(reason, {criterion.name: _grade(grades[criterion.name], criterion, text) for criterion in criteria})


def json_of(text: str) -> Any:
    """Returns the JSON that the whole text is, Markdown's fence around it forgiven; raises `BadAnswer` where it is none."""
    fenced = FENCED.match(text.strip())
    try:
        return json.loads(fenced[1] if fenced else text, object_pairs_hook=_without_repeats, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"not the JSON asked for ({excerpt(str(error))}): {excerpt(text)!r}") from error


def _grade(said: Any, criterion: Criterion, text: str) -> Grade:
    """Returns a legal grade or raises `BadAnswer`."""
    if criterion.scale == "0-9":
        number = isinstance(said, int | float) and not isinstance(said, bool)
        if number and 0 <= said <= 9 and float(said).is_integer():  # noqa: PLR2004  # the scale's own name has them
            return int(said)
        raise BadAnswer(f"the grade of {criterion.name} is not a whole number from 0 to 9: {excerpt(text)!r}")
    if said in ("yes", "no"):
        return "yes" if said == "yes" else "no"
    raise BadAnswer(f"the grade of {criterion.name} is neither yes nor no: {excerpt(text)!r}")


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses an object that says a thing twice: which of the two would it mean?"""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _no_number(name: str) -> float:
    """Refuses NaN and the infinities, which are JSON only in Python."""
    raise ValueError(f"{name} is not a number of JSON")
