"""What an engine is: pieces of work in, each done at one host of its model, with checked answers.

A judge decides what to ask and what an answer means. An engine finds it a place at a host, gets its questions answered
there, tries again elsewhere where that can help, and says clearly when it can't.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Protocol, TypeVar, runtime_checkable

from reward_server.domain import Health

T = TypeVar("T")

MAX_ALTERNATIVES: Final = 20
"""Hosts list no more alternatives of a token than this."""


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
    alternatives: int = 0  # log-probabilities of so many tokens at each position, up to MAX_ALTERNATIVES; 0 = none
    labels: Mapping[str, Sequence[str]] | None = None  # the legal answers, with their spellings; never sent


@dataclass(frozen=True, slots=True)
class Position:
    """One token that the model wrote, and what it could have written there."""

    token: str
    logprobs: Mapping[str, float]  # natural logarithm by token's text, the written one among them; most likely first


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model said, complete: an engine raises rather than return half an answer as if it were whole."""

    text: str
    finish: str  # "stop", or "length": max_tokens was reached
    prompt_token_count: int  # 0 = the host does not count
    decoded_token_count: int
    host_ms: float = 0.0  # from sending to the whole answer
    positions: Sequence[Position] = ()  # of the answer's own tokens, no thinking; empty where there are none to be had


class Place(Protocol):
    """A place at one host, held for one piece of work: its questions are asked there, one after another."""

    host: str  # how messages name it
    attempt: int  # how many times this work has been at a host in vain: 0, 1, …
    queue_ms: float  # how long the work has waited for its places

    async def ask(self, question: Question) -> Answer:
        """Returns the answer, or raises an `EngineError`. Cancelling it cancels the generation at the host."""


Work = Callable[[Place], Awaitable[T]]
"""Asks its questions at the place that it is given, and returns what came of them.

It may be run again at another place, so it must keep nothing of a run that raised. It raises `BadAnswer` for an answer
that is of no use to it.
"""


@dataclass(frozen=True, slots=True)
class PullProgress:
    """How far the fetching of a model is."""

    status: (
        str  # the host's own words: "pulling manifest", "pulling 8eeb52dfb3bb", "verifying sha256 digest", "success"
    )
    completed_bytes: int | None = None  # of the part that the status names; None = this status has no size
    total_bytes: int | None = None
    host: str = ""  # the URL of the host that fetches it


class Engine(Protocol):
    """Does work at the hosts of one model. One instance serves all judges that name it, from one event loop.

    An engine's constructor takes `(name, options, folder)`: its name in the configuration, its own `Options`, and the
    folder where relative paths start. It does no I/O.
    """

    kind: ClassVar[str]  # its key in the configuration

    @property
    def context_tokens(self) -> int | None:
        """Returns how many tokens prompt and answer may have together, None where the host decides."""

    @property
    def gives_logprobs(self) -> bool | None:
        """Returns whether its hosts tell log-probabilities; None until one was asked. See `Question.alternatives`."""

    def keep_warm(self, messages: Sequence[ChatMessage]) -> None:
        """Names a beginning that many prompts share: hosts read it before they are called ready. Before `start`."""

    async def start(self) -> None:
        """Opens connections or starts its child process, and gets its hosts ready: identified, warm, proven to answer.

        Returns when they are, or when it is taking long; it then goes on in the background. An unreachable host is no
        error here: see `health`.
        """

    async def close(self) -> None:
        """Closes connections, ends its child process. Nothing is left running."""

    async def run(
        self,
        work: Work[T],
        *,
        affinity: str,
        deadline: Callable[[], float],
        patience_s: float,
        attempts: int,
    ) -> T:
        """Returns what the work returns, done at one host that was the same model before and after it.

        Nothing is asked of a model that `identity` does not know yet.

        Args:
            work: asks the questions.
            affinity: works of the same affinity share the beginning of their prompts: they go where it was read
                before, as long as no host stands idle for it.
            deadline: when nobody waits any more, on `time.monotonic()`'s clock; asked again and again, since more may
                come to wait for the same.
            patience_s: how long to wait while no host can be asked at all.
            attempts: how often an answer may be of no use (`BadAnswer`, `HostFailed`, `AnswerTimedOut`) before that is
                the outcome. An absent or busy host costs no attempt.

        Raises:
            EngineError: (see `reward_server.errors`) the last one, its `attempts` set.

        Cancelling it cancels the work, at the host too.
        """

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int | None:
        """Returns how many tokens a prompt has, template included; None where no host can tell before it is asked."""

    async def check(self) -> Health:
        """Asks the hosts whether they can serve the configured model at the configured context, and remembers it."""

    def health(self) -> Health:
        """Returns what is known now, from the last check and the last answers; asks nobody."""

    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, what shapes an answer: model, its digest where known, load and sampling options."""


@runtime_checkable
class Puller(Protocol):
    """An engine whose hosts can fetch its model by themselves. Needs no `start`."""

    def pull(self) -> AsyncGenerator[PullProgress, None]:
        """Fetches the configured model to every host; the last progress says "success". Raises an `EngineError`."""
