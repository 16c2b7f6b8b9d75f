"""How many of a text's word n-grams are also in reference texts: sentence-level BLEU by sacrebleu, divided by 100.

    translated: {bleu: {reference_column: translation}}
    chinese:    {bleu: {tokenize: zh}}
    classic:    {bleu: {effective_order: false, smooth_method: none}}

It is `sacrebleu.sentence_bleu` with the same options. With `effective_order` (its default for sentences) a text of
fewer than four words is compared by the n-grams that it has.

Columns: the reference column. Range: 0 to 1. Cost class: compute.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator
from sacrebleu.metrics.bleu import BLEU

from reward_server.scorers.base import RuleContext
from reward_server.scorers.overlap.base import Overlap, OverlapOptions

logging.getLogger("sacrebleu").setLevel(logging.ERROR)  # it advises on options at every text


class BleuOptions(OverlapOptions):
    """The options of sacrebleu's BLEU, under its names."""

    tokenize: Literal["13a", "intl", "zh", "char", "none"] = Field(
        "13a", description="how words are told apart: 13a (Western languages), intl, zh, char or none (at blanks)"
    )
    lowercase: bool = Field(default=False, description="upper and lower case are alike")
    max_ngram_order: Annotated[int, Field(strict=True, ge=1, le=10)] = Field(
        4, description="longest run of words that is compared"
    )
    smooth_method: Literal["exp", "floor", "add-k", "none"] = Field(
        "exp", description="what stands for orders without a match"
    )
    smooth_value: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        None, description="value of smoothing methods floor and add-k; absent: 0.1 and 1"
    )
    effective_order: bool = Field(default=True, description="leave out orders for which the text is too short")

    @model_validator(mode="after")
    def _smooths(self) -> Self:
        if self.smooth_value is not None and self.smooth_method not in {"floor", "add-k"}:
            raise ValueError(f"smooth_method {self.smooth_method!r} takes no smooth_value: only floor and add-k do")
        return self


class Bleu(Overlap):
    """Scores sentence-level BLEU."""

    kind: ClassVar[str] = "bleu"
    Options = BleuOptions
    libraries = ("sacrebleu",)

    def __init__(self, options: BleuOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._bleu = BLEU(
            lowercase=options.lowercase,
            tokenize=options.tokenize,
            smooth_method=options.smooth_method,
            smooth_value=options.smooth_value,
            max_ngram_order=options.max_ngram_order,
            effective_order=options.effective_order,
        )

    def _overlap(self, text: str, references: Sequence[str]) -> float:
        try:
            return float(self._bleu.sentence_score(text, references).score) / 100
        finally:
            _forget_texts(self._bleu.tokenizer)


def _forget_texts(tokenizer: Any) -> None:
    """Empties the caches of sacrebleu's tokenizers: they keep 65,536 texts, which here may be 1 MB each."""
    for each in (tokenizer, *vars(tokenizer).values()):
        clear = getattr(vars(type(each)).get("__call__"), "cache_clear", None)
        if clear is not None:
            clear()
