"""Thinking blocks that a chat template opens in the prompt, so that a completion begins inside of one.

Some templates end a prompt in `<think>` (DeepSeek-R1, Qwen3's thinking-only models). TRL gives reward functions the
conversation, not the text that the template made of it, so a thought that was cut off would look like an answer. So the
opening is put before what is scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_OPENS = "<think>"
_APART = ("reasoning_content", "thinking")
"""Where TRL's parser puts thoughts, which knows the prompt."""


def thought_opening(tokenizer: PreTrainedTokenizerBase, template_options: Mapping[str, Any]) -> str:
    """Returns what the chat template writes of a completion's thinking block, "<think>" and blanks; mostly nothing."""
    if tokenizer.chat_template is None:
        return ""
    asked = [{"role": "user", "content": "?"}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, **template_options)
    _, opens, blanks = str(prompt).rpartition(_OPENS)
    return opens + blanks if not blanks.strip() else ""


def with_opening(completions: Sequence[Any], opening: str) -> Sequence[Any]:
    """Returns N completions as they were; of conversations the first message with the opening before its text."""
    if not opening:
        return completions
    return [_opened(completion, opening) for completion in completions]


def _opened(completion: Any, opening: str) -> Any:
    if isinstance(completion, str) or not completion:
        return completion  # a plain text's prompt ends in the opening, which the server sees
    first, *others = completion
    content = first.get("content") or ""
    if not isinstance(content, str) or any(first.get(key) for key in _APART):
        return completion
    return [{**first, "content": opening + content}, *others]
