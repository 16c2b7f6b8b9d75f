r"""What a completion looks like: each check that it passes adds its weight to the score.

    shape:    {format: {final_full_stop: 0.5, no_leading_blank: 0.5}}
    thoughts: {format: {tags: {names: [think, answer], score: 1.0}}}
    boxed:    {format: {patterns: [{regex: '\\boxed\{[^{}]+\}', score: 1.0}, {regex: '(?i)as an ai', score: -0.5}]}}

An empty or blank text passes no check.

Columns: none. Range: sum of the negative weights to sum of the positive ones. Cost class: trivial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from typing import Annotated, Any, ClassVar, Final, Self

import re2  # type: ignore[import-untyped]  # it comes without types
from pydantic import Field, field_validator, model_validator

from reward_server.domain import Sample, Verdict, scored
from reward_server.options import Options
from reward_server.scorers.base import Rule, ScorerContext
from reward_server.scorers.texts import NOT_A_TEXT

Weight = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Check = Callable[[str], bool]

PUNCTUATION: Final = (".", "!", "?", "…", "。", "！", "？")  # noqa: RUF001  # Chinese and Japanese signs, meant so
CLOSING: Final = "\"'”’»)]}*_`"  # noqa: RUF001  # a typographic quotation mark, meant so
"""What may follow a sentence's last sign: quotes, brackets, marks of emphasis."""


class Tags(Options):
    """Elements such as `<think>...</think><answer>...</answer>`."""

    names: tuple[Annotated[str, Field(pattern=r"^[A-Za-z][\w.-]*$")], ...] = Field(
        min_length=1, description="each opened and closed exactly once, one after the other, in this order"
    )
    score: Weight = Field(description="the check's weight")


class Pattern(Options):
    """A regular expression that is found somewhere in the text."""

    regex: str = Field(min_length=1, description="in RE2's syntax: no look-around, no back-references")
    score: Weight = Field(description="the check's weight")

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            compiled(value)
        except re2.error as error:
            words = error.args[0].decode(errors="replace") if isinstance(error.args[0], bytes) else str(error)
            raise ValueError(f"{words} (RE2's syntax: it has no look-around and no back-references)") from error
        return value


class FormatOptions(Options):
    """The checks and their weights; at least one."""

    final_full_stop: Weight | None = Field(None, description="weight of: it ends with a full stop")
    final_punctuation: Weight | None = Field(None, description="weight of: it ends as a sentence does, such as with ?")
    no_leading_blank: Weight | None = Field(None, description="weight of: it does not begin with a blank or line break")
    tags: Tags | None = Field(None, description="elements that it must consist of")
    patterns: tuple[Pattern, ...] = Field((), description="regular expressions to be found in it")

    @model_validator(mode="after")
    def _checks_something(self) -> Self:
        if not any(value not in (None, ()) for _, value in self):
            raise ValueError(f"give at least one check of: {', '.join(type(self).model_fields)}")
        return self


class Format(Rule):
    """Adds up the weights of the checks that a text passes."""

    kind: ClassVar[str] = "format"
    Options = FormatOptions

    def __init__(self, options: FormatOptions, _context: ScorerContext) -> None:
        self._checks = _checks(options)
        self._identity = {"google-re2": metadata.version("google-re2")} if options.patterns else {}
        weights = [weight for weight, _ in self._checks]
        self.score_range = (sum(w for w in weights if w < 0), sum(w for w in weights if w > 0))

    def identity(self) -> Mapping[str, Any]:
        """Returns the version of the library that finds its regular expressions, if it has any."""
        return self._identity

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the sum of the weights of the checks that the completion passes."""
        text = sample.completion
        if not isinstance(text, str):
            return NOT_A_TEXT
        if not text or text.isspace():
            return scored(0.0)
        score = 0.0
        for weight, passes in self._checks:
            if passes(text):
                score += weight
        return scored(score)


def compiled(regex: str) -> Any:
    """Returns the expression, compiled. Raises `re2.error` with what is wrong with it."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(regex, options)


def _checks(options: FormatOptions) -> list[tuple[float, Check]]:
    plain: list[tuple[float | None, Check]] = [
        (options.final_full_stop, ends_with_full_stop),
        (options.final_punctuation, ends_as_sentence),
        (options.no_leading_blank, begins_at_once),
    ]
    checks = [(weight, check) for weight, check in plain if weight is not None]
    if options.tags is not None:
        checks.append((options.tags.score, tags_check(options.tags.names)))
    checks += [(pattern.score, pattern_check(pattern.regex)) for pattern in options.patterns]
    return checks


def ends_with_full_stop(text: str) -> bool:
    """Returns whether the last sign is a full stop; blanks behind it don't count."""
    return text.rstrip().endswith(".")


def ends_as_sentence(text: str) -> bool:
    """Returns whether a sentence ends there: full stop, exclamation or question mark, closing quotes allowed."""
    return text.rstrip().rstrip(CLOSING).endswith(PUNCTUATION)


def begins_at_once(text: str) -> bool:
    """Returns whether the first character is not a blank."""
    return not text[:1].isspace()


def tags_check(names: tuple[str, ...]) -> Check:
    """Returns a check that each element is there exactly once and closed, and that they stand in this order."""
    marks = [mark for name in names for mark in (f"<{name}>", f"</{name}>")]

    def passes(text: str) -> bool:
        places = [text.find(mark) for mark in marks]
        return -1 not in places and places == sorted(places) and all(text.count(mark) == 1 for mark in marks)

    return passes


def pattern_check(regex: str) -> Check:
    """Returns a check that the expression is found somewhere in the text."""
    search = compiled(regex).search
    return lambda text: search(text) is not None
