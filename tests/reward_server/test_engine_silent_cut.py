"""A host that reads less than the whole prompt: noticed from its own count, and never where the count may be right."""

from __future__ import annotations

import pytest

from reward_server.engines.base import Answer, ChatMessage
from reward_server.engines.over_http.silent_cut import require_whole
from reward_server.errors import HostRefused


def read(prompt: str, tokens: int) -> None:
    messages = (ChatMessage("system", "You grade."), ChatMessage("user", prompt))
    require_whole(messages, Answer("yes", "stop", tokens, 1), "engine `box`", "Run a newer one")


def test_a_cut_prompt_is_told_with_both_numbers_and_the_remedy() -> None:
    with pytest.raises(HostRefused) as raised:
        read("fox " * 898, 130)
    assert str(raised.value) == (
        "engine `box`: it has cut the prompt in silence: it read 130 tokens of a prompt of 900 words. Run a newer one"
    )


@pytest.mark.parametrize(
    ("prompt", "tokens"),
    [
        ("fox " * 898, 900),
        ("fox " * 898, 541),  # a vocabulary with pairs of words
        ("fox " * 898, 0),  # the host does not count
        ("fox " * 190, 4),  # too short to have been cut
        ("हिन्दी में लिखा हुआ " * 100, 420),  # vowel signs part no words
        (". . . . " * 400, 20),  # rows of marks are often one token
        ("=" * 5000, 80),
        ("中文没有空格" * 500, 900),
    ],
)
def test_what_may_be_a_whole_prompt_is_taken_as_one(prompt: str, tokens: int) -> None:
    read(prompt, tokens)
