"""The LLM judge: a model, a rubric, and a method that makes questions of them and grades of the answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import structlog

from reward_server.domain import Call, Health, Needs, Sample, Verdict, failed
from reward_server.engines.base import Engine
from reward_server.judge.asking import Asking
from reward_server.judge.canaries import Canaries, canaries_of
from reward_server.judge.grading import Grading, Scale
from reward_server.judge.guard import Fence
from reward_server.judge.materials import Materials
from reward_server.judge.methods.base import Method
from reward_server.judge.options import JudgeOptions, rubric_of
from reward_server.judge.rubric import Rubric
from reward_server.judge.secret import JudgeSecret
from reward_server.judge.ways import Way, way_of
from reward_server.scorers.base import YIELD_AFTER_CHARS
from reward_server.sharing.memory import VerdictMemory
from reward_server.views import text_bytes

MAX_OPEN: Final = 128
"""Units of one call that are being asked at a time. The engine decides how many of them its hosts have; this keeps a
large call from filling the engine's queue, so that others take turns with it."""

MARGIN_S: Final = 0.1
"""What is not answered so long before the call's deadline is given up, so that the reason why still arrives."""

log = structlog.get_logger(__name__)


class Judge:
    """Gives verdicts by asking a model. One instance serves all rewards that name it, several calls at a time.

    Args:
        name: its name in the configuration.
        options: its options.
        engine: what its model runs on; started after this and closed by the server.
        folder: where a relative `rubric_file` starts. The file is read here; raises `ConfigError`.
        secret: makes the lines around completions.
        memory: keeps what was read; judges may share one.
    """

    def __init__(
        self,
        name: str,
        options: JudgeOptions,
        engine: Engine,
        folder: Path,
        *,
        secret: JudgeSecret,
        memory: VerdictMemory,
    ) -> None:
        self.name = name
        self.options = options
        self.rubric: Rubric = rubric_of(name, options, folder)
        self._engine = engine
        self._memory = memory
        self._fence = Fence(secret)
        self._scale = Scale(*options.score_range, subtracts_baseline=options.subtract_baseline)
        self._materials = Materials(
            self.rubric,
            options.reference_column,
            clipped=options.clipped,
            thinking=options.still_thinking,
            lowest=self._scale.range[0],
        )
        self._way = self._way_of(options.method)
        self._other_way = self._way_of(options.if_no_logprobs) if options.if_no_logprobs else None
        self.needs: Needs = self._materials.needs
        self.score_range = self._scale.range
        self._canaries = Canaries(
            self,
            canaries_of(name, options, self.rubric, folder),
            reference_column=options.reference_column,
            every_s=options.canary_every_s,
            timeout_s=options.timeout_s * (options.attempts + 1),
        )
        self._told_of_logprobs = False
        engine.keep_warm(self._way.recipe.method.beginning())

    @property
    def method(self) -> Method:
        """Returns what it grades by now: the configured method, or the one that takes its place."""
        return self._way_now().recipe.method

    async def start(self) -> None:
        """Begins to score its canaries in the background, if it has any. After the engine's `start`."""
        self._tell_of_logprobs()
        await self._canaries.start()

    async def close(self) -> None:
        """Ends that. The engine is closed by the server."""
        await self._canaries.close()

    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, all that shapes a score: rubric, prompt, sampling, and the engine's own identity."""
        return {**self._way_now().identity, "engine": dict(self._engine.identity())}

    def health(self) -> Health:
        """Returns whether it can grade; asks nobody."""
        health = self._engine.health()
        if not health.serving:
            return health
        cautions = [health.reason, self._canaries.caution]
        if self._lacks_logprobs():
            if self._other_way is None:
                return Health(serving=False, reason=self._about_logprobs())
            cautions.append(self._about_logprobs())
        return Health(reason="; ".join(filter(None, cautions)))

    async def score(
        self, samples: Sequence[Sample], call: Call, *, fresh: bool = False
    ) -> AsyncGenerator[tuple[int, Verdict], None]:
        """Yields each sample's index and verdict as they come, until `call.deadline`; see `Scorer.score`.

        Args:
            samples: seen as the reward's view shows them.
            call: until when.
            fresh: ask now, past the memory.
        """
        way = self._way_now()
        self._tell_of_logprobs()
        if self._lacks_logprobs() and way is self._way:
            for index in range(len(samples)):
                yield index, failed(self._about_logprobs())
            return
        grading = self._grading(way, call, VerdictMemory(0) if fresh else self._memory)
        waiting = iter(_partition(samples, compares=way.recipe.method.compares))
        open_: dict[asyncio.Task[list[Verdict]], Sequence[int]] = {}
        try:
            while True:
                await _open_more(open_, waiting, samples, grading)
                if not open_:
                    return
                done, _ = await asyncio.wait(open_, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    for index, verdict in zip(open_.pop(task), task.result(), strict=True):
                        yield index, verdict
        finally:
            await _cancel(open_)

    def _grading(self, way: Way, call: Call, memory: VerdictMemory) -> Grading:
        asking = Asking(
            self._engine,
            memory,
            way.recipe.fit,
            way.shape,
            deadline=call.deadline - MARGIN_S,
            patience_s=self.options.timeout_s,
            attempts=self.options.attempts,
            max_open=MAX_OPEN,
        )
        return Grading(way.recipe, asking)

    def _way_now(self) -> Way:
        return self._other_way if self._other_way is not None and self._lacks_logprobs() else self._way

    def _way_of(self, method: str) -> Way:
        return way_of(
            method,
            self.name,
            self.options,
            self.rubric,
            fence=self._fence,
            materials=self._materials,
            scale=self._scale,
            engine=self._engine,
        )

    def _lacks_logprobs(self) -> bool:
        """Returns whether the configured method needs what the engine is known not to give."""
        return self._way.recipe.method.needs_logprobs and self._engine.gives_logprobs is False

    def _tell_of_logprobs(self) -> None:
        """Logs that there are no log-probabilities when it shows: at the start, or later, of a host that was away."""
        lacks = self._lacks_logprobs()
        if lacks and not self._told_of_logprobs:
            log.warning("no log-probabilities", judge=self.name, reason=self._about_logprobs())
        self._told_of_logprobs = lacks

    def _about_logprobs(self) -> str:
        """Returns what follows from there being no log-probabilities, and the remedy."""
        named = self._way.recipe.method.name
        why = f"engine `{self.options.engine}` tells no log-probabilities, which the method {named} of judge `{self.name}` needs"
        if self._other_way is None:
            return f"{why}: set judges.{self.name}.method to reasoned, or if_no_logprobs to the method to take instead"
        return f"{why}: the method {self._other_way.recipe.method.name} takes its place, as configured"


def _partition(samples: Sequence[Sample], *, compares: bool) -> list[list[int]]:
    """Returns the samples' indexes, each by itself, or by group for a method that compares."""
    if not compares:
        return [[index] for index in range(len(samples))]
    groups: dict[int, list[int]] = {}
    for index, sample in enumerate(samples):
        groups.setdefault(sample.group, []).append(index)
    return list(groups.values())


async def _open_more(
    open_: dict[asyncio.Task[list[Verdict]], Sequence[int]],
    waiting: Iterator[Sequence[int]],
    samples: Sequence[Sample],
    grading: Grading,
) -> None:
    """Begins to grade as many groups as may be open at a time, giving way to other calls between long texts."""
    chars = 0
    while sum(map(len, open_.values())) < MAX_OPEN and (indexes := next(waiting, None)) is not None:
        group = [samples[index] for index in indexes]
        open_[asyncio.create_task(grading.verdicts(group))] = indexes
        chars += sum(text_bytes(text) for sample in group for text in (sample.completion, sample.prompt or ""))
        if chars > YIELD_AFTER_CHARS:
            chars = 0
            await asyncio.sleep(0)


async def _cancel(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Cancels the tasks and waits until they have let go of the host."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
