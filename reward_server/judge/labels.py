"""Reads a grade from the probabilities of the labels that the model could have written, not from what it wrote.

The mean over the labels says more than the likeliest one: a judge that is 60 to 40 for yes is not sure, and says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from reward_server.engines.base import Answer, Position
from reward_server.errors import BadAnswer
from reward_server.http.complaints import excerpt

YES_NO: Final[Mapping[str, Sequence[str]]] = {"yes": ("yes",), "no": ("no",)}
DIGITS: Final[Mapping[str, Sequence[str]]] = {str(digit): (str(digit),) for digit in range(10)}
SPACES: Final = " \t\r\n\u2581\u0120\u010a"
"""Some hosts tell a token as its vocabulary has it, where U+2581, U+0120 and U+010A stand for blanks and line breaks."""
TOKENS_QUOTED: Final = 3
NEARLY: Final = 0.5
"""With more than this share of the probability that is asked for, a model is unsure of the form and not silenced."""


@dataclass(frozen=True, slots=True)
class LabelReading:
    """How likely each legal label was."""

    probabilities: Mapping[str, float]  # by label; they sum to 1
    mass: float  # what all of them had together before that, 0 to 1


def read_labels(position: Position, labels: Mapping[str, Sequence[str]], min_mass: float) -> LabelReading:
    """Returns how likely each label was among the legal ones, all spellings of a label added up.

    Args:
        position: the token that was written, with its alternatives.
        labels: the spellings of each label; blanks around them and upper case make no difference.
        min_mass: how likely the labels must have been together.

    Raises:
        BadAnswer: they were less likely: the model did not answer the question.
    """
    label_of = {_plain(spelling): label for label, spellings in labels.items() for spelling in spellings}
    found = dict.fromkeys(labels, 0.0)
    for token, logprob in position.logprobs.items():
        label = label_of.get(_plain(token))
        if label is not None and logprob == logprob:  # noqa: PLR0124  # NaN is the one value that differs from itself
            found[label] += math.exp(min(logprob, 0.0))
    mass = sum(found.values())
    if mass <= 0.0 or mass < min_mass:
        likeliest = ", ".join(repr(excerpt(token)) for token in list(position.logprobs)[:TOKENS_QUOTED]) or "none"
        wanted = f"{next(iter(labels))} … {list(labels)[-1]}" if len(labels) > 2 else " or ".join(labels)  # noqa: PLR2004  # two can be said in full
        asked = f" (min_label_mass asks for {min_mass:.0%})" if min_mass else ""
        error = BadAnswer(
            f"only {mass:.1%} of the probability is on {wanted}{asked}; the likeliest tokens are {likeliest}"
        )
        error.nearly = mass > NEARLY * min_mass
        raise error
    return LabelReading({label: value / mass for label, value in found.items()}, min(1.0, mass))


def first_position(answer: Answer) -> Position:
    """Returns the position of an answer's first token. Raises `BadAnswer` where the host told no log-probabilities."""
    if not answer.positions:
        raise BadAnswer(f"the answer came without log-probabilities: {excerpt(answer.text)!r}")
    return answer.positions[0]


def _plain(token: str) -> str:
    return token.strip(SPACES).casefold()
