"""How many of a text's character n-grams are also in reference texts: sentence-level chrF by sacrebleu, divided by 100.

    translated: {chrf: {reference_column: translation}}
    with_words: {chrf: {word_order: 2}}      # chrF++

It is `sacrebleu.sentence_chrf` with the same options. Needs no words, so it suits any language.

Columns: the reference column. Range: 0 to 1. Cost class: compute.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field
from sacrebleu.metrics.chrf import CHRF

from reward_server.scorers.base import RuleContext
from reward_server.scorers.overlap.base import Overlap, OverlapOptions


class ChrFOptions(OverlapOptions):
    """The options of sacrebleu's CHRF, under its names."""

    char_order: Annotated[int, Field(strict=True, ge=1, le=10)] = Field(
        6, description="longest run of characters that is compared"
    )
    word_order: Annotated[int, Field(strict=True, ge=0, le=4)] = Field(
        0, description="longest run of words that is compared too; 2 is chrF++"
    )
    beta: Annotated[int, Field(strict=True, ge=1, le=10)] = Field(
        2, description="so many times as much as precision counts recall"
    )
    lowercase: bool = Field(default=False, description="upper and lower case are alike")
    whitespace: bool = Field(default=False, description="blanks count as characters")
    eps_smoothing: bool = Field(default=False, description="smooth as chrF++.py, NLTK and Moses do")


class ChrF(Overlap):
    """Scores sentence-level chrF."""

    kind: ClassVar[str] = "chrf"
    Options = ChrFOptions
    libraries = ("sacrebleu",)

    def __init__(self, options: ChrFOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._chrf = CHRF(
            char_order=options.char_order,
            word_order=options.word_order,
            beta=options.beta,
            lowercase=options.lowercase,
            whitespace=options.whitespace,
            eps_smoothing=options.eps_smoothing,
        )

    def _overlap(self, text: str, references: Sequence[str]) -> float:
        return float(self._chrf.sentence_score(text, references).score) / 100
