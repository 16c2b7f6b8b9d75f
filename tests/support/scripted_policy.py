"""A policy that is made to write completions of a given shape, for as long as a test lasts.

A random model would never close a thinking block. So its sampling is masked: at each place only the tokens of a script
are allowed, and which of them it takes is the policy's own choice. Nothing else of generation or training is touched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

Script = Sequence[str]
"""For each place of a completion the tokens, or single characters, that are allowed there; after its end, the last ones."""

THOUGHTS, ANSWERS = "abcdefghijklm", "nopqrstuvwxyz"
"""Letters, so that it can be told of any text which of the two it is."""

END = "<|im_end|>"


def thinks_and_answers(thought: int = 6, answer: int = 5) -> Script:
    """Returns the script of a completion as Qwen3 writes it: a thinking block, an empty line, an answer."""
    return ["<think>", *[THOUGHTS] * thought, "</think>", "\n", "\n", *[ANSWERS] * answer, END]


def never_stops_thinking() -> Script:
    """Returns the script of a completion that is cut off inside its thinking block."""
    return ["<think>", THOUGHTS]


def answers_at_once(answer: int = 5) -> Script:
    """Returns the script of a completion without a thinking block."""
    return [*[ANSWERS] * answer, END]


def scripted(
    patch: pytest.MonkeyPatch, model_class: type[Any], tokenizer: Any, script_of: Callable[[int], Script]
) -> list[str]:
    """Makes every model of this class write by script; returns a list in which the prompts it gets are noted.

    Args:
        patch: undoes it.
        model_class: with a method `generate`.
        tokenizer: of the model.
        script_of: the script of each row of a batch.
    """
    from transformers import LogitsProcessorList

    unscripted = model_class.generate
    prompts: list[str] = []

    def generate(self: Any, *args: Any, **kwargs: Any) -> Any:
        ids = kwargs["input_ids"]
        prompts.extend(tokenizer.batch_decode(ids))
        mask = _Mask(ids.shape[1], [_allowed(script_of(row), tokenizer) for row in range(len(ids))])
        return unscripted(self, *args, **kwargs, logits_processor=LogitsProcessorList([mask]))

    patch.setattr(model_class, "generate", generate)
    return prompts


def _allowed(script: Script, tokenizer: Any) -> list[list[int]]:
    marks = tokenizer.get_added_vocab()
    return [[marks[place]] if place in marks else [tokenizer(sign).input_ids[0] for sign in place] for place in script]


class _Mask:
    """Leaves, of (rows, vocabulary) scores, those of the tokens allowed."""

    def __init__(self, prompt_length: int, allowed: list[list[list[int]]]) -> None:
        self._prompt_length = prompt_length
        self._allowed = allowed

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        import torch

        place = input_ids.shape[1] - self._prompt_length
        masked = torch.full_like(scores, -torch.inf)
        for row, script in enumerate(self._allowed):
            here = script[min(place, len(script) - 1)]
            masked[row, here] = scores[row, here]
        return masked
