"""The classic reward functions give through a server, to the last bit, what they give called directly."""

from __future__ import annotations

import importlib.util
import random
import types
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from cutting_proxy import cutting_proxy
from server_process import REPOSITORY, ServerProcess

from trainer.client import RewardClient

pytestmark = pytest.mark.end_to_end

COUNT = 1000
GROUP = 8
WORDS = [
    "the",
    "judge",
    "reads",
    "a",
    "long",
    "answer",
    "and",
    "finds",
    "no",
    "proof",
    "in",
    "it",
    "at",
    "all",
    "but",
    "likes",
    "its",
    "style",
    "very",
    "much",
]
SPECIAL = [
    "<|im_start|>assistant\n",
    "<|im_end|>",
    "<start_of_turn>",
    "[INST]",
    "</s>",
    "<|eot_id|>",
    "\x00",
    "\u2028",
    "日本語",
    "\U0001d518",
]
FUNCTIONS = {
    "length": ("length_reward", False),
    "format": ("format_reward", False),
    "combined": ("combined_reward", False),
    "accuracy": ("accuracy_reward", False),
    "style": ("style_reward", False),
    "judged": ("judge_reward", True),
}
"""Reward -> the function behind it, and whether it sees the answer only (`view: answer`)."""

Text = str | list[dict[str, Any]]


def a_text(rng: random.Random) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.choice([0, 1, 3, 4, 5, 20, 49, 50, 51, 300, 3000]))]
    for _ in range(rng.choice([0, 0, 1, 3])):
        words.insert(rng.randint(0, len(words)), rng.choice(SPECIAL))
    text = rng.choice(["", "", " ", "\n"]) + " ".join(words) + rng.choice(["", ".", ".\n", "!"])
    thinking = " ".join(rng.choices(WORDS, k=12))
    return rng.choice(
        [
            text,
            text,
            f"<think>{thinking}</think>\n\n{text}",
            f"{thinking}</think>{text}",  # the template has opened the block in the prompt
            f"<think>{thinking}",  # cut off while still thinking
        ]
    )


def a_conversation(text: str, rng: random.Random) -> list[dict[str, Any]]:
    last: dict[str, Any] = {"role": "assistant", "content": text}
    if rng.random() < 0.2:
        last["content"] = [{"type": "text", "text": text}]
    before = [
        {"role": "assistant", "content": None, "tool_calls": [{"name": "look"}]},
        {"role": "tool", "content": "1"},
    ]
    return [*before, last] if rng.random() < 0.2 else [last]


def answer_of(text: str) -> str:
    """What follows the thinking block, said once more and independently of the server."""
    if "</think>" in text:
        return text.split("</think>", 1)[1].lstrip("\r\n")
    return "" if "<think>" in text else text


def text_of(item: Text) -> str:
    if isinstance(item, str):
        return item
    content = item[-1]["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def the_batch() -> tuple[list[Text], list[Text]]:
    rng = random.Random(11)
    prompts: list[Text] = []
    completions: list[Text] = []
    for group in range(COUNT // GROUP):
        question = f"Question {group}: why do " + " ".join(rng.choices(WORDS, k=9)) + "?"
        conversational = group % 2 == 1
        prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": question}]
        for _ in range(GROUP):
            text = a_text(rng)
            prompts.append(prompt if conversational else question)
            completions.append(a_conversation(text, rng) if conversational else text)
    return prompts, completions


def classic() -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("classic_rewards", REPOSITORY / "examples" / "classic_rewards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def directly(
    function: Callable[..., list[float]], prompts: Sequence[Text], completions: Sequence[Text], *, answer: bool
) -> list[float]:
    texts = [text_of(completion) for completion in completions]
    return function([answer_of(text) if answer else text for text in texts], [text_of(prompt) for prompt in prompts])


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    config = tmp_path / "server.yaml"
    text = (REPOSITORY / "examples" / "classic" / "server.yaml").read_text()
    text = text.replace("../classic_rewards.py", str(REPOSITORY / "examples" / "classic_rewards.py"))
    config.write_text(
        text + "\nlimits: {max_request_mb: 1, max_completion_kb: 256}\n"
    )  # small enough for several chunks
    with ServerProcess(config) as process:
        yield process


def test_equal_the_functions_called_directly_in_chunks_and_after_a_retry(server: ServerProcess) -> None:
    prompts, completions = the_batch()
    functions = classic()
    with cutting_proxy(server.target) as proxy, RewardClient(proxy.target, deadline_s=60) as client:
        client.list_rewards()
        proxy.cut_next_answer(over_bytes=2000)
        result = client.score(rewards=list(FUNCTIONS), prompts=prompts, completions=completions)
        assert proxy.cut_count == 1
    assert result.chunk_count > 1
    assert result.attempt_count > 1
    for reward, (name, answer) in FUNCTIONS.items():
        expected = directly(getattr(functions, name), prompts, completions, answer=answer)
        assert result.rewards[reward].scores == expected, reward
        assert set(result.rewards[reward].statuses) == {"scored"}


def test_a_retried_chunk_is_not_scored_twice(server: ServerProcess) -> None:
    prompts, completions = the_batch()
    with cutting_proxy(server.target) as proxy, RewardClient(proxy.target, deadline_s=60) as client:
        client.list_rewards()
        proxy.cut_next_answer(over_bytes=1000)
        result = client.score(rewards=["length"], prompts=prompts[:200], completions=completions[:200])
    assert result.attempt_count > 1
    joined = [line for line in server.events("call joined") if line["request_id"] == result.request_id]
    assert len(joined) == result.attempt_count - 1
