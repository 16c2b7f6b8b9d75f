"""The ranks of a run without a launcher: torch and TRL are imported once, then every rank is forked off.

Importing them takes a rank most of its time to start, and a small machine has few cores. What each rank does is what
it does under `torchrun`: the same environment variables, real processes, gloo between them.

`python rank_runs.py plan.json` runs the jobs of a plan one after another and writes `results.json` beside it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

GROUP_COMPARING = ("unlike", "ranked", "spread")
"""Rewards that are another where a part of the group is seen: two of the server, one here."""


def prompts_and_completions(group_size: int, row_count: int) -> tuple[list[str], list[str]]:
    """Returns a batch, groups one after another. The first two groups have the same prompt."""
    groups = [max(0, row // group_size - 1) for row in range(row_count)]
    words = ["one", "two", "three", "four", "five", "six", "seven"]
    completions = [" ".join(words[: 1 + (3 * row + row // 4) % 7]) for row in range(row_count)]
    return [f"Count, please, number {group}." for group in groups], completions


def spread(group: list[int], completions: list[str], **_: Any) -> list[float]:
    """Compares each completion with all those of its group, which it knows by a column."""
    longest: dict[int, int] = {}
    for number, text in zip(group, completions, strict=True):
        longest[number] = max(longest.get(number, 0), len(text))
    return [len(text) / longest[number] for number, text in zip(group, completions, strict=True)]


async def brief(completions: list[str], **_: Any) -> list[float]:
    """Scores each completion by itself, asynchronously."""
    return [1.0 / len(text) for text in completions]


def sometimes(completions: list[str], **_: Any) -> list[float | None]:
    """Misses some scores."""
    return [None if "four" in text and "six" not in text else float(len(text)) for text in completions]


def make_trainer(base: Any, job: dict[str, Any], functions: list[Any], rows_here: int, group_size: int) -> Any:
    """Returns a trainer for batches of `rows_here` on each rank."""
    from datasets import Dataset
    from trl import GRPOConfig

    arguments = GRPOConfig(
        output_dir=job["folder"],
        per_device_train_batch_size=rows_here,
        num_generations=group_size,
        use_cpu=True,
        bf16=False,
        report_to="none",
    )
    data = Dataset.from_dict({"prompt": ["a", "b", "c", "d"]})
    trainer = base(model=job["policy"], reward_funcs=functions, args=arguments, train_dataset=data)
    trainer.model.train()
    return trainer


def calculated(trainer: Any, rank: int, world: int, group_size: int, row_count: int) -> list[list[float]]:
    """Returns the rewards of all ranks as the trainer calculates them on this one."""
    here = row_count // world
    mine = slice(rank * here, (rank + 1) * here)
    prompts, completions = prompts_and_completions(group_size, row_count)
    prompts, completions = prompts[mine], completions[mine]
    groups = [row // group_size for row in range(row_count)][mine]
    inputs = [{"prompt": prompt, "group": group} for prompt, group in zip(prompts, groups, strict=True)]
    ids = [list(range(len(text.split()))) for text in completions]
    rewards = trainer._calculate_rewards(inputs, prompts, completions, ids)
    return [[round(value, 5) for value in row] for row in rewards.tolist()]


def score_layouts(job: dict[str, Any], rank: int, world: int) -> None:
    """Writes the rewards of several batches on this many ranks, and what stock TRL makes of the same."""
    from trl import GRPOTrainer

    from trainer.grpo import trainer_class
    from trainer.rewards import remote_reward

    functions = [*remote_reward(job["server"], "unlike", "ranked", "long", missing="none"), spread, brief, sometimes]
    found: dict[str, Any] = {}
    for group_size, row_count in job["layouts"]:
        for name, base in (("here", trainer_class()), ("stock", GRPOTrainer)):
            trainer = make_trainer(base, job, list(functions), row_count // world, group_size)
            found[f"{name} {group_size} {row_count}"] = calculated(trainer, rank, world, group_size, row_count)
    found["columns"] = trainer.reward_func_names
    Path(job["folder"], f"rewards.{world}.{rank}.json").write_text(json.dumps(found))


def model_that_breaks(rank: int) -> Any:
    """Returns a reward model that breaks on rank 1."""
    import torch

    class Breaks(torch.nn.Module):
        config = SimpleNamespace(_name_or_path="org/breaks")

        def forward(self, ids: Any) -> Any:
            if rank == 1:
                raise ValueError("no luck with these")
            return SimpleNamespace(logits=ids)

    return Breaks()


def one_broken_model(job: dict[str, Any], rank: int, world: int) -> None:
    """Scores a batch with a reward model that breaks on one rank."""
    import torch

    from trainer.grpo import trainer_class

    trainer = make_trainer(trainer_class(), job, [brief, model_that_breaks(rank)], 4, 4)
    trainer.reward_processing_classes[1] = lambda text, **_: {"ids": torch.ones(len(text), 1)}
    calculated(trainer, rank, world, 4, 4 * world)


def one_outage(job: dict[str, Any], rank: int, world: int) -> None:
    """Scores batches with a server that one rank cannot reach, once for each way to meet an outage."""
    from trainer.errors import RewardError
    from trainer.grpo import trainer_class
    from trainer.rewards import remote_reward

    found: dict[str, Any] = {}
    server = job["dead"] if rank == 1 else job["server"]
    for on_outage in ("missing", "stop"):
        remote = remote_reward(server, "long", missing="none", on_outage=on_outage)
        trainer = make_trainer(trainer_class(), job, [remote, brief], 4, 4)
        try:
            found[on_outage] = calculated(trainer, rank, world, 4, 4 * world)
        except RewardError as error:
            found[on_outage] = f"{type(error).__name__}: {error}"
    Path(job["folder"], f"outage.{rank}.json").write_text(json.dumps(found))


def command(job: dict[str, Any], rank: int, world: int) -> None:
    """Runs `python -m trainer` with this rank's arguments."""
    from trainer.cli import app

    app(job["arguments"][rank])


def in_pieces(job: dict[str, Any], rank: int, world: int) -> None:
    """Runs the command with a model that is cut into pieces, which accelerate does on GPUs alone: it takes CPUs for such."""
    from accelerate import PartialState
    from accelerate.utils import DistributedType

    os.environ.update(job["environment"] | {"ACCELERATE_TORCH_DEVICE": "cpu"})
    PartialState._prepare_backend = lambda *_: ("gloo", DistributedType.MULTI_GPU)
    command(job, rank, world)


JOBS: dict[str, Callable[[dict[str, Any], int, int], None]] = {
    "score": score_layouts,
    "outage": one_outage,
    "broken model": one_broken_model,
    "command": command,
    "in pieces": in_pieces,
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def forked(job: dict[str, Any], rank: int, environment: dict[str, str]) -> int:
    """Starts a rank and returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        os.environ.update(environment)
        with Path(job["folder"], f"{job['name']}.{rank}.txt").open("wb") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        JOBS[job["kind"]](job, rank, int(environment["WORLD_SIZE"]))
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001  # whatever it is, this is where the rank ends
        traceback.print_exc()
        status = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Runs all ranks of a job. Returns their exit statuses, None for one that hung, and the seconds it took."""
    world = job["world"]
    shared = {"WORLD_SIZE": str(world), "LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1"}
    shared |= {"MASTER_PORT": str(free_port())}
    began = time.monotonic()
    ranks = {forked(job, rank, shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)}): rank for rank in range(world)}
    statuses: dict[int, int | None] = {}
    while ranks and time.monotonic() - began < job["limit_s"]:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            statuses[ranks.pop(pid)] = os.waitstatus_to_exitcode(status)
        else:
            time.sleep(0.02)
    for pid, rank in ranks.items():
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        statuses[rank] = None
    return {"statuses": [statuses[rank] for rank in range(world)], "seconds": time.monotonic() - began}


def main(plan: Path) -> None:
    # Here, so that the ranks need not. What the libraries import only when it is used is named too.
    from matplotlib.figure import Figure  # noqa: F401
    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast  # noqa: F401

    import trainer.grpo
    import trainer.running  # noqa: F401

    results = {job["name"]: run(job) for job in json.loads(plan.read_text())}
    plan.with_name("results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
