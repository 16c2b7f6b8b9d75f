r"""How much a text repeats itself, as a penalty.

    loops: {repetition: {n: 3, max_penalty: -1}}
    long:  {repetition: {n: 40, max_penalty: -0.05}}
    zlib:  {repetition: {measure: compression, tolerated: 0.7}}

`ngrams`: of all runs of n words the share that has been there before, `1 - different / all`. `compression`: the share of the
text's bytes that zlib saves; prose of some length saves a half, so tolerate as much as good texts have. The score
is that share times `max_penalty`: 0 without repetition.

`unit: chars` takes characters for words, blanks left out: for Chinese, Japanese and other scripts without blanks.

Read are the last `READ_CHARS` characters: where a text runs in a circle, it ends in it.

Columns: none. Range: `max_penalty` to 0. Cost class: trivial.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field

from reward_server.domain import Sample, Verdict, scored
from reward_server.options import Options
from reward_server.scorers.base import Rule, RuleContext
from reward_server.scorers.texts import NOT_A_TEXT, visible

READ_CHARS: Final = 30_000

LONGEST_WORD_CHARS: Final = 40
PIECE_CHARS: Final = 4
"""Of a longer word: chains without blanks, and scripts that have none."""

ZLIB_LEVEL: Final = 6
ZLIB_FRAME_BYTES: Final = 8  # zlib's header, checksum and end of an empty text


class Measure(Enum):
    """How repetition is measured."""

    NGRAMS = "ngrams"
    COMPRESSION = "compression"


class Unit(Enum):
    """What runs are made of."""

    WORDS = "words"
    CHARS = "chars"


class RepetitionOptions(Options):
    """What counts as repetition, and what it costs."""

    measure: Measure = Field(Measure.NGRAMS, description="how it is measured: ngrams or compression")
    n: int = Field(3, strict=True, ge=1, le=50, description="of ngrams: words in a run")
    unit: Unit = Field(Unit.WORDS, description="of ngrams: what a run is made of: words or chars")
    tolerated: Annotated[float, Field(strict=True, ge=0, lt=1)] = Field(
        0.0, description="so large a share of repetition costs nothing; the rest is stretched to 1"
    )
    max_penalty: float = Field(
        -1.0, strict=True, le=0, ge=-1e9, description="score of a text that is nothing but repetition"
    )


class Repetition(Rule):
    """Scores how much of a text has been there before, as a penalty."""

    kind: ClassVar[str] = "repetition"
    Options = RepetitionOptions

    def __init__(self, options: RepetitionOptions, _context: RuleContext) -> None:
        self._share = _measure(options)
        self._tolerated, self._max_penalty = options.tolerated, options.max_penalty
        self._identity = {"zlib": zlib.ZLIB_RUNTIME_VERSION} if options.measure is Measure.COMPRESSION else {}
        self.score_range = (options.max_penalty, 0.0)

    def identity(self) -> Mapping[str, Any]:
        """Returns the version of zlib where it measures."""
        return self._identity

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the penalty for what the completion repeats."""
        text = sample.completion
        if not isinstance(text, str):
            return NOT_A_TEXT
        share = self._share(text[-READ_CHARS:])
        above = max(0.0, share - self._tolerated) / (1 - self._tolerated)
        return scored(above * self._max_penalty + 0.0)  # never a negative zero


def _measure(options: RepetitionOptions) -> Callable[[str], float]:
    if options.measure is Measure.COMPRESSION:
        return saved_share
    n, chars = options.n, options.unit is Unit.CHARS
    return lambda text: repeated_chars(text, n) if chars else repeated_words(text, n)


def repeated_words(text: str, n: int) -> float:
    """Returns the share of runs of n words that have been there before, whatever their case; 0 where there is no run."""
    words = [piece for word in visible(text).lower().split() for piece in _pieces(word)]
    count = len(words) - n + 1
    if count < 1:
        return 0.0
    return 1 - len(set(zip(*(words[start:] for start in range(n)), strict=False))) / count


def _pieces(word: str) -> Iterable[str]:
    """Yields a word; of one that is none, as it is too long, its pieces: `hahaha...` says the same again and again."""
    if len(word) <= LONGEST_WORD_CHARS:
        return (word,)
    return (word[start : start + PIECE_CHARS] for start in range(0, len(word), PIECE_CHARS))


def repeated_chars(text: str, n: int) -> float:
    """Returns the share of runs of n characters that have been there before; 0 where there is no run."""
    letters = "".join(text.lower().split())
    count = len(letters) - n + 1
    if count < 1:
        return 0.0
    return 1 - len({letters[start : start + n] for start in range(count)}) / count


def saved_share(text: str) -> float:
    """Returns the share of a text's bytes that zlib saves; 0 where it saves none."""
    data = text.encode(errors="surrogatepass")
    if not data:
        return 0.0
    packed = len(zlib.compress(data, ZLIB_LEVEL)) - ZLIB_FRAME_BYTES
    return min(1.0, max(0.0, 1 - packed / len(data)))
