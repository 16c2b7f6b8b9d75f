"""Calls of a person's function on parts of a batch, and what comes of them: verdicts, or why there are none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from reward_server.domain import Call, Cost, Sample, Status, Verdict, abstained, failed, scored
from reward_server.errors import WorkerError, WorkNotPrepared, WorkOutOfMemory, WorkRaised, WorkTimedOut
from reward_server.scorers.python.signature import Signature
from reward_server.scorers.python.within import Plain, call_on
from reward_server.scorers.quarantine import Record
from reward_server.scorers.suspects import ERROR_CHARS, shortened
from reward_server.scorers.trial import Trial
from reward_server.scorers.work import Outcome, Work, time_for
from reward_server.workers import loading
from reward_server.workers.items import ItemDone, ItemJob, run_items
from reward_server.workers.pool import WorkerPool
from reward_server.workers.tasks import Preparation

BATCH_SHARE: Final = 1 / 3
"""Share of the time left that a call on the whole batch may take: the rest is for finding out which sample it was."""

BATCH_BY: Final = 1 / 2
"""Share of the time left in which such a call must be over by the clock."""

Part = Sequence[int]
"""Indexes of samples that are passed to the function in one call."""


@dataclass(frozen=True, slots=True)
class Function:
    """A person's function, known and ready to be called."""

    target: loading.Target
    signature: Signature
    pool: WorkerPool
    timeout_s: float  # of one call
    load_timeout_s: float
    memory_mb: int | None  # likewise, above what the process has when the call begins
    reward_name: str
    on_not_prepared: Callable[[WorkNotPrepared], None]
    record: Record

    def job(self, first_timeout_s: float | None = None) -> ItemJob:
        """Returns what is done with each part."""
        return ItemJob(
            function=call_on,
            args=(self.target,),
            prepare=Preparation(loading.prepare, (self.target,), self.load_timeout_s),
            name=self.reward_name,
            timeout_s=self.timeout_s,
            memory_mb=self.memory_mb,
            first_timeout_s=first_timeout_s,
        )


class Batch:
    """The samples of one call of the server, and the function to call on parts of them."""

    def __init__(self, function: Function, samples: Sequence[Sample], call: Call) -> None:
        self.function = function
        self.samples = samples
        self._call = call

    def limit_s(self, share: float) -> float:
        """Returns how long a call begun now may take: the function's limit, or that share of the time left."""
        return min(self.function.timeout_s, self.remaining_s() * share)

    def remaining_s(self) -> float:
        """Returns the seconds left to the deadline; infinite without one."""
        return self._call.remaining_s()

    def alone(self) -> list[Part]:
        """Returns the parts of one sample each."""
        return [(index,) for index in range(len(self.samples))]

    def groups(self) -> list[Part]:
        """Returns the parts of one group each."""
        groups: dict[int, list[int]] = {}
        for index, sample in enumerate(self.samples):
            groups.setdefault(sample.group, []).append(index)
        return list(groups.values())

    async def outcome(self, part: Part, share: float, by: float = 1.0) -> ItemDone:
        """Returns the outcome of one call on the samples of these indexes. Raises `WorkerError` where it has none.

        Args:
            part: see `Part`.
            share: of the time left, which it may take of its own.
            by: share of the time left in which it must be over by the clock, however busy workers and machine are.
        """
        function = self.function
        job = replace(function.job(), timeout_s=self.limit_s(share))
        remaining_s = time_for(self._call, by)
        outcomes = run_items(function.pool, job, self._items([part]), remaining_s=remaining_s)
        async with aclosing(outcomes):
            _, outcome = await anext(outcomes)
        if isinstance(outcome, ItemDone):
            return outcome
        self._note(outcome)
        raise outcome

    def trial(
        self, parts: Sequence[Part], *, first_timeout_s: float | None = None, second_counts: bool = True
    ) -> Trial:
        """Returns what calls the function on these parts, and tries again alone those on which it breaks.

        Args:
            parts: where they are of one sample each, they are all samples in their order.
            first_timeout_s: see `ItemJob`.
            second_counts: what the function gives for a sample alone may be its verdict.
        """
        single = all(len(part) == 1 for part in parts)
        work = Work(
            self.function.pool,
            self.function.job(first_timeout_s),
            self._items(parts),
            self.samples if single and len(parts) == len(self.samples) else None,
            self.function.signature.needs,
            time_for(self._call),
            is_scored=lambda done: self.verdicts(done, 1)[0].status is Status.SCORED,
            reason=lambda place, error: self.reason(error, parts[place]),
            fault=self._fault,
            item_of=lambda sample: (self.function.signature.keywords([sample]), 1),
            second_counts=second_counts,
        )
        return Trial(work, self.function.record)

    def sentences(self) -> dict[int, Verdict]:
        """Returns by index the verdicts on those samples whose completions are in quarantine."""
        return self.function.record.sentences(self.samples, lambda index: self._items([(index,)])[0])

    def verdicts(self, outcome: Outcome, count: int) -> list[Verdict]:
        """Returns the verdicts on the samples of a part, by its outcome."""
        if not isinstance(outcome, ItemDone):
            return [outcome] * count
        name, cost = self.function.target.name, Cost(queue_ms=outcome.queue_ms)
        if isinstance(outcome.value, str):
            return [failed(f"{name} {outcome.value}", cost=cost)] * count
        return [_verdict(item, name, cost) for item in outcome.value]

    def reason(self, error: WorkerError, part: Part) -> str:
        """Returns why a call has failed, in words for a person."""
        self._note(error)
        name = self.function.target.name
        match error:
            case NoNumber():
                return str(error)
            case WorkRaised():
                return f"{name} raised {shortened(str(error), ERROR_CHARS)}{_hint(str(error), self.samples[part[0]])}"
            case WorkOutOfMemory():
                return f"{name} takes too much memory (memory_mb): {error}"
            case WorkTimedOut():
                return f"{name} did not return in time and was stopped: {error}"
            case WorkNotPrepared():
                return f"{name} could not be loaded: {error}"
            case _:
                return f"the process that ran {name} ended under it: {error}"

    def _items(self, parts: Sequence[Part]) -> list[tuple[object, int]]:
        keywords, samples = self.function.signature.keywords, self.samples
        return [(keywords([samples[index] for index in part]), len(part)) for part in parts]

    def _fault(self, done: ItemDone) -> WorkerError | None:
        """Returns what is wrong with what the function gave for a single sample; None where nothing is."""
        if isinstance(done.value, str) or len(done.value) != 1:
            return None
        (verdict,) = self.verdicts(done, 1)
        return NoNumber(verdict.status_reason) if verdict.status is Status.FAILED else None

    def _note(self, error: WorkerError) -> None:
        if isinstance(error, WorkNotPrepared):
            self.function.on_not_prepared(error)


class NoNumber(WorkRaised):
    """The function gave something for a sample that is no number, or not a finite one."""


def _verdict(item: Plain, name: str, cost: Cost) -> Verdict:
    if item is None:
        return abstained("the function returned None", cost=cost)
    if isinstance(item, str):
        return failed(f"{name} {item}", cost=cost)
    if isinstance(item, tuple):
        score, parts, explanation = item
        return scored(score, explanation, parts=parts, cost=cost)
    return scored(item, cost=cost)


def _hint(error: str, sample: Sample) -> str:
    """Returns what to try where a function seems to have been written for the other form of completions."""
    if isinstance(sample.completion, str):
        if "string indices must be" in error or "'str' object has no attribute 'get'" in error:
            return (
                ". It was given texts: if it reads conversations, as in completion[0]['content'], give the reward "
                "'view: messages'; where it has that, the data has texts"
            )
    elif any(word in error for word in ("'list'", "list indices", "'dict'", "unhashable")):
        return (
            ". It was given conversations (lists of messages): if it reads texts, give the reward 'view: full' or "
            "'view: answer'"
        )
    return ""
