r"""Whether a completion's mathematical answer equals the reference, by math-verify: 1/2, 0.5, \frac{1}{2} and 50\% are one.

    solved:  {math: {}}                       # in the last <answer> element, else wherever math-verify finds it
    as_is:   {math: {answer: null}}           # math-verify alone, whatever elements there are
    choices: {math: {reference_column: solution, targets: [latex, strings], strings: [A, B, C, D]}}
    tagged:  {math: {answer: "tag:answer"}}
    strict:  {math: {boxed_match_priority: 0, try_extract_without_anchor: false, float_rounding: 3}}

By default (`answer: tag_or_text`) the answer is what stands in the last <answer> element, as with `answer: tag:answer`:
all of it, so that <answer>71 or 72</answer> is not 72. Only a completion without such an element is left to math-verify
as a whole, which on its own does not see the 72 in <answer>72</answer>. Marks of emphasis around an answer in an
element do no harm: **72** is 72.

The reference is read first: one that cannot be read is a missing verdict for every completion alike, and so is one that
cannot be computed with (a tower of powers), whatever a completion says. A completion in which no answer is found is
wrong.

math-verify's own time-outs are off: they use signals and take an answer that hangs sympy for a wrong one. The worker
is killed instead.

Columns: the reference column. Range: 0 or 1. Cost class: compute.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import product
from typing import Any, ClassVar, Final, NamedTuple

from latex2sympy2_extended.logic import And
from math_verify import ExprExtractionConfig, LatexExtractionConfig, StringExtractionConfig, parse, verify
from sympy import Basic, Integer, MatrixBase, Set, Tuple, nan, zoo
from sympy.core.relational import Relational

from reward_server.domain import Blame, Needs, Sample, Verdict, abstained, scored
from reward_server.scorers.answers.extraction import How
from reward_server.scorers.answers.telling import QUOTED_CHARS, quoted, told
from reward_server.scorers.base import RuleContext
from reward_server.scorers.math.options import MathOptions, Target
from reward_server.scorers.math.reading import Form, readings, reference_texts, without_emphasis
from reward_server.scorers.pooled import PooledRule
from reward_server.scorers.texts import NOT_A_TEXT

REMEMBERED_REFERENCES: Final = 64
"""A group's completions share their reference, so it is read once."""

PROBE: Final = Integer(987_654_321)
"""A right answer to nothing: every reference is compared with it, so that one that hangs does so for all completions."""

MAX_ANSWER_CHARS: Final = 2000
"""What is longer is no formula as a whole: reading it as one would take for ever."""

CHOICE_MARKS: Final = " .:()[]"
"""What may stand around a letter: (B), B."""

FORMULA: Final = (LatexExtractionConfig(), ExprExtractionConfig())
"""As what a text is read that is the answer, whatever is looked for in completions."""

for _noisy in ("math_verify.parser", "math_verify.grader"):  # they warn that their time-outs are off, as meant here
    logging.getLogger(_noisy).setLevel(logging.ERROR)


class Golds(NamedTuple):
    """What the texts of a reference are read as."""

    answers: Sequence[Any]
    shown: Sequence[str]  # as verdicts tell them


class MathEquivalence(PooledRule):
    """Scores 1 for an answer that equals the reference, else 0."""

    kind: ClassVar[str] = "math"
    Options = MathOptions
    score_range = (0.0, 1.0)
    libraries = ("math-verify", "latex2sympy2_extended", "sympy", "antlr4-python3-runtime", "mpmath")

    def __init__(self, options: MathOptions, context: RuleContext) -> None:
        super().__init__(options, context)
        self._options = options
        self._targets = [_target(name, options) for name in options.targets]
        self._choices = StringExtractionConfig(strings=options.strings) if "strings" in options.targets else None
        self._announced = StringExtractionConfig(strings=options.strings, try_extract_without_anchor=False)
        self._mode = "first_match" if options.first_match_only else "any_match"
        self.needs = Needs(required_columns=frozenset({options.reference_column}))
        self._read_reference = lru_cache(REMEMBERED_REFERENCES)(self._answers_of_reference)

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns 1 or 0; an exception of sympy's while it compares passes on."""
        column = self._options.reference_column
        texts = reference_texts(sample.columns.get(column))
        golds = self._read_reference(texts)
        if not golds.answers:
            self._read_reference.cache_clear()  # it may have been for want of memory
            what = "there is no reference" if not texts else "no answer could be read from the reference"
            return abstained(f"{what} in column {column!r}", blame=Blame.REFERENCE)
        if not isinstance(sample.completion, str):
            return NOT_A_TEXT
        answers, place = self._answers_of_completion(sample.completion)
        read = _written(answers, place) if answers else None
        return scored(float(self._equal(golds.answers, answers)), told(read, place, golds.shown))

    def _answers_of_reference(self, texts: tuple[str, ...]) -> Golds:
        form = self._options.reference_form
        readable, shown = [], []
        for text in texts:
            golds = [gold for gold in self._answer_itself(text, form) if gold not in (nan, zoo)]
            for gold in golds:
                self._compute(gold)
            readable += golds
            shown += [quoted(_written(golds, text))] if golds else []
        return Golds(readable, shown)

    def _answer_itself(self, text: str, form: Form) -> list[Any]:
        """Returns what a text may be that is the answer, so that nothing needs to announce it there."""
        if form == "text":
            return self._answers(text.strip(), self._targets)
        ways = readings(text, form, numbers_only="latex" not in self._options.targets)
        read = [answer for way in ways for answer in self._answers(way, FORMULA)]
        return read + self._choice(text.strip())

    def _choice(self, text: str) -> list[Any]:
        """Returns the one of the strings that a text is, or that is announced in it."""
        if self._choices is None:
            return []
        alone = [each for each in (text, text.strip(CHOICE_MARKS)) if each in self._options.strings]
        return self._answers(alone[0], [self._choices]) if alone else self._answers(text, [self._announced])

    def _compute(self, gold: Any) -> None:
        """Compares a gold and the parts of it with a number, only to see that this comes to an end."""
        if isinstance(gold, str):
            return
        with suppress(Exception):
            self._verified(gold, PROBE)
        for part in _parts(gold):
            self._compute(part)

    def _answers_of_completion(self, text: str) -> tuple[list[Any], str | None]:
        """Returns what the completion's answer may be, and the text that it is, None where it is only somewhere in it."""
        place = self._options.answer
        found = None if place is None else place.find(text)
        if found is None:
            return (self._answers(text, self._targets) if place is None or place.or_text else []), None
        if found.how is How.WITHIN or len(found.text) > MAX_ANSWER_CHARS:
            return self._answer_itself(found.text, "text"), None
        answer = without_emphasis(found.text)
        return self._answer_itself(answer, "auto"), answer

    def _answers(self, text: str, targets: Sequence[Any]) -> list[Any]:
        """Returns what the answer in a text may be: an object of sympy's, and the text that it was read from."""
        return list(parse(text, targets, extraction_mode=self._mode, parsing_timeout=None))

    def _equal(self, golds: Sequence[Any], answers: Sequence[Any]) -> bool:
        """Returns whether any of the golds equals any of the answers.

        An exception counts only if no pair is equal. It is not a "no": what it means is decided where the others'
        verdicts are known.
        """
        broken: Exception | None = None
        for gold, answer in product(golds, answers):
            try:
                if self._verified(gold, answer):
                    return True
            except Exception as error:  # noqa: BLE001  # sympy raises whatever it likes
                broken = broken or error
        if broken is not None:
            raise broken
        return False

    def _verified(self, gold: Any, answer: Any) -> bool:
        options = self._options
        return bool(
            verify(
                [gold],
                [answer],
                float_rounding=options.float_rounding,
                numeric_precision=options.numeric_precision,
                strict=options.strict,
                allow_set_relation_comp=options.allow_set_relation_comp,
                timeout_seconds=None,
                raise_on_error=True,
            )
        )


def _target(name: Target, options: MathOptions) -> Any:
    anywhere = options.try_extract_without_anchor
    if name == "latex":
        return LatexExtractionConfig(
            try_extract_without_anchor=anywhere, boxed_match_priority=options.boxed_match_priority
        )
    if name == "expr":
        return ExprExtractionConfig(try_extract_without_anchor=anywhere)
    return StringExtractionConfig(strings=options.strings, try_extract_without_anchor=anywhere)


def _written(answers: Sequence[Any], text: str | None) -> str:
    """Returns an answer as it was written: the text that it is, or what math-verify has found in that or elsewhere."""
    if text is not None and len(text.strip()) <= QUOTED_CHARS:
        return text
    return next((each.strip(" *") for each in reversed(answers) if isinstance(each, str)), text or "")


def _parts(gold: Any) -> Sequence[Any]:
    """Returns the elements of a set, a tuple or a matrix, and the sides of a relation."""
    if isinstance(gold, MatrixBase):
        return list(gold.flat())
    if isinstance(gold, Set | Tuple | Relational | And):
        return [part for part in gold.args if isinstance(part, Basic)]
    return ()
