"""From the numbers that a reward model's server tells to a score: which class, which activation, which range."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Self

from pydantic import Field, field_validator, model_validator

from reward_server.domain import Verdict, failed, scored
from reward_server.options import Options, ScoreRange

Activation = Literal["none", "sigmoid", "softmax"]
RAW: Final = "raw"
"""The part of a verdict that has the model's own number, where the score is made of it."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a model told of one input: a number for each of its classes."""

    numbers: Sequence[float]
    labels: Sequence[str] = ()  # of the classes, in that order; empty where the server does not tell them


class Calibration(Options):
    """Maps the model's numbers to a range by a straight line."""

    low: float = Field(description="the model's number that becomes the first of `to`")
    high: float = Field(description="the model's number that becomes the second of `to`")
    to: ScoreRange = Field((0.0, 1.0), description="the range that they are mapped to")
    clip: bool = Field(
        default=True, description="numbers outside become its ends; else they go beyond, and no range is known"
    )

    @field_validator("low", "high")
    @classmethod
    def _finite(cls, value: float) -> float:
        if not math.isfinite(value):
            raise ValueError("must be a finite number")
        return value

    @model_validator(mode="after")
    def _apart(self) -> Self:
        if self.low == self.high:
            raise ValueError("low and high must differ")
        return self

    def apply(self, number: float) -> float:
        """Returns a number in the range."""
        low, high = self.to
        share = (number - self.low) / (self.high - self.low)
        mapped = low + share * (high - low)
        return min(max(mapped, low), high) if self.clip else mapped


class Reader:
    """Makes scores of readings.

    Args:
        label: the class to read, by name or by its place; None where there is one only.
        activation: what is applied to the model's numbers.
        calibrate: the line to a range; None for none.
    """

    def __init__(self, label: str | int | None, activation: Activation, calibrate: Calibration | None) -> None:
        self._label, self._activation, self._calibrate = label, activation, calibrate

    @property
    def score_range(self) -> tuple[float, float] | None:
        """Returns the range of the scores, None where it is unknown."""
        line, activated = self._calibrate, self._activation != "none"
        if line is None:
            return (0.0, 1.0) if activated else None
        if line.clip:
            return line.to
        ends = sorted((line.apply(0.0), line.apply(1.0)))
        return (ends[0], ends[1]) if activated else None

    def verdict(self, reading: Reading) -> Verdict:
        """Returns the verdict that a reading makes."""
        place = self._place(reading)
        if isinstance(place, str):
            return failed(place)
        raw = reading.numbers[place]
        score = self._activated(reading.numbers, place)
        if not math.isfinite(raw) or not math.isfinite(score):
            return failed(f"the model's number is {raw}, which is not finite")
        if self._calibrate is not None:
            score = self._calibrate.apply(score)
        made = self._calibrate is not None or self._activation != "none"
        return scored(score, parts={RAW: raw} if made else {})

    def _place(self, reading: Reading) -> int | str:
        """Returns the place of the class to read, or in words why there is none."""
        count, label = len(reading.numbers), self._label
        named = f" ({', '.join(reading.labels[:20])})" if reading.labels else ""
        if label is None:
            return 0 if count == 1 else f"the model tells {count} classes{named}: say which by `label`"
        if isinstance(label, int):
            if reading.labels and count > 1:
                return f"the server sorts the classes{named}: name the one to read by `label`, not by its number"
            return label if label < count else f"the model has {count} classes, none of number {label}"
        if not reading.labels:
            return f"the server names no classes: say the number of {label!r}, from 0 on, by `label`"
        return reading.labels.index(label) if label in reading.labels else f"the model has no class {label!r}{named}"

    def _activated(self, numbers: Sequence[float], place: int) -> float:
        number = numbers[place]
        if self._activation == "sigmoid":
            return sigmoid(number)
        if self._activation == "softmax":
            most = max(numbers)
            return math.exp(number - most) / math.fsum(math.exp(other - most) for other in numbers)
        return number


def sigmoid(number: float) -> float:
    """Returns 1 / (1 + e^-number), without overflow at either end."""
    if number >= 0:
        return 1 / (1 + math.exp(-number))
    grown = math.exp(number)
    return grown / (1 + grown)
