r"""What a completion looks like: each check that it passes adds its weight to the score.

    shape:    {format: {final_full_stop: 0.5, no_leading_blank: 0.5}}
    thoughts: {format: {thinking: {score: 1.0}}}
    elements: {format: {tags: {names: [think, answer], score: 1.0, strict: true}}}
    marks:    {format: {tags: {names: [think, answer], score: 1.0, partial: true}}}
    boxed:    {format: {patterns: [{regex: '\\boxed\{[^{}]+\}', score: 1.0}, {regex: '(?i)as an ai', score: -0.5}]}}
    bullets:  {format: {patterns: [{regex: '(?m)^- ', score: 1.0, at_least: 3, at_most: 5}]}}

With `partial`, each mark of an element (`<think>`, `</think>`) that is there exactly once adds its share of the weight, whatever
their order. An empty or blank text passes no check.

Columns: none. Range: sum of the negative weights to sum of the positive ones. Cost class: trivial.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import metadata
from itertools import islice
from typing import Annotated, Any, ClassVar, Final, Self

import re2  # type: ignore[import-untyped]  # it comes without types
from pydantic import BeforeValidator, Field, field_validator, model_validator

from reward_server.domain import Sample, Verdict, scored
from reward_server.options import Options
from reward_server.scorers.base import Rule, ScorerContext
from reward_server.scorers.expressions import compiled, complaint
from reward_server.scorers.texts import NOT_A_TEXT, decodable, visible
from reward_server.views import THINKING_OPENS, View

Weight = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Check = Callable[[str], float]
"""Returns how much of its weight a text gets: 0 to 1."""

THINKING_TAG: Final = THINKING_OPENS.strip("<>")

MAX_COUNT: Final = 100
"""A higher count is not asked for: each match may read all that follows."""

PUNCTUATION: Final = (".", "!", "?", "…", "。", "！", "？")  # noqa: RUF001  # Chinese and Japanese signs, meant so
CLOSING: Final = "\"'”’»)]}*_`"  # noqa: RUF001  # a typographic quotation mark, meant so
"""What may follow a sentence's last sign: quotes, brackets, marks of emphasis."""


def _bare(name: Any) -> Any:
    if isinstance(name, str) and (bare := name.strip("</> ")) != name and bare:
        raise ValueError(f"write {bare}, without < >")
    return name


Tag = Annotated[str, Field(pattern=r"^[A-Za-z][\w.-]*$"), BeforeValidator(_bare)]
"""The name of an element."""


class Tags(Options):
    """Elements such as `<think>...</think><answer>...</answer>`."""

    names: tuple[Tag, ...] = Field(
        min_length=1, description="each opened and closed exactly once, one after the other, in this order"
    )
    score: Weight = Field(description="the check's weight")
    strict: bool = Field(default=False, strict=True, description="nothing but blanks may stand outside of them")
    partial: bool = Field(
        default=False, strict=True, description="each mark that is there exactly once adds its share, in any order"
    )

    @model_validator(mode="after")
    def _is_one_way(self) -> Self:
        if self.strict and self.partial:
            raise ValueError("give strict or partial, not both: partial looks at each mark by itself")
        return self


class Thinking(Options):
    """One thinking block, and an answer behind it. The block may be open already: templates open it in the prompt."""

    score: Weight = Field(description="the check's weight")
    tag: Tag = Field("think", description="name of the block's element")
    answer_tag: Tag | None = Field(None, description="element that the answer must be; none: any text")


class Pattern(Options):
    """A regular expression that is found in the text, or that the text is."""

    regex: str = Field(min_length=1, description="in RE2's syntax: no look-around, no back-references")
    score: Weight = Field(description="the check's weight")
    full: bool = Field(default=False, strict=True, description="the whole text must match, not a part of it")
    at_least: int = Field(1, strict=True, ge=0, le=MAX_COUNT, description="so many matches at least")
    at_most: int | None = Field(None, strict=True, ge=0, le=MAX_COUNT, description="so many at most; none: any number")

    @field_validator("regex")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            compiled(value)
        except re2.error as error:
            words = complaint(error)
            raise ValueError(f"{words} (RE2's syntax: it has no look-around and no back-references)") from error
        return value

    @model_validator(mode="after")
    def _counts_something(self) -> Self:
        if self.full and (self.at_least, self.at_most) != (1, None):
            raise ValueError("a whole text matches once: leave out at_least and at_most")
        if self.at_most is not None and self.at_most < self.at_least:
            raise ValueError(f"at_most must not be under at_least; here they are {self.at_most} and {self.at_least}")
        if self.at_least == 0 and self.at_most is None:
            raise ValueError("every text has at least 0 matches: give at_most too")
        return self


class FormatOptions(Options):
    """The checks and their weights; at least one."""

    final_full_stop: Weight | None = Field(None, description="weight of: it ends with a full stop")
    final_punctuation: Weight | None = Field(None, description="weight of: it ends as a sentence does, such as with ?")
    no_leading_blank: Weight | None = Field(None, description="weight of: it does not begin with a blank or line break")
    tags: Tags | None = Field(None, description="elements that it must consist of")
    thinking: Thinking | None = Field(None, description="one thinking block and an answer that is not empty")
    patterns: tuple[Pattern, ...] = Field((), description="regular expressions to be found in it")

    @model_validator(mode="after")
    def _checks_something(self) -> Self:
        if not any(value not in (None, ()) for _, value in self):
            raise ValueError(f"give at least one check of: {', '.join(type(self).model_fields)}")
        return self

    def view_refused(self, view: View) -> str:
        """Returns why `view: answer` is refused: it hides the thinking block, so that checks of it never pass."""
        if view is not View.ANSWER:
            return ""
        if self.tags is not None and THINKING_TAG in self.tags.names:
            looks = "tags"
        elif self.thinking is not None and self.thinking.tag == THINKING_TAG:
            looks = "thinking"
        else:
            return ""
        return f"hides the thinking block, which `{looks}` looks for and so would never find: give it view: full"


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
            score += weight * passes(text)
        return scored(score)


def _checks(options: FormatOptions) -> list[tuple[float, Check]]:
    plain: list[tuple[float | None, Check]] = [
        (options.final_full_stop, ends_with_full_stop),
        (options.final_punctuation, ends_as_sentence),
        (options.no_leading_blank, begins_at_once),
    ]
    checks = [(weight, check) for weight, check in plain if weight is not None]
    if options.tags is not None:
        checks.append((options.tags.score, tags_check(options.tags)))
    if options.thinking is not None:
        checks.append((options.thinking.score, thinking_check(options.thinking)))
    checks += [(pattern.score, pattern_check(pattern)) for pattern in options.patterns]
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


def tags_check(tags: Tags) -> Check:
    """Returns a check of elements: each exactly once and closed, in this order; or of their marks one by one."""
    marks = [mark for name in tags.names for mark in (f"<{name}>", f"</{name}>")]

    def share(text: str) -> float:
        return sum(text.count(mark) == 1 for mark in marks) / len(marks)

    def passes(text: str) -> bool:
        places = [text.find(mark) for mark in marks]
        if -1 in places or places != sorted(places) or any(text.count(mark) != 1 for mark in marks):
            return False
        if not tags.strict:
            return True
        ends = [0, *(place + len(mark) for place, mark in zip(places[1::2], marks[1::2], strict=True))]
        return not any(text[end:place].strip() for end, place in zip(ends, [*places[::2], len(text)], strict=True))

    return share if tags.partial else passes


def thinking_check(thinking: Thinking) -> Check:
    """Returns a check that a text begins with one thinking block, open already or not, and goes on with an answer."""
    opens, ends = f"<{thinking.tag}>", f"</{thinking.tag}>"
    begin, end = (f"<{thinking.answer_tag}>", f"</{thinking.answer_tag}>") if thinking.answer_tag else ("", "")

    def passes(text: str) -> bool:
        if text.count(ends) != 1 or text.count(opens) > 1:
            return False
        thoughts, _, answer = text.partition(ends)
        if opens in text and not thoughts.lstrip().startswith(opens):
            return False
        answer = answer.strip()
        if begin:
            if not (answer.startswith(begin) and answer.endswith(end) and text.count(begin) == text.count(end) == 1):
                return False
            answer = answer[len(begin) : -len(end)].strip()
        return bool(visible(answer).strip())

    return passes


def pattern_check(pattern: Pattern) -> Check:
    """Returns a check that the expression is found in the text as often as is asked for."""
    expression = compiled(pattern.regex, groups=False)
    if pattern.full:
        return lambda text: expression.fullmatch(decodable(text)) is not None
    least, most = pattern.at_least, pattern.at_most
    if (least, most) == (1, None):
        return lambda text: expression.search(decodable(text)) is not None

    def passes(text: str) -> bool:
        found = sum(1 for _ in islice(expression.finditer(decodable(text)), least if most is None else most + 1))
        return found >= least and (most is None or found <= most)

    return passes
