"""Thinking blocks that a chat template opens in the prompt."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import pytest
from tiny_qwen3 import tiny_tokenizer

from trainer.rewards import remote_reward
from trainer.thinking import thought_opening, with_opening


def opening_of(end: str, **options: Any) -> str:
    """The opening of a template whose prompts end so."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}{% if add_generation_prompt %}" + end + "{% endif %}"
    return thought_opening(tokenizer, options)


@pytest.mark.parametrize(
    ("end", "opening"),
    [
        ("<think>\n", "<think>\n"),
        ("assistant: <think>", "<think>"),
        ("<think>\n\n</think>\n\n", ""),
        ("assistant: ", ""),
        ("", ""),
        ("{% if enable_thinking %}<think>{% endif %}", ""),
    ],
)
def test_the_opening_is_what_the_prompt_ends_in(end: str, opening: str):
    assert opening_of(end) == opening


def test_the_templates_options_count():
    assert opening_of("{% if enable_thinking %}<think>{% endif %}", enable_thinking=True) == "<think>"


def test_without_a_template_there_is_no_opening():
    assert thought_opening(SimpleNamespace(chat_template=None), {}) == ""


def test_qwen3_opens_none():
    assert thought_opening(tiny_tokenizer(), {}) == ""


def test_it_is_put_before_the_first_message_and_nowhere_else():
    said = [{"role": "assistant", "content": "x</think>y", "name": "n"}, {"role": "tool", "content": "z"}]
    (opened,) = with_opening([said], "<think>\n")
    assert opened == [{**said[0], "content": "<think>\nx</think>y"}, said[1]]
    assert said[0]["content"] == "x</think>y", "what TRL goes on with is not touched"


@pytest.mark.parametrize(
    "completion",
    ["plain", [], [{"role": "assistant", "content": "y", "reasoning_content": "x"}], [{"role": "a", "content": [{}]}]],
)
def test_what_needs_no_opening_stays_as_it_is(completion: Any):
    assert with_opening([completion], "<think>") == [completion]


def test_without_an_opening_nothing_is_copied():
    completions = [[{"role": "assistant", "content": "x"}]]
    assert with_opening(completions, "") is completions


def test_a_copy_of_a_reward_knows_it_too():
    reward = remote_reward("127.0.0.1:1", "a")
    reward.thought_opening = "<think>\n"
    assert copy.copy(reward).thought_opening == "<think>\n"
