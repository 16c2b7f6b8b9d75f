"""How much of the words of a reference text a text repeats: ROUGE, as the package `rouge_score` computes it.

    summary: {rouge: {reference_column: summary}}                      # ROUGE-L, F-measure
    covers:  {rouge: {rouge_type: rouge1, measure: recall, use_stemmer: true}}

Words are runs of the letters a to z and digits, in lower case: a text in another script has none. Of several
references the one with the highest F-measure counts.

Columns: the reference column. Range: 0 to 1. Cost class: compute.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import ClassVar, Final, Literal, NamedTuple

from pydantic import Field
from rapidfuzz.distance import LCSseq

from reward_server.scorers.base import RuleContext
from reward_server.scorers.overlap.base import Overlap, OverlapOptions
from reward_server.scorers.overlap.porter import stem

WORD: Final = re.compile("[a-z0-9]+")

LONGER_THAN_STEMMED: Final = 3
"""Words of so many letters are not stemmed: as rouge_score has it."""


class RougeOptions(OverlapOptions):
    """Which ROUGE, by the names of rouge_score."""

    rouge_type: Literal["rouge1", "rouge2", "rouge3", "rouge4", "rougeL"] = Field(
        "rougeL",
        description="what is counted: runs of 1 to 4 words, or the longest common subsequence of words (rougeL)",
    )
    measure: Literal["fmeasure", "precision", "recall"] = Field(
        "fmeasure", description="precision: the text's share that matches; recall: the reference's; fmeasure: of both"
    )
    use_stemmer: bool = Field(default=False, description="English words count without their endings (Porter's stemmer)")


class Score(NamedTuple):
    """The three measures of one comparison."""

    precision: float
    recall: float
    fmeasure: float


class Rouge(Overlap):
    """Scores ROUGE."""

    kind: ClassVar[str] = "rouge"
    Options = RougeOptions
    libraries = ("RapidFuzz",)
    _lack = "no reference text with words that ROUGE counts (of a to z and digits)"

    def __init__(self, options: RougeOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._stems = options.use_stemmer
        self._measure = options.measure
        kind = options.rouge_type.removeprefix("rouge")
        self._order = None if kind == "L" else int(kind)

    def _comparable(self, references: Sequence[str]) -> Sequence[str]:
        return [text for text in references if WORD.search(text.lower())]

    def _overlap(self, text: str, references: Sequence[str]) -> float:
        words = self._words(text)
        scores = [self._compared(self._words(reference), words) for reference in references]
        return float(getattr(max(scores, key=lambda score: score.fmeasure), self._measure))

    def _words(self, text: str) -> list[str]:
        words = WORD.findall(text.lower())
        if not self._stems:
            return words
        stems = {word: stem(word) if len(word) > LONGER_THAN_STEMMED else word for word in set(words)}
        return [stems[word] for word in words if stems[word]]

    def _compared(self, reference: list[str], words: list[str]) -> Score:
        if self._order is None:
            return _score(LCSseq.similarity(reference, words), len(words), len(reference))
        runs, reference_runs = _runs(words, self._order), _runs(reference, self._order)
        common = sum(min(count, runs[run]) for run, count in reference_runs.items())
        return _score(common, runs.total(), reference_runs.total())


def _runs(words: list[str], length: int) -> Counter[tuple[str, ...]]:
    return Counter(zip(*(words[start:] for start in range(length)), strict=False))


def _score(common: int, count: int, reference_count: int) -> Score:
    precision, recall = common / max(count, 1), common / max(reference_count, 1)
    both = precision + recall
    return Score(precision, recall, 2 * precision * recall / both if both else 0.0)
