"""OpenRLHF's own reward-model server (`openrlhf.cli.serve_rm`): `{"query": [...]}` in, `{"rewards": [...]}` out.

It tells nothing of its model, and cuts what is longer than its `--max_len` in silence: see `max_chars`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from reward_server.errors import BadAnswer
from reward_server.http.complaints import excerpt
from reward_server.scorers.endpoints.protocols.base import Protocol, Told, number
from reward_server.scorers.endpoints.readings import Reading
from reward_server.scorers.endpoints.texts import Input, InputForm, Single

PATH: Final = "/get_reward"


class OpenRlhf(Protocol):
    """`/get_reward`: a number for each text."""

    path: ClassVar[str] = PATH
    looks_at: ClassVar[str] = PATH
    forms: ClassVar[tuple[InputForm, ...]] = ("plain", "template", "completion")

    def body(self, inputs: Sequence[Input]) -> dict[str, Any]:
        """Returns the request for these inputs."""
        return {"query": [given.text for given in inputs if isinstance(given, Single)]}

    def readings(self, said: Any, count: int) -> list[Reading]:
        """Returns the number of each text."""
        return [Reading([reward_from(value)]) for value in rewards_in(said, count, self._to.label)]

    def told(self, said: Any) -> Told:  # noqa: ARG002  # every protocol is asked alike
        """Returns nothing: it does not tell."""
        return Told({})


def rewards_in(said: Any, count: int, label: str) -> list[Any]:
    """Returns what an answer holds as the reward of each query. Raises `BadAnswer` where they are not as many.

    A single number is the reward of a single query: so servers write it that are asked for one at a time.
    """
    if not isinstance(said, Mapping):
        raise BadAnswer(f"{label}: the answer is a {type(said).__name__}, not an object with `rewards`")
    rewards = said.get("rewards")
    if count == 1 and math.isfinite(reward_from(rewards)):
        return [rewards]
    if not isinstance(rewards, list):
        what = f"`rewards` is {excerpt(json.dumps(rewards))}" if "rewards" in said else f"has {sorted(said)[:10]}"
        raise BadAnswer(f"{label}: the answer has no list `rewards`: it {what}")
    if len(rewards) != count:
        raise BadAnswer(f"{label}: it gave {len(rewards)} rewards for {count} queries")
    return rewards


def reward_from(value: Any) -> float:
    """Returns a reward as a float, NaN for what is no number: that fails alone."""
    try:
        return number(value)
    except TypeError:
        return math.nan
