"""An engine in memory whose model says what a test wants: what a judge asks, keeps and makes of answers is tested with it.

    engine = ScriptedEngine(lambda question: yes_no(0.9))
    engine = ScriptedEngine(lambda question: HostFailed("it broke") if "bad" in shown(question) else said("fine"))

It retries as a pool does (`BadAnswer`, `HostFailed`, `AnswerTimedOut` up to `attempts`), but never waits for a host.
"""

from __future__ import annotations

import inspect
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

from reward_server.domain import HEALTHY, Health
from reward_server.engines.base import Answer, ChatMessage, Position, Question, Work
from reward_server.errors import AnswerTimedOut, BadAnswer, EngineError, HostFailed

T = TypeVar("T")
Said = Answer | Exception
Script = Callable[[Question], Said | Awaitable[Said]]

ASKED_AGAIN = (BadAnswer, HostFailed, AnswerTimedOut)
CHARS_A_TOKEN = 4


def said(text: str, *, finish: str = "stop", positions: Sequence[Position] = ()) -> Answer:
    """Returns an answer of this text: 100 tokens read, one decoded a word, 20 ms."""
    return Answer(text, finish, 100, max(1, len(text.split())), 20.0, positions)


def labels(probabilities: Mapping[str, float]) -> Answer:
    """Returns an answer of one token, with the probability of each token that could stand there."""
    first = max(probabilities, key=lambda token: probabilities[token])
    logprobs = {token: math.log(p) for token, p in probabilities.items() if p > 0.0}
    return said(first, finish="length", positions=(Position(first, logprobs),))


def yes_no(yes: float, mass: float = 1.0) -> Answer:
    """Returns an answer of one token: yes with this probability, no with the rest; `mass` is that of both together."""
    other = {"The": 1.0 - mass} if mass < 1.0 else {}
    return labels({"yes": yes * mass, "no": (1.0 - yes) * mass} | other)


def shown(question: Question) -> str:
    """Returns all that a question shows the model, as one text."""
    return "\n".join(message.content for message in question.messages)


def completion_shown(question: Question) -> str:
    """Returns what stands in the place of the (first) completion, between its BEGIN and END lines."""
    _, _, rest = question.messages[-1].content.partition("BEGIN COMPLETION")
    return rest.partition("\n")[2].rpartition("\nEND COMPLETION")[0]


@dataclass
class ScriptedPlace:
    """A place at the engine's only host."""

    engine: ScriptedEngine
    attempt: int = 0
    queue_ms: float = 1.0
    host: str = "scripted"

    async def ask(self, question: Question) -> Answer:
        engine = self.engine
        engine.questions.append(question)
        answer = engine.script(question)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Exception):
            raise answer
        return answer


@dataclass
class ScriptedEngine:
    """See the module. What happened is kept in its lists."""

    kind: ClassVar[str] = "scripted"

    script: Script
    context_tokens: int | None = None
    gives_logprobs: bool | None = True
    counts_tokens: bool = False  # by CHARS_A_TOKEN
    said_health: Health = HEALTHY
    said_identity: Mapping[str, Any] = field(default_factory=lambda: {"model": "scripted"})
    questions: list[Question] = field(default_factory=list)
    runs: list[dict[str, Any]] = field(default_factory=list)  # affinity, deadline_s, patience_s, attempts
    warmed: list[Sequence[ChatMessage]] = field(default_factory=list)
    open: int = 0  # pieces of work now
    most_open: int = 0
    cancelled: int = 0  # pieces of work that were

    async def run(
        self, work: Work[T], *, affinity: str, deadline: Callable[[], float], patience_s: float, attempts: int
    ) -> T:
        remaining_s = deadline() - time.monotonic()
        self.runs.append(
            {"affinity": affinity, "deadline_s": remaining_s, "patience_s": patience_s, "attempts": attempts}
        )
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        whole = False
        try:
            result = await self._tried(work, attempts)
            whole = True
        except Exception:
            whole = True
            raise
        finally:
            self.open -= 1
            self.cancelled += not whole
        return result

    async def _tried(self, work: Work[T], attempts: int) -> T:
        attempt = 0
        while True:
            try:
                return await work(ScriptedPlace(self, attempt))
            except EngineError as error:
                attempt += isinstance(error, ASKED_AGAIN)
                error.attempts = attempt
                if attempt >= attempts or not isinstance(error, ASKED_AGAIN):
                    raise

    def keep_warm(self, messages: Sequence[ChatMessage]) -> None:
        self.warmed.append(messages)

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int | None:
        if not self.counts_tokens:
            return None
        return sum(len(message.content) for message in messages) // CHARS_A_TOKEN

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> Health:
        return self.said_health

    def health(self) -> Health:
        return self.said_health

    def identity(self) -> Mapping[str, Any]:
        return self.said_identity
