"""Whether the rewards that several ranks trained on are those that one process gets for the same completions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

TOLERANCE: Final = 1e-6
"""TRL keeps rewards in single precision."""


def compare(address: str, run: Path, group_size: int) -> dict[str, Any]:
    """Scores every completion in TRL's tables anew, group by group, and returns how far the table's rewards are from that.

    A judge's verdicts come from the server's memory of the run: equal ones say that each completion got its own.
    """
    import pandas as pd  # noqa: PLC0415  # a second

    from trainer.client import RewardClient  # noqa: PLC0415  # with grpc

    tables = sorted((run / "completions").glob("completions_*.parquet"))
    with RewardClient(address) as client:
        names = [name for name in client.list_rewards().rewards if name in pd.read_parquet(tables[0]).columns]
        worst, different, missing = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0), dict.fromkeys(names, 0)
        count = 0
        for path in tables:
            table = pd.read_parquet(path)
            count += len(table)
            result = client.score(
                rewards=names,
                prompts=[_plain(prompt) for prompt in table["prompt"]],
                completions=[_plain(completion) for completion in table["completion"]],
                groups=[row // group_size for row in range(len(table))],
            )
            for name in names:
                for trained_on, alone in zip(table[name], result.rewards[name].scores, strict=True):
                    distance = _distance(float(trained_on), alone)
                    missing[name] += alone is None
                    different[name] += distance > TOLERANCE
                    worst[name] = max(worst[name], distance)
    found: Mapping[str, Any] = {
        name: {"different": different[name], "largest_distance": worst[name], "missing": missing[name]}
        for name in names
    }
    equal = not any(different.values())
    return {"steps": len(tables), "completions": count, "equal": equal, "rewards": found}


def _distance(trained_on: float, alone: float | None) -> float:
    if alone is None or math.isnan(trained_on):
        return 0.0 if alone is None and math.isnan(trained_on) else math.inf
    return abs(trained_on - alone)


def _plain(value: Any) -> Any:
    """Returns a text as it is, and a conversation, which the table holds as an array, as a list."""
    return value if isinstance(value, str) else [dict(message) for message in value]
