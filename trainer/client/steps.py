"""What a conversation with the server asks of whoever carries it out.

The conversation itself (`dialogue.py`) is a generator without any I/O: it yields one of these and is sent what came of
it. The blocking and the asyncio client differ only in how they carry them out.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from trainer.client.failures import Failure

T = TypeVar("T")

Metadata = tuple[tuple[str, str], ...]


class Method(Enum):
    """The RPCs that the client makes."""

    SCORE = "/reward.v1.RewardService/Score"
    LIST_REWARDS = "/reward.v1.RewardService/ListRewards"
    CHECK_HEALTH = "/grpc.health.v1.Health/Check"


@dataclass(frozen=True, slots=True)
class Rpc:
    """One RPC to make. Comes back as the response message, or as a `Failure`."""

    method: Method
    request: bytes
    timeout_s: float
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class Send:
    """Make these RPCs side by side, a few at a time. Comes back as a list of what became of each, in order."""

    rpcs: tuple[Rpc, ...]


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait. Comes back as None."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Diagnose:
    """Look whether a failed connection has a cause that waiting does not mend.

    Comes back as the error to raise, or as the failure, perhaps in better words.
    """

    failure: Failure


Step = Send | Pause | Diagnose
Steps = Generator[Step, Any, T]
