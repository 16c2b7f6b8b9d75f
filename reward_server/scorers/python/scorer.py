"""Any TRL-style reward function, as it stands, in a worker process.

    rewards:
      brevity: {python: "rewards.py:length_reward"}
      checked: {python: {function: "my_package.rewards:checked", timeout_s: 30, calls: group}}

Columns: those that the function's signature takes. Range: unknown. Cost class: compute.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, ClassVar

import structlog

from reward_server.domain import (
    HEALTHY,
    Blame,
    Call,
    CostClass,
    Health,
    Needs,
    Sample,
    Status,
    Verdict,
    abstained,
    failed,
)
from reward_server.errors import ConfigError, PoolClosed, WorkerError, WorkNotPrepared
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.python.alone import score_one_by_one
from reward_server.scorers.python.calls import BATCH_BY, BATCH_SHARE, Batch, Function, Part
from reward_server.scorers.python.finding import describe, target_of, versions_of
from reward_server.scorers.python.options import Calls, PythonOptions
from reward_server.scorers.python.signature import Wishes
from reward_server.scorers.python.styles import read_signature
from reward_server.scorers.quarantine import Record
from reward_server.scorers.work import Outcome
from reward_server.workers import loading
from reward_server.workers.items import ItemDone

_log = structlog.get_logger(__name__)


class PythonScorer:
    """Calls a person's function in a worker process, which is killed when the function hangs.

    The function is called with the keywords that its signature takes: `prompts`, `completions`, `completion_ids` and
    columns of the dataset. `None` for a sample means that it abstains. Where a call on the whole batch raises, hangs
    or kills its process, the samples are scored one by one, so that only the one to blame goes without a score.
    """

    kind: ClassVar[str] = "python"
    Options = PythonOptions
    score_range: tuple[float, float] | None = None
    cost_class = CostClass.COMPUTE

    def __init__(self, options: PythonOptions, context: ScorerContext) -> None:
        self.needs = Needs()  # known once it is started
        self._options = options
        self._folder = context.folder
        self._place = f"rewards.{context.reward_name}.python"
        self._reward_name = context.reward_name
        self._pool = context.pool
        self._function: Function  # from `start` on
        self._identity: Mapping[str, Any]  # likewise
        self._outdated = ""  # how the source was found to be another than at the start

    async def start(self) -> None:
        """Loads the function in a worker and reads its signature. Raises `ConfigError` with what is wrong with it."""
        options = self._options
        target = target_of(options.function, self._folder)
        try:
            described = await describe(self._pool, target, self._reward_name, options.load_timeout_s)
        except ValueError as error:
            raise ConfigError(f"{self._place}: {error}") from error
        try:
            wishes = Wishes(options.columns, options.columns_as, options.arguments)
            signature = read_signature(described["parameters"], options.signature, wishes)
        except ValueError as error:
            raise ConfigError(f"{self._place}: {options.function} cannot be a reward: {error}") from error
        target = replace(
            target, sha256=described["sha256"], root=described["root"], modules=tuple(described["modules"])
        )
        self.needs = signature.needs
        self._identity = {
            "source_sha256": target.sha256,
            "modules_sha256": dict(target.modules),
            "python": platform.python_version(),
            "packages": await asyncio.to_thread(versions_of, described["foreign"]),
        }
        self._function = Function(
            target,
            signature,
            self._pool,
            options.timeout_s,
            options.load_timeout_s,
            options.memory_mb,
            self._reward_name,
            self._note_change,
            Record(),
        )

    @property
    def compares(self) -> bool:
        """Returns whether the function may compare the samples of a call with one another."""
        return self._options.calls is not Calls.SAMPLE and not self._function.signature.one_at_a_time

    async def close(self) -> None:
        """Closes nothing: the workers are the pool's."""

    def identity(self) -> Mapping[str, Any]:
        """Returns the hashes of the source and of the modules beside it that it imports, and versions of the rest."""
        return self._identity

    def health(self) -> Health:
        """Returns that it can score, unless its source has changed or no worker process can be had."""
        problem = self._outdated or self._pool.problem
        return Health(serving=False, reason=problem) if problem else HEALTHY

    def _note_change(self, error: WorkNotPrepared) -> None:
        """Notes that new workers refuse the source; those that have it loaded still score, but one after another go."""
        if str(error).endswith(loading.CHANGED):
            self._outdated = str(error)

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncGenerator[tuple[int, Verdict], None]:
        """Yields the verdicts as they are ready."""
        calls = Calls.SAMPLE if self._function.signature.one_at_a_time else self._options.calls
        known = {
            index: abstained(reason, blame=Blame.REFERENCE)
            for index, sample in enumerate(samples)
            if (reason := self._function.signature.missing(sample))
        }
        kept = [index for index in range(len(samples)) if index not in known]
        batch = Batch(self._function, [samples[index] for index in kept], call)
        if calls is not Calls.GROUP and (sentences := batch.sentences()):
            known |= {kept[place]: sentence for place, sentence in sentences.items()}
            kept = [index for index in kept if index not in known]
            batch = Batch(self._function, [samples[index] for index in kept], call)
        for ready in known.items():
            yield ready
        if not kept:
            return
        parts = batch.groups() if calls is Calls.GROUP else batch.alone()
        whole = calls is Calls.BATCH and len(kept) > 1
        verdicts = self._score_whole(batch) if whole else _score_parts(batch, parts)
        async with aclosing(verdicts):
            async for index, verdict in verdicts:
                yield kept[index], verdict

    async def _score_whole(self, batch: Batch) -> AsyncGenerator[tuple[int, Verdict], None]:
        """Yields the verdicts of one call on all samples, or where that fails, of calls on each of them."""
        everything = range(len(batch.samples))
        try:
            outcome = await batch.outcome(everything, BATCH_SHARE, BATCH_BY)
        except (PoolClosed, WorkNotPrepared) as error:
            if isinstance(error, PoolClosed):
                raise
            for index in everything:
                yield index, failed(batch.reason(error, everything))
            return
        except WorkerError as error:
            why = f"called on all {len(everything)} samples, {batch.reason(error, everything)}"
            _log.warning(  # not `why`: what it quotes may be of a completion
                "function failed on its batch; next one by one", reward=self._reward_name, error=type(error).__name__
            )
            verdicts = score_one_by_one(batch, why)
        else:
            verdicts = _score_whole_outcome(batch, outcome)
        async with aclosing(verdicts):
            async for ready in verdicts:
                yield ready


async def _score_whole_outcome(batch: Batch, outcome: ItemDone) -> AsyncGenerator[tuple[int, Verdict], None]:
    """Yields the verdicts that one call on all samples gave; those for which it gave no number are tried alone."""
    verdicts = batch.verdicts(outcome, len(batch.samples))
    if isinstance(outcome.value, str) or not any(verdict.status is Status.FAILED for verdict in verdicts):
        for ready in enumerate(verdicts):
            yield ready
        return
    parts = batch.alone()
    trial = batch.trial(parts, second_counts=False)  # it may compare the samples of a call with one another
    for index, item in enumerate(outcome.value):
        if trial.admit(index, ItemDone([item], outcome.queue_ms)) is not None:
            yield index, verdicts[index]
    async with aclosing(_read(batch, trial.settle(), parts)) as tried:
        async for ready in tried:
            yield ready


async def _score_parts(batch: Batch, parts: Sequence[Part]) -> AsyncGenerator[tuple[int, Verdict], None]:
    for stage in batch.trial(parts).stages():
        async with aclosing(_read(batch, stage, parts)) as verdicts:
            async for ready in verdicts:
                yield ready


async def _read(
    batch: Batch, stage: AsyncGenerator[tuple[int, Outcome], None], parts: Sequence[Part]
) -> AsyncGenerator[tuple[int, Verdict], None]:
    async with aclosing(stage):
        async for place, outcome in stage:
            part = parts[place]
            for ready in zip(part, batch.verdicts(outcome, len(part)), strict=True):
                yield ready
