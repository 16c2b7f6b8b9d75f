"""Makes judges in memory, and asks them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reward_server.domain import Call, Sample, Verdict
from reward_server.engines.base import Engine
from reward_server.judge.judge import Judge
from reward_server.judge.options import JudgeOptions
from reward_server.judge.secret import JudgeSecret
from reward_server.sharing.memory import VerdictMemory

SECRET = JudgeSecret.of(b"0123456789abcdef0123456789abcdef")
REASONED = {"method": "reasoned", "rubric": {"criteria": [{"name": "good", "text": "It is good."}]}}


def judge_with(
    engine: Engine, *, memory: VerdictMemory | None = None, folder: Path = Path("/nowhere"), **options: Any
) -> Judge:
    """Returns a judge with these options; without a rubric among them it grades by one of one criterion."""
    options = {"engine": "box"} | options
    if not options.keys() & {"rubric", "rubric_file"}:
        options["rubric"] = "It answers the question."
    memory = VerdictMemory(1 << 20) if memory is None else memory
    return Judge("relevance", JudgeOptions(**options), engine, folder, secret=SECRET, memory=memory)


async def verdicts_of(judge: Judge, samples: Sequence[Sample], call: Call | None = None) -> list[Verdict]:
    """Returns (N,) verdicts in the samples' order, having seen to it that each came once."""
    found: dict[int, Verdict] = {}
    async for index, verdict in judge.score(samples, call or Call()):
        assert index not in found
        found[index] = verdict
    assert sorted(found) == list(range(len(samples)))
    return [found[index] for index in range(len(samples))]


async def verdict_of(engine: Engine, sample: Sample | None = None, **options: Any) -> Verdict:
    """Returns a new judge's verdict on one sample."""
    (verdict,) = await verdicts_of(judge_with(engine, **options), [sample or Sample("Hello there.", "Say hello.")])
    return verdict
