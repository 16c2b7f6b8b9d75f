"""Calls of a person's function on parts of a batch, and what comes of them: verdicts, or why there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from reward_server.domain import Call, Cost, Sample, Verdict, abstained, failed, scored
from reward_server.errors import WorkerError, WorkNotPrepared, WorkRaised, WorkTimedOut
from reward_server.scorers.python_signature import Signature
from reward_server.workers import calling, loading
from reward_server.workers.pool import WorkerPool
from reward_server.workers.tasks import Preparation, Task

BATCH_SHARE: Final = 1 / 3
"""Share of the time left that a call on the whole batch may take: the rest is for finding out which sample it was."""

BEFORE_DEADLINE: Final = 0.9
"""Share of the time left that a call may take where nothing is to follow it, so that its end can still be told."""


@dataclass(frozen=True, slots=True)
class Function:
    """A person's function, known and ready to be called."""

    target: loading.Target
    signature: Signature
    pool: WorkerPool
    timeout_s: float  # of one call
    load_timeout_s: float
    reward_name: str
    on_not_prepared: Callable[[WorkNotPrepared], None]


class Batch:
    """The samples of one call of the server, and the function to call on parts of them."""

    def __init__(self, function: Function, samples: Sequence[Sample], call: Call) -> None:
        self.function = function
        self.samples = samples
        self._call = call

    def remaining_s(self) -> float:
        """Returns the seconds left to the deadline; infinite without one."""
        return self._call.remaining_s()

    def limit_s(self, share: float = BEFORE_DEADLINE) -> float:
        """Returns how long a call begun now may take: the function's limit, or that share of the time left."""
        return min(self.function.timeout_s, self.remaining_s() * share)

    async def verdicts(self, part: Sequence[int], limit_s: Callable[[], float]) -> list[Verdict]:
        """Returns the verdicts of one call on the samples of these indexes. Raises `WorkerError` where none returns."""
        function = self.function
        target = function.target
        samples = [self.samples[index] for index in part]
        task = Task(
            calling.call,
            (target, function.signature.keywords(samples), len(samples)),
            Preparation(loading.prepare, (target,), function.load_timeout_s),
            name=function.reward_name,
        )
        try:
            done = await function.pool.run(task, limit_s)
        except WorkNotPrepared as error:
            function.on_not_prepared(error)
            raise
        cost = Cost(queue_ms=done.queue_ms)
        if isinstance(done.value, str):
            return [failed(f"{target.name} {done.value}", cost=cost)] * len(part)
        return [_verdict(item, target.name, cost) for item in done.value]

    def failures(self, part: Sequence[int], error: WorkerError) -> list[Verdict]:
        """Returns the verdicts on samples on which a call has failed."""
        return [failed(self.reason(error, part))] * len(part)

    def reason(self, error: WorkerError, part: Sequence[int]) -> str:
        """Returns why a call has failed, in words for a person."""
        name = self.function.target.name
        match error:
            case WorkRaised():
                return f"{name} raised {error}{_hint(str(error), self.samples[part[0]])}"
            case WorkTimedOut():
                return f"{name} did not return in time and was stopped: {error}"
            case WorkNotPrepared():
                return f"{name} could not be loaded: {error}"
            case _:
                return f"the process that ran {name} ended under it: {error}"


def _verdict(item: calling.Item, name: str, cost: Cost) -> Verdict:
    if item is None:
        return abstained("the function returned None", cost=cost)
    if isinstance(item, str):
        return failed(f"{name} {item}", cost=cost)
    return scored(item, cost=cost)


def _hint(error: str, sample: Sample) -> str:
    """Returns what to try where a function seems to have been written for the other form of completions."""
    if isinstance(sample.completion, str):
        if "string indices must be" in error or "'str' object has no attribute 'get'" in error:
            return (
                ". It was given texts: if it reads conversations, as in completion[0]['content'], give the reward "
                "'view: messages'"
            )
    elif any(word in error for word in ("'list'", "list indices", "'dict'", "unhashable")):
        return (
            ". It was given conversations (lists of messages): if it reads texts, give the reward 'view: full' or "
            "'view: answer'"
        )
    return ""
