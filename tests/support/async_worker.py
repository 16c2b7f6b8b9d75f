"""What TRL's `async_grpo` does with reward functions: pickles them, and scores a group in a process of its own."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
from types import SimpleNamespace
from typing import Any


async def later(completions: list[str], reference: list[str], **_: Any) -> list[float]:
    """An asynchronous reward function that needs a column."""
    await asyncio.sleep(0)
    return [float(right in text) for text, right in zip(completions, reference, strict=True)]


def scored_by_worker(functions: list[Any], prompt: str, completions: list[str], **columns: list[Any]) -> dict[str, Any]:
    """Returns what the worker gets from each function for one group: its metrics, a list per name."""
    context = multiprocessing.get_context("spawn")
    mine, its = context.Pipe()
    group = {"prompts": [prompt] * len(completions), "completions": completions, "reward_kwargs": columns}
    child = context.Process(target=_score, args=(its, pickle.dumps(functions), group))
    child.start()
    its.close()
    found: dict[str, Any] = mine.recv()
    child.join()
    return found


def _score(answer: Any, functions: bytes, group: dict[str, Any]) -> None:
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from accelerate import PartialState
    from trl.experimental.async_grpo.async_rollout_worker import RolloutGroup, _AsyncRolloutLoop
    from trl.trainer.utils import get_callable_name

    PartialState(cpu=True)  # its log asks for it
    reward_funcs = pickle.loads(functions)  # noqa: S301  # the parent's
    names = [get_callable_name(function) for function in reward_funcs]
    loop = SimpleNamespace(
        reward_funcs=reward_funcs, reward_func_names=names, _env_reward_types=[], _provides_rollout_reward=False
    )
    count = len(group["completions"])
    row = SimpleNamespace(input_ids=[1], completion_mask=[1], old_log_probs=[0.0])
    rollouts = RolloutGroup(
        **group,
        completions_ids=[[1]] * count,
        completions_sequences=[[row]] * count,
        tool_call_counts=[0] * count,
        tool_failure_counts=[0] * count,
        model_version=0,
        group_id=0,
        env_rewards=[],
        rollout_rewards=[],
    )
    samples = asyncio.run(_AsyncRolloutLoop._score_group(loop, rollouts))
    answer.send({key: [sample.metrics[key] for sample in samples] for key in samples[0].metrics})
