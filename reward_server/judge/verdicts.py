"""The form of a judge's answer, `{"reason": …, "score": …}`, and what is taken for one: nothing else."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from reward_server.engines.complaints import excerpt
from reward_server.errors import BadAnswer

FRAME_TOKENS: Final = 20
"""Tokens of an answer that are not its reason: braces, keys, quotes and the score."""
CHARS_A_TOKEN: Final = 3
"""A reason of so many characters a token fits into what is left; English has four and more."""
FENCED: Final = re.compile(r"\A```(?:json)?\s*\n(.*)\n```\Z", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """The scores that a judge may give, both ends among them."""

    low: float
    high: float

    @property
    def whole(self) -> bool:
        """Tells whether only whole numbers count: so where both ends are written as whole numbers."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def __contains__(self, score: float) -> bool:
        return self.low <= score <= self.high and (not self.whole or float(score).is_integer())

    def __str__(self) -> str:
        return f"{'a whole number' if self.whole else 'a number'} from {self.low} to {self.high}"


@dataclass(frozen=True, slots=True)
class Opinion:
    """What a judge said of one completion."""

    reason: str
    score: float


def reason_chars(max_answer_tokens: int) -> int:
    """Returns how long a reason may be, in characters, so that the score behind it still fits into the answer."""
    return max(CHARS_A_TOKEN, (max_answer_tokens - FRAME_TOKENS) * CHARS_A_TOKEN)


def schema(scores: ScoreRange, max_answer_tokens: int) -> dict[str, Any]:
    """Returns the JSON schema of an answer. The reason comes first, so that the score follows from it."""
    return {
        "type": "object",
        "properties": {
            "reason": {"type": "string", "maxLength": reason_chars(max_answer_tokens)},
            "score": {
                "type": "integer" if scores.whole else "number",
                "minimum": scores.low,
                "maximum": scores.high,
            },
        },
        "required": ["reason", "score"],
        "additionalProperties": False,
    }


def read(text: str, scores: ScoreRange) -> Opinion:
    """Returns the opinion that the text is, or raises `BadAnswer` that says what it is instead. Never a guess.

    The whole text must be the object, though Markdown's fence around all of it is forgiven.
    """
    fenced = FENCED.match(text.strip())
    try:
        said = json.loads(fenced[1] if fenced else text, object_pairs_hook=_without_repeats, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadAnswer(f"not the JSON asked for ({excerpt(str(error))}): {excerpt(text)!r}") from error
    if not isinstance(said, dict) or said.keys() != {"reason", "score"}:
        raise BadAnswer(f"not an object of reason and score: {excerpt(text)!r}")
    reason, score = said["reason"], said["score"]
    if not isinstance(reason, str):
        raise BadAnswer(f"the reason is no text: {excerpt(text)!r}")
    if isinstance(score, bool) or not isinstance(score, int | float) or score not in scores:
        raise BadAnswer(f"the score is not {scores}: {excerpt(text)!r}")
    return Opinion(reason, float(score))


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuses an object that says a thing twice: which of the two would it mean?"""
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError("a key stands there twice")
    return dict(pairs)


def _no_number(name: str) -> float:
    """Refuses NaN and the infinities, which are JSON only in Python."""
    raise ValueError(f"{name} is not a number of JSON")
