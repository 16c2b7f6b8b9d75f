"""Rules that may be slow, hang or crash: computed in worker processes that can be killed.

- `PooledRule`: a pure function of one sample. Override `judge_one`.
- `GroupRule`: a pure function of the completions of one prompt, which it compares. Override `judge_group`.

A worker makes an instance of its own, `cls(options, context)`, with a plain `RuleContext`: so a constructor may compile
and load what it needs, and must not open anything. In the server the constructor runs too, once, for the checks it makes.

What breaks its worker is tried again alone, and is to blame only if a witness says so: see `trial`.
"""

from __future__ import annotations

import abc
import functools
import pickle
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from importlib import metadata
from typing import Any, ClassVar, Final

from pydantic import Field

from reward_server.domain import HEALTHY, NO_COST, Call, Cost, CostClass, Health, Sample, Verdict
from reward_server.errors import WorkerError, WorkNotPrepared, WorkOutOfMemory, WorkRaised, WorkTimedOut
from reward_server.options import Mebibytes, Options, Seconds
from reward_server.scorers.base import MAX_REASON_CHARS, Rule, RuleContext, ScorerContext
from reward_server.scorers.payloads import (
    Payload,
    columns_reader,
    is_scored,
    judge_payload,
    judge_payloads,
    prepare,
    verdict_of,
)
from reward_server.scorers.quarantine import Record
from reward_server.scorers.suspects import ERROR_CHARS, shortened
from reward_server.scorers.trial import Trial
from reward_server.scorers.work import Outcome, Work, time_for
from reward_server.workers.items import ItemDone, ItemJob
from reward_server.workers.tasks import Preparation

PREPARE_TIMEOUT_S: Final = 60.0
"""Seconds that a worker may take to import a rule's module and to make the rule."""


class PooledOptions(Options):
    """Base of the options of a rule that runs in worker processes: the limits of one sample."""

    timeout_s: Seconds = Field(5.0, description="seconds that one completion may take; then its process is killed")
    memory_mb: Mebibytes = Field(
        1024, description="MiB that one completion may take, above what the process has anyway"
    )


class PooledRule(Rule):
    """A pure function of one sample that is computed in a killable worker process.

    Of a sample it is given the completion, what its `needs` name, and what is known of the completion; no group.
    """

    Options: ClassVar[type[PooledOptions]] = PooledOptions
    cost_class: CostClass = CostClass.COMPUTE
    libraries: ClassVar[Sequence[str]] = ()
    """Names of the distributions that compute the score; their versions become part of the reward's."""

    def __init__(self, options: PooledOptions, context: RuleContext) -> None:
        self._pooled_options = options
        self._context = context
        self._pool = context.rule_pool if isinstance(context, ScorerContext) else None
        self._record = Record()

    def identity(self) -> Mapping[str, Any]:
        """Returns the versions of the libraries that compute the score."""
        return {name: _version(name) for name in self.libraries}

    def health(self) -> Health:
        """Returns that it can score, unless no worker process can be had."""
        problem = self._pool.problem if self._pool is not None else ""
        return Health(serving=False, reason=problem) if problem else HEALTHY

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields each verdict as it is ready."""
        if self._pool is None:  # a test asks the rule itself
            async for ready in super().score(samples, call):
                yield ready
            return
        if not samples:
            return
        payloads: Sequence[Payload] = self._payloads(samples)
        kept: Sequence[int] = range(len(samples))
        if sentences := self._record.sentences(samples, payloads.__getitem__):
            for ready in sentences.items():
                yield ready
            kept = [index for index in kept if index not in sentences]
            samples, payloads = [samples[index] for index in kept], [payloads[index] for index in kept]
        cost = NO_COST
        for stage in self._trial(judge_payload, payloads, samples, call).stages():
            async with aclosing(stage):
                async for place, outcome in stage:
                    if not isinstance(outcome, ItemDone):
                        yield kept[place], outcome
                        continue
                    if outcome.queue_ms != cost.queue_ms:  # that of the next chunk
                        cost = Cost(outcome.queue_ms)
                    yield kept[place], verdict_of(outcome.value, cost)

    def _payloads(self, samples: Iterable[Sample]) -> list[Payload]:
        """Returns of each sample what the rule reads; never its group, whose number is another in every call."""
        needs = self.needs
        names = sorted(needs.required_columns | needs.optional_columns)
        columns = columns_reader(names, all_columns=needs.all_columns)
        return [
            (
                sample.completion,
                sample.prompt if needs.prompts else None,
                columns(sample.columns),
                0,
                sample.token_count,
                sample.truncated,
                sample.still_thinking,
            )
            for sample in samples
        ]

    def _trial(self, function: Any, items: Sequence[Any], samples: Sequence[Sample] | None, call: Call) -> Trial:
        assert self._pool is not None  # noqa: S101  # whoever calls this has looked
        options, maker = self._pooled_options, self._maker
        job = ItemJob(
            function=function,
            args=maker,
            prepare=Preparation(prepare, maker, PREPARE_TIMEOUT_S),
            name=self._context.reward_name,
            timeout_s=options.timeout_s,
            memory_mb=options.memory_mb,
            first_timeout_s=None,
        )
        work = Work(
            self._pool,
            job,
            items,
            samples,
            self.needs,
            time_for(call),
            is_scored,
            _reason,
            item_of=lambda sample: self._payloads([sample])[0],
        )
        return Trial(work, self._record)

    @functools.cached_property
    def _maker(self) -> tuple[str, bytes, str, str]:
        """Returns what a worker makes the rule from."""
        cls, options = type(self), self._pooled_options
        fields = {name: getattr(options, name) for name in type(options).model_fields}  # not what it has cached
        plain = pickle.dumps(type(options).model_construct(**fields), pickle.HIGHEST_PROTOCOL)
        return f"{cls.__module__}:{cls.__qualname__}", plain, self._context.reward_name, str(self._context.folder)


class GroupRule(PooledRule):
    """A pure function of the completions of one prompt, computed in a killable worker process.

    Which of the completions broke it nobody can tell, so none is ever blamed. The limits hold for a group at a time.
    """

    compares: bool = True

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the verdict on the only completion of a prompt."""
        return self.judge_group([sample])[0]

    @abc.abstractmethod
    def judge_group(self, samples: Sequence[Sample]) -> Sequence[Verdict]:
        """Returns the verdicts on the completions of one prompt, in their order."""

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields the verdicts, group by group."""
        groups: dict[int, list[int]] = {}
        for index, sample in enumerate(samples):
            groups.setdefault(sample.group, []).append(index)
        if self._pool is None:  # a test asks the rule itself
            for members in groups.values():
                for ready in zip(members, self.judge_group([samples[index] for index in members]), strict=True):
                    yield ready
            return
        if not samples:
            return
        parts = list(groups.values())
        payloads = self._payloads(samples)
        items = [[payloads[index] for index in members] for members in parts]
        for stage in self._trial(judge_payloads, items, None, call).stages():
            async with aclosing(stage):
                async for place, outcome in stage:
                    for ready in zip(parts[place], _verdicts(outcome, len(parts[place])), strict=True):
                        yield ready


def _verdicts(outcome: Outcome, count: int) -> list[Verdict]:
    if isinstance(outcome, ItemDone):
        cost = Cost(outcome.queue_ms)
        return [verdict_of(value, cost) for value in outcome.value]
    return [outcome] * count


def _reason(_: int, error: WorkerError) -> str:
    told = shortened(str(error), MAX_REASON_CHARS if isinstance(error, WorkNotPrepared) else ERROR_CHARS)
    match error:
        case WorkRaised() | WorkOutOfMemory():
            return told
        case WorkTimedOut():
            return f"it did not return in time and was stopped: {told}"
        case WorkNotPrepared():
            return f"a worker could not make the rule: {told}"
        case _:
            return f"its worker process ended under it: {told}"


@functools.cache  # reading it from the disk takes a while, and a reward's version is asked for often
def _version(distribution: str) -> str:
    return metadata.version(distribution)
