"""Sees to it that what a judge is asked fits into its context, and that whatever is left out is said to be.

A host tells how long a prompt was that it refused, and some count before they are asked. So the first cut is made by
real counts; only a text that no tokenizer could make short enough is cut before anybody is asked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Literal

from reward_server.domain import Blame
from reward_server.engines.base import ChatMessage, Engine
from reward_server.errors import PromptTooLong
from reward_server.judge.material import Material
from reward_server.judge.methods.base import Unit

CUT_FLAG: Final = "cut_for_judge"
MAX_CUTS: Final = 2
"""So often a completion is cut again by the host's counts, before it is given up."""

MAX_MATERIAL_CHARS: Final = 500_000
"""More than any judge's context holds; reading it on the event loop would hold up all other calls."""

MAX_CHARS_A_TOKEN: Final = 8
"""No text of any length has more on the average: what is longer than the context by this need not be sent."""

MIN_BYTES_A_TOKEN: Final = 2
"""Hardly any text has fewer on the average: what fits by this is sent without being counted."""

MIN_KEPT_CHARS: Final = 200
"""Of a completion; where not even these fit, what stands around it is too long."""

SPARE: Final = 1.1
"""So much more is cut than the average token's length says."""

PLAIN_BYTES_A_TOKEN: Final = 3
"""Of instructions and tasks, written for people; most have more. What a prompt has beyond that is the completion's: one
of rare characters has a token for every byte."""

MARK: Final = "\n[... {count} characters left out ...]\n"

LongCompletion = Literal["cut", "refuse"]


class Fit:
    """Fits materials into the context of a judge's model.

    Args:
        engine: knows its context, and may count tokens.
        max_answer_tokens: what must be left for the answer.
        policy: whether long completions are cut or refused.
    """

    def __init__(self, engine: Engine, max_answer_tokens: int, policy: LongCompletion) -> None:
        self._engine = engine
        self._max_answer_tokens = max_answer_tokens
        self.policy = policy

    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, what shapes a cut."""
        return {
            "policy": self.policy,
            "mark": MARK,
            "spare": SPARE,
            "max_cuts": MAX_CUTS,
            "max_material_chars": MAX_MATERIAL_CHARS,
            "min_kept_chars": MIN_KEPT_CHARS,
            "bytes_a_token": [MIN_BYTES_A_TOKEN, PLAIN_BYTES_A_TOKEN],
            "max_chars_a_token": MAX_CHARS_A_TOKEN,
        }

    def trimmed(self, material: Material) -> Material:
        """Returns a material that may fit: unchanged, or cut as far as no tokenizer could do without.

        Raises:
            PromptTooLong: it is too long, and may not be cut or would not fit without its completion either.
        """
        limit, around = self._max_chars(), _chars_around(material)
        chars = around + len(material.completion)
        if chars <= limit:
            return material
        what = f"prompt and completion have {chars:,} characters, more than this judge reads ({limit:,})"
        context = self._engine.context_tokens
        why = what if context is None else f"{what}: its context has {context:,} tokens"
        if self.policy == "refuse" or limit - around < MIN_KEPT_CHARS:
            raise PromptTooLong(why, math.ceil(chars / MAX_CHARS_A_TOKEN), limit // MAX_CHARS_A_TOKEN)
        return cut(material, limit - around)

    def blame_before(self, material: Material) -> Blame:
        """Returns what a material that `trimmed` refuses owes that to."""
        fits = self._max_chars() - _chars_around(material) >= MIN_KEPT_CHARS
        return Blame.COMPLETION if fits else Blame.REFERENCE

    async def check(self, unit: Unit) -> None:
        """Raises `PromptTooLong` where the unit's longest prompt and the answer surely don't fit; counts if in doubt."""
        context = self._engine.context_tokens
        if context is None:
            return
        prompt = _longest(unit.prompts)
        size = sum(_bytes(message.content) for message in prompt)
        room = context - self._max_answer_tokens
        if size <= room * MIN_BYTES_A_TOKEN:
            return
        count = await self._engine.count_tokens(prompt)
        if count is not None and count > room:
            raise PromptTooLong(
                f"the prompt has {count:,} tokens, the context {context:,}, of which {self._max_answer_tokens} are for "
                "the answer",
                count,
                context,
            )

    def shorter(
        self, group: Sequence[Material], shown: Sequence[Material], unit: Unit, error: PromptTooLong, cuts: int
    ) -> Sequence[Material] | None:
        """Returns the group's materials cut so that a unit that was too long should fit; None = they can't be.

        Args:
            group: (M,) materials as they came.
            shown: (M,) as they were shown.
            unit: what was too long, as it was shown.
            error: what its host said.
            cuts: how often they were cut by counts before.
        """
        lengths = [len(material.completion) for material in shown]
        excess = self._excess_chars(shown, unit, error)
        # The first cut takes no more than needed if all of the group stood in that prompt; if only some did, a second
        # one takes all of it from each.
        limit = max(lengths) - excess if cuts else _limit(lengths, excess)
        if self.policy == "refuse" or limit < MIN_KEPT_CHARS:
            return None
        return [cut(material, limit) for material in group]

    def blame(self, material: Material, unit: Unit, error: PromptTooLong) -> Blame:
        """Returns what a prompt that stayed too long is owed to: the completion, if the rest of it would have fit."""
        if error.prompt_token_count is None or error.context_tokens is None:
            return Blame.UNKNOWN
        rest = error.prompt_token_count - _tokens_of(material, unit, error.prompt_token_count)
        return Blame.COMPLETION if rest <= self._room(error.context_tokens) else Blame.REFERENCE

    def _excess_chars(self, shown: Sequence[Material], unit: Unit, error: PromptTooLong) -> int:
        """Returns how many characters must go; half of the longest completion where the host told no counts."""
        count = error.prompt_token_count
        if not count or error.context_tokens is None:
            return math.ceil(max(len(material.completion) for material in shown) / 2)
        if len(shown) == 1:
            chars_a_token = len(shown[0].completion) / _tokens_of(shown[0], unit, count)
        else:
            chars_a_token = _chars(_longest(unit.prompts)) / count
        excess_tokens = max(1, count - self._room(error.context_tokens))
        return math.ceil(excess_tokens * chars_a_token * SPARE) + len(MARK)

    def _max_chars(self) -> int:
        context = self._engine.context_tokens
        return MAX_MATERIAL_CHARS if context is None else min(MAX_MATERIAL_CHARS, context * MAX_CHARS_A_TOKEN)

    def _room(self, context_tokens: int) -> int:
        return context_tokens - self._max_answer_tokens


def cut(material: Material, keep_chars: int) -> Material:
    """Returns the material with only head and tail of its completion, a visible mark between them."""
    text = material.completion
    if len(text) <= keep_chars:
        return material
    left_out = len(text) - keep_chars
    tail = keep_chars // 2
    mark = MARK.format(count=f"{left_out:,}")
    shortened = text[: keep_chars - tail] + mark + text[len(text) - tail :]
    return replace(material, completion=shortened, left_out_chars=left_out)


def _limit(lengths: Sequence[int], excess: int) -> int:
    """Returns the longest length to which all longer ones can be cut so that together they lose the excess."""
    ordered = sorted(lengths, reverse=True)
    for count, length in enumerate(ordered, 1):
        shorter = ordered[count] if count < len(ordered) else 0
        limit = (sum(ordered[:count]) - excess) // count
        if limit >= shorter:
            return min(limit, length)
    return 0


def _chars_around(material: Material) -> int:
    """Returns how long the material is without its completion."""
    return len(material.task or "") + len(material.reference or "") + sum(map(len, material.columns.values()))


def _tokens_of(material: Material, unit: Unit, prompt_token_count: int) -> float:
    """Returns about how many of a prompt's tokens are the completion's: at least its share by bytes, and above 0."""
    size = _bytes(material.completion)
    whole = max(1, sum(_bytes(message.content) for message in _longest(unit.prompts)), size)
    beyond = prompt_token_count - (whole - size) / PLAIN_BYTES_A_TOKEN
    return max(prompt_token_count * size / whole, beyond, 1.0)


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "replace"))


def _longest(prompts: Sequence[Sequence[ChatMessage]]) -> Sequence[ChatMessage]:
    return max(prompts, key=_chars, default=())


def _chars(prompt: Sequence[ChatMessage]) -> int:
    return sum(len(message.content) for message in prompt)
