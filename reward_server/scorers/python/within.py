"""What a worker process is asked: to call a person's function on one part of a batch.

Standard library only: worker processes import this.
"""

from __future__ import annotations

from typing import Any

from reward_server.workers import calling
from reward_server.workers.loading import Target

Plain = float | tuple[float, dict[str, float], str] | None | str
"""What the function gave for one sample as plain data: see `calling.Item`."""


def call_on(target: Target, part: tuple[calling.Arguments, int]) -> list[Plain] | str:
    """Returns what the function gives for the samples of a part, or in words what it returned instead of that many."""
    arguments, count = part
    items = calling.call(target, arguments, count)
    return items if isinstance(items, str) else [_plain(item) for item in items]


def _plain(item: Any) -> Plain:
    return (item.score, dict(item.parts), item.explanation) if isinstance(item, calling.Graded) else item
