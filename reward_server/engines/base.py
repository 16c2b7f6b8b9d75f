"""What an engine is: one prompt in, one checked answer out.

A judge decides what to ask and what an answer means; an engine only gets it answered, and says clearly when it can't.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

from reward_server.domain import Health


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One message to a judge's model."""

    role: str  # "system", "user" or "assistant"
    content: str


@dataclass(frozen=True, slots=True)
class Question:
    """One request to a judge's model."""

    messages: Sequence[ChatMessage]
    max_tokens: int  # at least 1
    schema: Mapping[str, Any] | None = None  # JSON schema of the answer; None = free text
    temperature: float = 0.0
    seed: int = 0
    answer_timeout_s: float = float("inf")  # the host may take this long, from sending to the whole answer


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, complete: an engine raises rather than return half an answer as if it were whole."""

    text: str
    finish: str  # "stop", or "length": max_tokens was reached
    prompt_token_count: int
    decoded_token_count: int
    queue_ms: float  # waiting for a free slot before it was sent
    host_ms: float  # from sending to the whole answer


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far the fetching of a model is."""

    status: (
        str  # the host's own words: "pulling manifest", "pulling 8eeb52dfb3bb", "verifying sha256 digest", "success"
    )
    completed_bytes: int | None = None  # of the part that the status names; None = this status has no size
    total_bytes: int | None = None


class Engine(Protocol):
    """Answers questions. One instance serves all judges that name it, from one event loop.

    An engine's constructor takes `(name, options, folder)`: its name in the configuration, its own `Options`, and the
    folder where relative paths start. It does no I/O.
    """

    kind: ClassVar[str]  # its key in the configuration

    @property
    def context_tokens(self) -> int | None:
        """Returns how many tokens prompt and answer may have together, None where the host decides."""

    async def start(self) -> None:
        """Opens connections or starts its child process. An unreachable host is no error here: see `health`."""

    async def close(self) -> None:
        """Closes connections, ends its child process. Nothing is left running."""

    async def ask(self, question: Question, timeout_s: float) -> Answer:
        """Returns the answer, or raises an `EngineError` (see `reward_server.errors`) within `timeout_s`.

        Nothing is asked of a model that `identity` does not know yet.

        Cancelling it cancels the work at the host. Questions asked at the same time wait here for their turn, in the
        order they came; the wait counts towards `timeout_s`, not towards the question's `answer_timeout_s`.
        """

    async def check(self) -> Health:
        """Asks the host whether it can serve the configured model at the configured context, and remembers it."""

    def health(self) -> Health:
        """Returns what is known now, from the last check and the last answers; asks nobody."""

    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, what shapes an answer: model, its digest where known, load and sampling options."""


@runtime_checkable
class Puller(Protocol):
    """An engine whose host can fetch its model by itself. Needs no `start`."""

    def pull(self) -> AsyncGenerator[PullProgress, None]:
        """Fetches the configured model to the host; the last progress says "success". Raises an `EngineError`."""
