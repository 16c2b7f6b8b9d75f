r"""Whether a text is in the language wanted, as py3langid tells it.

    german:   {language: {languages: [de]}}
    as_asked: {language: {language_column: lang, among: [en, de, fr, zh], threshold: 0.8}}

The score is the probability that the text is in one of the languages wanted, or with `threshold` 1 from that probability
on, else 0. It is the mean over pieces of 1,000 characters: of a text that is half in another language, about a half. Telling apart few languages (`among`) is surer than all 140.

A text with fewer than `min_letters` letters scores `too_short`: nobody can tell its language, and a text that is too short to
be punished must not be a way out. A letter of Chinese, Japanese or Korean counts as three.

Columns: `language_column`, if given: a code such as de, de-AT or zh_CN, or a list of them. Range: 0 to 1. Cost class: compute.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Final, Self

import re2  # type: ignore[import-untyped]  # it comes without types
from py3langid.langid import MODEL_FILE, LanguageIdentifier
from pydantic import Field, model_validator

from reward_server.domain import Blame, Needs, Sample, Verdict, abstained, scored
from reward_server.errors import ConfigError
from reward_server.scorers.base import RuleContext
from reward_server.scorers.pooled import PooledOptions, PooledRule
from reward_server.scorers.texts import NOT_A_TEXT, decodable, is_wide

Code = Annotated[str, Field(pattern=r"^[a-z]{2,3}$")]
Share = Annotated[float, Field(strict=True, ge=0, le=1)]

MARKS: Final = re2.compile(r"(\p{M}{8})\p{M}+")
"""More marks on a letter than any language has: to normalize a long run of them takes time by its length's square."""

PIECE_CHARS: Final = 1_000
"""A text is read in pieces: the model takes a long one that repeats itself for any language, and of two for one."""

WIDE_LETTER: Final = 3
"""A letter of a script that has one for every syllable or word says as much as so many others."""


class LanguageOptions(PooledOptions):
    """Either the languages or the column that has them."""

    languages: tuple[Code, ...] = Field((), description="codes (ISO 639) of the languages wanted; any of them will do")
    language_column: str | None = Field(None, min_length=1, description="column with the language wanted, or a list")
    among: tuple[Code, ...] = Field((), description="the only languages that are considered; none: all it knows")
    threshold: Share | None = Field(None, description="from this probability on it scores 1, else 0; none: scores it")
    min_letters: int = Field(20, strict=True, ge=0, le=10_000, description="letters that it takes to tell a language")
    too_short: Share = Field(0.0, description="score of a text with fewer letters")

    @model_validator(mode="after")
    def _has_languages(self) -> Self:
        if bool(self.languages) == (self.language_column is not None):
            raise ValueError("give either languages or language_column")
        if self.among and (missing := set(self.languages) - set(self.among)):
            raise ValueError(f"among has to name the languages wanted too; it lacks {', '.join(sorted(missing))}")
        if len(self.among) == 1:
            raise ValueError("among one language every text is in it: name several")
        return self


class Language(PooledRule):
    """Scores how surely a text is in the language wanted."""

    kind: ClassVar[str] = "language"
    Options = LanguageOptions
    libraries = ("py3langid", "numpy")
    score_range = (0.0, 1.0)

    def __init__(self, options: LanguageOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._options = options
        column = options.language_column
        self.needs = Needs(required_columns=frozenset(() if column is None else (column,)))
        everything = identifier(())
        unknown = {*options.languages, *options.among} - set(everything.labels)
        if unknown:
            raise ConfigError(
                f"rewards.{context.reward_name}.language: unknown languages {', '.join(sorted(unknown))}; "
                f"known are {', '.join(sorted(everything.labels))}"
            )
        self._known = frozenset(options.among or everything.labels)

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the score of the language of a completion."""
        options = self._options
        wanted: Iterable[str] = options.languages
        if options.language_column is not None:
            wanted = self._wanted(sample.columns.get(options.language_column))
            if not wanted:
                return abstained(
                    f"the column {options.language_column!r} names no language that is known", blame=Blame.REFERENCE
                )
        text = sample.completion
        if not isinstance(text, str):
            return NOT_A_TEXT
        if letters_in(text) < options.min_letters:
            return scored(options.too_short)
        probability = self._probability(text, wanted)
        return scored(probability if options.threshold is None else probability >= options.threshold)

    def _probability(self, text: str, wanted: Iterable[str]) -> float:
        """Returns the mean probability of the text's pieces, each counting as much as it has letters."""
        model, codes = identifier(self._options.among), set(wanted)
        text = MARKS.sub(r"\1", decodable(text))
        total, weights = 0.0, 0
        for begin in range(0, len(text), PIECE_CHARS):
            piece = text[begin : begin + PIECE_CHARS]
            if weight := letters_in(piece):
                total += weight * sum(chance for code, chance in model.rank(piece) if code in codes)
                weights += weight
        return min(1.0, total / weights) if weights else 0.0

    def _wanted(self, value: Any) -> list[str]:
        """Returns the codes that a column's value names, without the country."""
        values = value if isinstance(value, list | tuple) else [value]
        codes = [each.replace("_", "-").partition("-")[0].strip().lower() for each in values if isinstance(each, str)]
        return [code for code in codes if code in self._known]


def letters_in(text: str) -> int:
    """Returns the number of letters, those of scripts without an alphabet three times."""
    if text.isascii():
        return sum(map(str.isalpha, text))
    return sum(WIDE_LETTER if is_wide(letter) else 1 for letter in text if letter.isalpha())


@lru_cache(maxsize=16)
def identifier(among: tuple[str, ...]) -> Any:
    """Returns the model for these languages, none for all. Reading it takes half a second, once a process."""
    model = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    if among:
        model.set_languages(among)
    return model
