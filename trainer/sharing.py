"""Lets reward functions of one server share one call per batch, although `GRPOTrainer` calls each by itself.

The first function that is called for a batch asks for the rewards of all its siblings; these take theirs from the
answer. A batch is recognised by its content, so it does not matter whether they are handed the same lists. An answer is
kept until every function has taken its part, or another batch begins. A function that did not come for its part is no
longer asked for until it is called again: somebody made it and does not use it.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any, Protocol

from trainer.client import RewardClient, ScoreResult
from trainer.errors import BadInput, RequestRefused

_log = logging.getLogger(__name__)

_IMMUTABLE = frozenset({str, int, float, bool, type(None)})


class Sibling(Protocol):
    """A reward function, as far as sharing goes."""

    @property
    def reward(self) -> str:
        """The name of its reward on the server."""

    def __hash__(self) -> int: ...


class _SharedCall:
    """One batch that is on its way or answered."""

    def __init__(self, content: Any, batch: Mapping[str, Any], functions: weakref.WeakSet[Sibling]) -> None:
        self.content = content
        self.batch = batch  # `content` knows some values by identity: they must not be replaced by others meanwhile
        self.rewards = sorted({function.reward for function in functions})
        self.not_taken = functions.copy()
        self.answer: Future[ScoreResult] = Future()


class Siblings:
    """The reward functions made for one client. Threads may use them at once."""

    def __init__(self, client: RewardClient) -> None:
        self.client = client
        self._functions: weakref.WeakSet[Sibling] = weakref.WeakSet()  # those whose rewards are asked for
        self._left_out: weakref.WeakSet[Sibling] = weakref.WeakSet()  # of these a person was told
        self._lock = threading.Lock()
        self._calls: list[_SharedCall] = []

    def join(self, function: Sibling) -> None:
        """Adds a function: from now on its reward is asked for with the others'."""
        with self._lock:
            self._functions.add(function)

    def score(self, function: Sibling, batch: Mapping[str, Any]) -> tuple[ScoreResult, bool]:
        """Returns the verdicts on a batch, and whether they were asked for now rather than by a sibling before.

        Args:
            function: Who asks; its reward is in the result, its siblings' may be.
            batch: What `RewardClient.score` takes, without the names of rewards.

        Raises:
            RewardError: What the call raised, to every function that waits for it.
        """
        content = _snapshot(batch)
        with self._lock:
            self._functions.add(function)
            call = next((c for c in self._calls if c.content == content and function in c.not_taken), None)
            asked_here = call is None
            if call is None:
                call = self._begin(content, batch, function)
            call.not_taken.discard(function)
        if asked_here:
            self._ask(call, function)
        result = call.answer.result()
        with self._lock:
            if not call.not_taken and call in self._calls:
                self._calls.remove(call)
        if function.reward not in result.rewards:
            return self.client.score(rewards=[function.reward], **batch), True
        return result, asked_here

    def _begin(self, content: Any, batch: Mapping[str, Any], caller: Sibling) -> _SharedCall:
        for past in [call for call in self._calls if call.answer.done()]:
            self._calls.remove(past)
            for function in past.not_taken - {caller}:
                self._leave_out(function)
        call = _SharedCall(content, batch, self._functions)
        self._calls.append(call)
        return call

    def _ask(self, call: _SharedCall, function: Sibling) -> None:
        try:
            call.answer.set_result(self._ask_for_all_or_one(call, function.reward))
        except BaseException as error:
            with self._lock:
                self._calls.remove(call)
            call.answer.set_exception(error)
            raise

    def _ask_for_all_or_one(self, call: _SharedCall, reward: str) -> ScoreResult:
        try:
            return self.client.score(rewards=call.rewards, **call.batch)
        except (BadInput, RequestRefused):
            # Perhaps for a sibling's sake, which may not be meant for this data at all: it will hear it when called.
            return self.client.score(rewards=[reward], **call.batch)

    def _leave_out(self, function: Sibling) -> None:
        self._functions.discard(function)
        if function not in self._left_out and function.reward not in {other.reward for other in self._functions}:
            _log.warning(
                "the reward function %r was made for %s but not called for the last batch: its reward is no longer "
                "asked for with the others', until it is called",
                function.reward,
                self.client.options.target,
            )
        self._left_out.add(function)


def _snapshot(value: Any) -> Any:
    """Returns what equals another snapshot exactly if the values are the same now. Strings are not copied."""
    if type(value) in _IMMUTABLE:
        return value
    if isinstance(value, (list, tuple)):
        return tuple(value) if _IMMUTABLE.issuperset(map(type, value)) else tuple(map(_snapshot, value))
    if isinstance(value, Mapping):
        return {key: _snapshot(item) for key, item in value.items()}
    return type(value), id(value)
