"""The cosine reward (arXiv 2502.03373, "Demystifying Long Chain-of-Thought Reasoning in LLMs"), by length and correctness.

    solved: {exact_match: {}}
    shaped: {cosine: {correct: solved, max_length: 16384}}

A right answer is worth less the longer it is, a wrong one costs less the longer it is, and what reaches the limit costs
most. With n the length and L = `max_length`:

    CosFn(n, L, r0, rL) = rL + (r0 - rL) (1 + cos(pi n / L)) / 2        r0 at length 0, rL at the limit

    CosFn(n, L, r0_correct, rL_correct)   right, n < L
    CosFn(n, L, r0_wrong, rL_wrong)       wrong, n < L
    r_exceeded                            n >= L

The defaults are the paper's. With `r_exceeded: null` (as in Open-R1) what is longer than the limit scores as at the limit.

Columns: those of the part. Range: the least to the greatest of the five. Cost class: the part's.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar

from pydantic import Field

from reward_server.domain import Sample, Verdict
from reward_server.options import Options
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.length import Extent as Length
from reward_server.scorers.length import Unit, length_of
from reward_server.scorers.recipes.base import Number, Recipe
from reward_server.scorers.recipes.extents import Extent, hull
from reward_server.views import View


class CosineOptions(Options):
    """Options of the scorer `cosine`."""

    correct: str = Field(description="name of the reward that says whether the answer is right")
    correct_at_least: Number = Field(1.0, description="from this score on it is right")
    unit: Unit = Field(Unit.TOKENS, description="what is counted: chars, words or tokens")
    max_length: Length = Field(description="the limit: the paper's L_max")
    r0_correct: Number = Field(2.0, description="score of a right answer of length 0")
    rL_correct: Number = Field(1.0, description="score of a right answer at the limit")  # noqa: N815  # the paper's
    r0_wrong: Number = Field(-10.0, description="score of a wrong answer of length 0")
    rL_wrong: Number = Field(0.0, description="score of a wrong answer at the limit")  # noqa: N815  # the paper's
    r_exceeded: Number | None = Field(
        -10.0, description="score of what reaches the limit; null: as it is right or wrong there"
    )

    def rewards_used(self) -> Collection[str]:
        """Returns the part's name."""
        return (self.correct,)


class Cosine(Recipe):
    """Scores the length of right and of wrong answers."""

    kind: ClassVar[str] = "cosine"
    Options = CosineOptions

    def __init__(self, options: CosineOptions, context: ScorerContext) -> None:
        super().__init__([options.correct], context)
        self._options = options
        self._enough = math.ceil(options.max_length)

    async def start(self) -> None:
        """Takes over what the part needs. Raises `ConfigError` where its range makes all answers right, or all wrong."""
        self.check_decides("correct_at_least", self._options.correct, self._options.correct_at_least)
        await super().start()

    def verdict_on(self, sample: Sample, verdicts: Mapping[str, Verdict]) -> Verdict:
        """Returns the verdict on one sample: whether it is right says a part, how long it is the sample."""
        length = length_of(View.FULL.show(sample), self._options.unit, self._enough)
        if not isinstance(length, Verdict):
            return self.combined(verdicts, partial(self._at, length))
        verdict = self.combined(verdicts, self.extent)
        if verdict.score is None:
            return verdict
        return replace(length, parts=verdict.parts, cost=verdict.cost, flags=verdict.flags)

    def extent(self, parts: Mapping[str, Extent]) -> Extent:
        """Returns between what the score lies, whatever the length."""
        of = self._options
        ends = [[of.r0_correct, of.rL_correct]] * self._may_be(parts, right=True)
        ends += [[of.r0_wrong, of.rL_wrong]] * self._may_be(parts, right=False)
        ends += [] if of.r_exceeded is None else [[of.r_exceeded]]
        return hull((score, score) for scores in ends for score in scores)

    def _at(self, length: int, parts: Mapping[str, Extent]) -> Extent:
        of = self._options
        if length >= of.max_length and of.r_exceeded is not None:
            return of.r_exceeded, of.r_exceeded
        scores = [cos_fn(length, of.max_length, of.r0_correct, of.rL_correct)] * self._may_be(parts, right=True)
        scores += [cos_fn(length, of.max_length, of.r0_wrong, of.rL_wrong)] * self._may_be(parts, right=False)
        return min(scores), max(scores)

    def _may_be(self, parts: Mapping[str, Extent], *, right: bool) -> bool:
        low, high = parts[self._options.correct]
        return high >= self._options.correct_at_least if right else low < self._options.correct_at_least


def cos_fn(length: float, limit: float, at_none: float, at_limit: float) -> float:
    """Returns the score of a length, on half a cosine wave from one score to the other; flat from the limit on."""
    share = (1.0 + math.cos(math.pi * min(length, limit) / limit)) / 2.0
    return at_limit + share * (at_none - at_limit)
