"""A person's function as a scorer, for tests without configuration and server."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from reward_server.domain import Call, Sample, Verdict
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.python.options import PythonOptions
from reward_server.scorers.python.scorer import PythonScorer
from reward_server.workers.pool import WorkerPool


def unstarted(pool: WorkerPool, folder: Path, function: str, **options: Any) -> PythonScorer:
    """Returns the scorer of a function as the configuration names it, in a folder, as the reward `mine`."""

    def no_other(name: str) -> Any:
        raise KeyError(name)

    return PythonScorer(PythonOptions(function=function, **options), ScorerContext("mine", folder, pool, {}, no_other))


async def started(pool: WorkerPool, folder: Path, text: str, **options: Any) -> PythonScorer:
    """Returns the started scorer of the function `reward` in a file of that text."""
    (folder / "rewards.py").write_text(text)
    scorer = unstarted(pool, folder, "rewards.py:reward", **options)
    await scorer.start()
    return scorer


async def verdicts(scorer: PythonScorer, samples: Sequence[Sample], within_s: float = float("inf")) -> list[Verdict]:
    """Returns the verdicts in the order of the samples, each of which must have got exactly one."""
    call = Call(deadline=time.monotonic() + within_s)
    got = [item async for item in scorer.score(samples, call)]
    assert sorted(index for index, _ in got) == list(range(len(samples)))
    return [verdict for _, verdict in sorted(got, key=lambda item: item[0])]


async def scores(scorer: PythonScorer, *completions: str) -> list[float | None]:
    """Returns the scores of these texts."""
    return [verdict.score for verdict in await verdicts(scorer, [Sample(text) for text in completions])]
