"""One host of a judge's model, as the pool in front of it sees it: it looks, and it sends. No queue, no retry."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from reward_server.domain import HEALTHY, Health
from reward_server.engines.base import Answer, ChatMessage, Question


@dataclass(frozen=True, slots=True)
class Sight:
    """What a look at a host found."""

    digest: str | None = None  # of the model behind the configured name now; None where the host can't tell
    health: Health = HEALTHY  # whether it can serve that model at the configured context; a reason alone is a caution


class ModelHost(abc.ABC):
    """One endpoint of an engine. Everything is called on one event loop; `send` many times at once.

    A host that was lost is not closed: the pool looks at it again until it is back.
    """

    digest_may_change: ClassVar[bool] = False
    """Whether somebody may put another model behind the name while it serves. Then every answer counts only once a look
    that began after it has found the digest of before."""

    def __init__(self, label: str, slots: int | None = None) -> None:
        self.label = label  # how messages name it
        self.slots = slots  # what it works on at a time, where that is configured; None = to be found out

    @abc.abstractmethod
    async def open(self) -> None:
        """Opens connections or starts a process. An unreachable host is no error."""

    @abc.abstractmethod
    async def close(self) -> None:
        """Closes them. Nothing is left running."""

    @abc.abstractmethod
    async def look(self) -> Sight:
        """Finds out what model there is and whether it can serve, without a generation: cheap. Raises `EngineError`."""

    @abc.abstractmethod
    async def send(self, question: Question, timeout_s: float) -> Answer:
        """Gets one question answered now. Raises an `EngineError`, within `timeout_s`."""

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int | None:  # noqa: ARG002  # not every host can
        """Returns how many tokens a prompt has, template included; None where the host can't tell without answering."""
        return None
