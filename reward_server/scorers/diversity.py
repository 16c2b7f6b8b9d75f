"""How unlike a completion is to the others of its group: 1 less its similarity to them. Copies score lowest.

    fresh:   {diversity: {}}                                # share of common runs of three words
    copies:  {diversity: {metric: exact}}                   # only whole copies count
    nearest: {diversity: {metric: edit, others: max}}       # how far from the most similar one, by characters

Compared are texts in lower case, all blanks made one, without punctuation at the ends of words and what nobody sees, and of each the first `max_chars` characters. A group of one has
nothing to compare: its verdict is missing.

Columns: none. Range: 0 to 1. Cost class: compute.
"""

from __future__ import annotations

import string
from collections.abc import Hashable, Sequence
from itertools import combinations
from math import fsum
from typing import Annotated, Any, ClassVar, Final, Literal

from pydantic import Field
from rapidfuzz.distance import Levenshtein

from reward_server.domain import Sample, Verdict, abstained, scored
from reward_server.scorers.base import RuleContext
from reward_server.scorers.pooled import GroupRule, PooledOptions
from reward_server.scorers.texts import NOT_A_TEXT, visible

ALONE: Final = abstained(
    "it has no other completion of the same prompt to be compared with: a trainer must send whole groups of two or more"
)

EDIT_CHARS: Final = 2_000
RUNS_CHARS: Final = 10_000
"""With so many characters the pairs of a group of 64 take about a second."""


class DiversityOptions(PooledOptions):
    """How similar two completions are, and what of the similarities to all others counts."""

    metric: Literal["exact", "ngram", "edit"] = Field(
        "ngram",
        description="similarity: exact (1 for a copy, else 0), ngram (shared runs of words or characters, divided by all "
        "different ones of both) or edit (1 less the share of characters to be changed)",
    )
    others: Literal["mean", "max"] = Field("mean", description="similarity to all others, or to the most similar one")
    unit: Literal["words", "chars"] = Field("words", description="what the runs of ngram are made of")
    n: Annotated[int, Field(strict=True, ge=1, le=20)] = Field(3, description="length of the runs of ngram")
    max_chars: Annotated[int, Field(strict=True, ge=1, le=100_000)] | None = Field(
        None, description="so many characters of each completion are compared; absent: 2000 with edit, else 10000"
    )


class Diversity(GroupRule):
    """Scores 1 less the similarity to the other completions of the group."""

    kind: ClassVar[str] = "diversity"
    Options = DiversityOptions
    score_range = (0.0, 1.0)
    libraries = ("RapidFuzz",)

    def __init__(self, options: DiversityOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._options = options
        self._max_chars = options.max_chars or (EDIT_CHARS if options.metric == "edit" else RUNS_CHARS)

    def judge_group(self, samples: Sequence[Sample]) -> Sequence[Verdict]:
        """Returns each completion's verdict; one that is no text takes no part."""
        texts = {i: self._normal(each.completion) for i, each in enumerate(samples) if isinstance(each.completion, str)}
        if len(texts) == 1:
            scores = dict.fromkeys(texts, ALONE)
        else:
            scores = {i: scored(score) for i, score in zip(texts, self._scores(list(texts.values())), strict=True)}
        return [scores.get(i, NOT_A_TEXT) for i in range(len(samples))]

    def _normal(self, text: str) -> str:
        words = (word.strip(string.punctuation) for word in visible(text).casefold().split())
        return " ".join(filter(None, words))[: self._max_chars]

    def _scores(self, texts: list[str]) -> list[float]:
        """Returns 1 less the similarity to the others for each text; equal texts are compared with the others once."""
        different = list(dict.fromkeys(texts))
        number = {text: place for place, text in enumerate(different)}
        table = self._similarities(different)
        members = [number[text] for text in texts]
        rows: list[list[float]] = [[] for _ in texts]
        for (a, one), (b, other) in combinations(enumerate(members), 2):
            similarity = table[one][other]
            rows[a].append(similarity)
            rows[b].append(similarity)
        return [1.0 - self._summed_up(row) for row in rows]

    def _summed_up(self, similarities: list[float]) -> float:
        if self._options.others == "max":
            return max(similarities)
        return fsum(similarities) / len(similarities)  # exact, so that the order of the group does not matter

    def _similarities(self, texts: list[str]) -> list[list[float]]:
        table = [[1.0] * len(texts) for _ in texts]
        features = [self._feature(text) for text in texts]
        for (a, one), (b, other) in combinations(enumerate(features), 2):
            table[a][b] = table[b][a] = self._similarity(one, other)
        return table

    def _feature(self, text: str) -> Any:
        """Returns what is compared of a text: itself, or the set of its runs."""
        if self._options.metric != "ngram":
            return text
        return runs(text.split() if self._options.unit == "words" else text, self._options.n)

    def _similarity(self, one: Any, other: Any) -> float:
        """Returns the similarity of what is compared of two different texts."""
        if self._options.metric == "exact":
            return 0.0
        if self._options.metric == "edit":
            return float(Levenshtein.normalized_similarity(one, other))
        common = len(one & other)
        return common / (len(one) + len(other) - common)


def runs(units: Sequence[str], length: int) -> frozenset[Hashable]:
    """Returns all runs of so many units; of a text with fewer, that text: so it is empty for none."""
    return frozenset(tuple(units[start : start + length]) for start in range(max(1, len(units) - length + 1)))
