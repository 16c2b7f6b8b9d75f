"""Notices a host that has read less than the whole prompt and does not say so: its answer would be about another text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from reward_server.engines.base import Answer, ChatMessage
from reward_server.errors import HostRefused

CHECKED_WORDS: Final = 200
"""Shorter prompts fit every context."""
LEAST_TOKENS_PER_WORD: Final = 0.6
"""A word between spaces costs one token or more; a few vocabularies hold some pairs of words as one."""
WORD: Final = re.compile(r"(?<!\S)[^\w\s]*+\w")
"""The begin of a word between spaces. Counted that way, and not by runs of letters, since Python's letters leave out
the vowel signs of several scripts, which would make many words of one."""


def require_whole(messages: Sequence[ChatMessage], answer: Answer, label: str, mend: str) -> None:
    """Raises `HostRefused` where the host counts far fewer tokens than the prompt has words. `mend` says what to do."""
    read = answer.prompt_token_count
    if read == 0:  # it does not count
        return
    words = sum(len(WORD.findall(message.content)) for message in messages)
    if words > CHECKED_WORDS and read < words * LEAST_TOKENS_PER_WORD:
        raise HostRefused(
            f"{label}: it has cut the prompt in silence: it read {read} tokens of a prompt of {words} words. {mend}"
        )
