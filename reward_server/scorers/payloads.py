"""How samples go to the workers of a rule, what these do with them, and how verdicts come back: as plain data."""

from __future__ import annotations

import functools
import importlib
import operator
import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from reward_server.domain import Blame, Cost, Sample, Status, Verdict, scored
from reward_server.scorers.base import RuleContext
from reward_server.workers.items import ItemDone

RULES_KEPT: Final = 256
"""So many rules a worker keeps made."""

Payload = tuple[Any, ...]
"""A sample on its way to a worker: the fields of `Sample` in their order, those that the rule does not read left out."""

Plain = float | tuple[Any, ...]
"""A verdict on its way back: its score if that is all it has, else the fields of `Verdict` without the cost."""


def prepare(*maker: Any) -> None:
    """Makes the rule in a worker, so that the time it takes is not taken for a sample's own."""
    _made(*maker)


def judge_payload(place: str, options: bytes, reward_name: str, folder: str, payload: Payload) -> Plain:
    """Judges one sample in a worker."""
    return plain(_made(place, options, reward_name, folder).judge_one(Sample(*payload)))


def judge_payloads(
    place: str, options: bytes, reward_name: str, folder: str, payloads: Sequence[Payload]
) -> list[Plain]:
    """Judges the completions of one prompt in a worker."""
    verdicts = _made(place, options, reward_name, folder).judge_group([Sample(*payload) for payload in payloads])
    if len(verdicts) != len(payloads):
        raise ValueError(f"the rule gave {len(verdicts)} verdicts on {len(payloads)} completions")
    return [plain(verdict) for verdict in verdicts]


@functools.lru_cache(maxsize=RULES_KEPT)
def _made(place: str, options: bytes, reward_name: str, folder: str) -> Any:
    module, _, name = place.partition(":")
    cls = operator.attrgetter(name)(importlib.import_module(module))
    return cls(pickle.loads(options), RuleContext(reward_name, Path(folder)))  # noqa: S301  # the server's own


def plain(verdict: Verdict) -> Plain:
    """Returns a verdict as plain data."""
    if verdict.score is not None and not (verdict.explanation or verdict.parts or verdict.flags):
        return verdict.score
    return (
        verdict.score,
        verdict.status.value,
        verdict.status_reason,
        verdict.explanation,
        dict(verdict.parts),
        verdict.blame.value,
        tuple(verdict.flags),
    )


def verdict_of(value: Any, cost: Cost) -> Verdict:
    """Returns the verdict that came back, at that cost."""
    if isinstance(value, float):
        return scored(value, cost=cost)
    score, status, reason, explanation, parts, blame, flags = value
    return Verdict(score, Status(status), reason, explanation, parts, cost, Blame(blame), flags)


def is_scored(done: ItemDone) -> bool:
    """Returns whether the verdict that came back has a score."""
    return isinstance(done.value, float) or (isinstance(done.value, tuple) and done.value[0] is not None)


def columns_reader(names: Sequence[str], *, all_columns: bool) -> Any:
    """Returns what takes from a sample's columns those that a rule reads, as a plain dict."""
    if all_columns:
        return dict
    if not names:
        nothing: dict[str, Any] = {}
        return lambda _: nothing
    return lambda columns: {name: columns[name] for name in names if name in columns}
