"""A soft punishment of completions that come near the limit of their length, as in DAPO (arXiv 2503.14476, eq. 13).

    overlong: {overlong: {max_length: 20480, cache: 4096}}

With L_max = `max_length` and L_cache = `cache` a completion of length n scores

    0                                  where n <= L_max - L_cache
    ((L_max - L_cache) - n) / L_cache  where L_max - L_cache < n <= L_max
    -1                                 where L_max < n

It is made to be added to what says whether an answer is right: `sum: {solved: 1, overlong: 1}`.

Columns: none. Range: -1 to 0. Cost class: trivial.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import ClassVar, Self

from pydantic import Field, model_validator

from reward_server.domain import Sample, Verdict, scored
from reward_server.options import Options
from reward_server.scorers.base import Rule, RuleContext
from reward_server.scorers.length import LENGTHS_REMEMBERED, Extent, Number, Unit, length_of


class OverlongOptions(Options):
    """Options of the scorer `overlong`."""

    unit: Unit = Field(Unit.TOKENS, description="what is counted: chars, words or tokens")
    max_length: Extent = Field(description="longer completions score -1: the paper's L_max")
    cache: Number = Field(
        ge=0, description="length below `max_length` over which the score falls from 0: the paper's L_cache"
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.cache > self.max_length:
            raise ValueError(f"cache must not be over max_length; here they are {self.cache:g} and {self.max_length:g}")
        return self


class Overlong(Rule):
    """Punishes completions that come near the limit of their length."""

    kind: ClassVar[str] = "overlong"
    Options = OverlongOptions
    score_range = (-1.0, 0.0)

    def __init__(self, options: OverlongOptions, _context: RuleContext) -> None:
        self._options = options
        self._enough = math.floor(options.max_length) + 1  # all lengths from here on have the same score
        self._verdict = lru_cache(LENGTHS_REMEMBERED)(lambda length: scored(self._score(length)))

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the punishment of the completion's length."""
        length = length_of(sample, self._options.unit, self._enough)
        return length if isinstance(length, Verdict) else self._verdict(length)

    def _score(self, length: int) -> float:
        longest, cache = self._options.max_length, self._options.cache
        if length <= longest - cache:
            return 0.0
        return (longest - cache - length) / cache if length <= longest else -1.0
