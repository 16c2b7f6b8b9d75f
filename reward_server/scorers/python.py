"""Any TRL-style reward function, as it stands, in a worker process.

    rewards:
      brevity: {python: "rewards.py:length_reward"}
      checked: {python: {function: "my_package.rewards:checked", timeout_s: 30, calls: group}}

Columns: those that the function's signature takes. Range: unknown. Cost class: compute.
"""

from __future__ import annotations

import asyncio
import functools
import platform
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from enum import Enum
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, ClassVar

import structlog
from pydantic import Field, field_validator

from reward_server.domain import HEALTHY, Call, CostClass, Health, Needs, Sample, Verdict
from reward_server.errors import (
    ConfigError,
    PoolClosed,
    WorkerDied,
    WorkerError,
    WorkNotPrepared,
    WorkRaised,
    WorkTimedOut,
)
from reward_server.options import Options
from reward_server.scorers.base import ScorerContext
from reward_server.scorers.python_alone import score_one_by_one
from reward_server.scorers.python_calls import BATCH_SHARE, BEFORE_DEADLINE, Batch, Function
from reward_server.scorers.python_parts import score_parts
from reward_server.scorers.python_signature import Signature
from reward_server.workers import loading
from reward_server.workers.tasks import Task

Seconds = Annotated[float, Field(strict=True, gt=0, le=86_400, allow_inf_nan=False)]

_log = structlog.get_logger(__name__)


class Calls(Enum):
    """On what the function is called at a time."""

    BATCH = "batch"  # all samples of a trainer's call, as TRL does; one by one where that fails
    GROUP = "group"  # the completions of one prompt: for functions that compare them
    SAMPLE = "sample"  # each alone: for slow functions, which then run in parallel


class PythonOptions(Options):
    """Which function, and how it is called."""

    shorthand: ClassVar[str | None] = "function"

    function: str = Field(description="path/to/file.py:function or module:function")
    timeout_s: Seconds = Field(10.0, description="seconds that one call of the function may take; then it is killed")
    load_timeout_s: Seconds = Field(60.0, description="seconds that importing its file or module may take")
    calls: Calls = Field(Calls.BATCH, description="on what it is called at a time: batch, group or sample")
    columns: tuple[str, ...] | None = Field(None, description="columns that it reads from its **kwargs; absent: all")

    @field_validator("function")
    @classmethod
    def _has_two_halves(cls, value: str) -> str:
        source, colon, name = value.rpartition(":")
        if not (source and colon and all(part.isidentifier() for part in name.split("."))):
            raise ValueError("write 'path/to/file.py:function' or 'module:function'")
        return value


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
        target = _target(options.function, self._folder)
        described = await self._describe(target)
        try:
            signature = Signature.read(described["parameters"], options.columns)
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
            "packages": await asyncio.to_thread(_versions, described["foreign"]),
        }
        self._function = Function(
            target,
            signature,
            self._pool,
            options.timeout_s,
            options.load_timeout_s,
            self._reward_name,
            self._note_change,
        )

    async def _describe(self, target: loading.Target) -> dict[str, Any]:
        options = self._options
        try:
            done = await self._pool.run(
                Task(loading.describe, (target,), name=self._reward_name), options.load_timeout_s
            )
        except WorkTimedOut:
            problem = (
                f"importing {target.source} took more than {options.load_timeout_s:g} s and was stopped. Does it wait "
                "for something, or train on import? If it needs that long, raise load_timeout_s"
            )
        except WorkerDied as error:
            problem = f"importing {target.source} ended the process: {error}"
        except WorkRaised as error:
            problem = str(error)
        else:
            described: dict[str, Any] = done.value
            return described
        raise ConfigError(f"{self._place}: {problem}")

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
        if not samples:
            return
        batch = Batch(self._function, samples, call)
        if self._options.calls is Calls.BATCH:
            verdicts = self._score_batch(batch)
        else:
            verdicts = _score_parts(batch, _groups(samples) if self._options.calls is Calls.GROUP else _alone(samples))
        async with aclosing(verdicts):
            async for verdict in verdicts:
                yield verdict

    async def _score_batch(self, batch: Batch) -> AsyncGenerator[tuple[int, Verdict], None]:
        everything = range(len(batch.samples))
        share = BATCH_SHARE if len(everything) > 1 else BEFORE_DEADLINE
        try:
            verdicts = await batch.verdicts(everything, lambda: batch.limit_s(share))
        except PoolClosed:
            raise
        except WorkerError as error:
            if len(everything) > 1 and not isinstance(error, WorkNotPrepared):
                why = f"called on all {len(everything)} samples, {batch.reason(error, everything)}"
                _log.warning(  # not `why`: what it quotes may be of a completion
                    "function failed on its batch; next one by one",
                    reward=self._reward_name,
                    error=type(error).__name__,
                )
                async with aclosing(score_one_by_one(batch, why)) as one_by_one:
                    async for ready in one_by_one:
                        yield ready
                return
            verdicts = batch.failures(everything, error)
        for ready in enumerate(verdicts):
            yield ready


async def _score_parts(batch: Batch, parts: Iterable[Sequence[int]]) -> AsyncGenerator[tuple[int, Verdict], None]:
    async with aclosing(score_parts(batch, parts)) as outcomes:
        async for part, verdicts in outcomes:
            for ready in zip(part, verdicts, strict=True):
                yield ready


def _target(function: str, folder: Path) -> loading.Target:
    """Returns what `path/to/file.py:function` or `module:function` names; the module may lie in the folder."""
    source, _, name = function.rpartition(":")
    if source.endswith(".py") or "/" in source or "\\" in source:
        path = (folder / Path(source).expanduser()).resolve()
        return loading.Target(str(path), is_file=True, name=name, folder=str(path.parent))
    return loading.Target(source, is_file=False, name=name, folder=str(folder.resolve()))


def _versions(modules: Iterable[str]) -> dict[str, str]:
    """Returns the versions of the installed distributions that these modules come from, by name."""
    if not modules:
        return {}
    providers = _providers()
    names = {name for module in modules for name in providers.get(module, ())}
    return {name: metadata.version(name) for name in sorted(names)}


@functools.cache  # it reads the records of all that is installed
def _providers() -> Mapping[str, Sequence[str]]:
    return metadata.packages_distributions()


def _groups(samples: Sequence[Sample]) -> Iterable[list[int]]:
    groups: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group, []).append(index)
    return groups.values()


def _alone(samples: Sequence[Sample]) -> Iterable[tuple[int]]:
    return [(index,) for index in range(len(samples))]
