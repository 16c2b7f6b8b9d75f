"""Functions written for TRL, verl and OpenRLHF give through a server, to the last bit, what they give called directly."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from server_process import REPOSITORY, ServerProcess

from trainer.client import RewardClient

pytestmark = pytest.mark.end_to_end

FOLDER = REPOSITORY / "examples" / "functions"
COUNT = 320
GROUP = 8


def module(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def a_completion(rng: random.Random, gold: int) -> str:
    said = rng.choice([gold, gold, gold + 1, -gold, gold * 1000])
    ending = rng.choice(
        ["#### {:,}", "The answer is {}.", "\nSo: {} apples", "{} and {}".format("{}", rng.randint(0, 9)), ""]
    )
    steps = "\n".join(f"{n} + {n} = {2 * n}" for n in range(rng.randint(0, 9)))
    return rng.choice(["", " ", "日本語 \U0001f600\n"]) + steps + "\n" + ending.format(said)


def the_batch() -> dict[str, list[Any]]:
    rng = random.Random(5)
    prompts: list[Any] = []
    completions: list[Any] = []
    answers = []
    for group in range(COUNT // GROUP):
        gold = rng.randint(0, 99_999)
        question = f"How many apples are {gold}?"
        for _ in range(GROUP):
            text = a_completion(rng, gold)
            turns = [{"role": "tool", "content": "1"}] * rng.randint(0, 3)
            conversation = group % 2 == 1
            prompts.append([{"role": "user", "content": question}] if conversation else question)
            completions.append([*turns, {"role": "assistant", "content": text}] if conversation else text)
            answers.append(f"There are {gold}.\n#### {gold}")
    return {"prompts": prompts, "completions": completions, "answer": answers}


def text_of(item: Any) -> str:
    return item if isinstance(item, str) else item[-1]["content"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    config = tmp_path / "server.yaml"
    text = (FOLDER / "server.yaml").read_text()
    for name in ("trl_style", "verl_style", "openrlhf_style"):
        text = text.replace(f"{name}.py:", f"{FOLDER / name}.py:")
    config.write_text(text)
    with ServerProcess(config) as process:
        yield process


def test_every_function_gives_what_it_gives_called_directly(server: ServerProcess) -> None:
    batch = the_batch()
    with RewardClient(server.target, deadline_s=60) as client:
        result = client.score(
            rewards=["trl", "turns", "verl", "openrlhf"],
            prompts=batch["prompts"],
            completions=batch["completions"],
            columns={"answer": batch["answer"]},
        )
    texts = [text_of(completion) for completion in batch["completions"]]
    prompts = [text_of(prompt) for prompt in batch["prompts"]]
    trl, verl, openrlhf = module("trl_style"), module("verl_style"), module("openrlhf_style")
    assert result.rewards["trl"].scores == trl.correctness_reward(texts, batch["answer"])
    assert result.rewards["turns"].scores == trl.turns_reward(batch["completions"])
    one_by_one = [
        verl.compute_score("openai/gsm8k", text, answer, {}, format_score=0.25)
        for text, answer in zip(texts, batch["answer"], strict=True)
    ]
    assert result.rewards["verl"].scores == [one["score"] for one in one_by_one]
    assert len({one["score"] for one in one_by_one}) == 3
    lists = [prompt + text for prompt, text in zip(prompts, texts, strict=True)], prompts, batch["answer"]
    assert result.rewards["openrlhf"].scores == openrlhf.reward_func(*lists)["rewards"]
    for name in ("trl", "turns", "verl", "openrlhf"):
        assert set(result.rewards[name].statuses) == {"scored"}
