"""The reward functions as stock TRL calls them, and what TRL makes of what they return."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from fake_reward_server import verdicts
from trl import GRPOTrainer
from trl.trainer.utils import get_callable_name, is_async_callable

from protos.reward.v1 import reward_pb2 as pb
from trainer.rewards import remote_reward


@pytest.fixture
def trl_loop() -> Iterator[asyncio.AbstractEventLoop]:
    """TRL's own event loop for async reward functions, in a thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


class JustRewards(GRPOTrainer):
    """As much of a GRPOTrainer as its `_calculate_rewards` touches."""

    def __init__(self, functions: list[Any], loop: asyncio.AbstractEventLoop) -> None:
        self.accelerator = Accelerator(cpu=True)
        self.args = SimpleNamespace(report_to=[])
        self.state = SimpleNamespace(global_step=3)
        self.environments = None
        self.reward_funcs = functions
        self.reward_processing_classes = [None] * len(functions)
        self.reward_func_names = [get_callable_name(function) for function in functions]
        self.async_loop = loop
        self._pending_extra_logs: dict[str, list[Any]] = defaultdict(list)
        self._pending_metrics: dict[str, list[float]] = defaultdict(list)

    def rewards(self, *completions: Any, **columns: list[Any]) -> torch.Tensor:
        inputs = [
            {"prompt": "p", **{name: values[index] for name, values in columns.items()}}
            for index in range(len(completions))
        ]
        return self._calculate_rewards(inputs, ["p"] * len(inputs), list(completions), [[1, 2]] * len(inputs))


def test_stock_trl_makes_one_call_for_all_remote_rewards_of_a_batch(server, trl_loop):
    server.reward("b", required_columns=["answer"])
    a, b = remote_reward(server.target, "a", "b")

    def local(completions: list[Any], **kwargs: Any) -> list[float]:
        return [0.5] * len(completions)

    async def local_too(completions: list[Any], **kwargs: Any) -> list[float]:
        return [0.25] * len(completions)

    trainer = JustRewards([a, local, b, local_too], trl_loop)

    for number in range(2):
        table = trainer.rewards("x", "x" * (number + 2), answer=["1", "2"], unused=[object(), object()])
        assert table.tolist() == [[1.0, 0.5, 1.0, 0.25], [number + 2.0, 0.5, number + 2.0, 0.25]]

    assert [[reward.name for reward in request.rewards] for request in server.requests] == [["a", "b"]] * 2
    assert trainer.reward_func_names == ["a", "local", "b", "local_too"]
    assert not is_async_callable(a)


def test_trl_gets_a_neutral_score_for_a_missing_one_and_a_row_for_every_completion(server, trl_loop):
    server.script.append(
        lambda request, context: pb.ScoreResponse(results=[verdicts("a", [1.0, None, 3.0], ["", "timed out", ""])])
    )
    trainer = JustRewards([remote_reward(server.target, "a")], trl_loop)

    table = trainer.rewards("x", "y", "z")

    assert table[:, 0].tolist() == [1.0, 2.0, 3.0]
    assert trainer._pending_extra_logs == {"a/reason": ["", "[failed] timed out", ""]}
    assert trainer._pending_metrics["rewards/a/missing"] == [1.0]


def test_trl_gets_not_a_number_where_a_whole_group_is_missing(server, trl_loop):
    server.script.append(
        lambda request, context: pb.ScoreResponse(results=[verdicts("a", [None, None], ["gone", "gone"])])
    )

    table = JustRewards([remote_reward(server.target, "a")], trl_loop).rewards("x", "y")

    assert torch.isnan(table).all()
