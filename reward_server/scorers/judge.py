"""What a configured judge, an LLM with a rubric, says of a completion.

    rewards: {relevance: {judge: relevance, view: answer}}
    judges: {relevance: {engine: box, rubric: Does the completion answer the prompt?}}
    engines: {box: {ollama: "qwen3:8b"}}

Columns: the reference and those that the rubric names. Range: the judge's `score_range`. Cost class: judge.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from typing import Any, ClassVar

from pydantic import Field

from reward_server.domain import Call, CostClass, Health, Sample, Verdict
from reward_server.errors import ConfigError
from reward_server.options import Options
from reward_server.scorers.base import ScorerContext


class JudgeScorerOptions(Options):
    """Options of the scorer `judge`."""

    shorthand: ClassVar[str | None] = "judge"

    judge: str = Field(description="name of a judge of the configuration")

    def judges_used(self) -> Collection[str]:
        """Returns the judge's name."""
        return (self.judge,)


class JudgeScorer:
    """Scores by asking a judge. Several rewards may share one judge."""

    kind: ClassVar[str] = "judge"
    Options = JudgeScorerOptions
    cost_class = CostClass.JUDGE
    whole_prompts: ClassVar[bool] = True

    def __init__(self, options: JudgeScorerOptions, context: ScorerContext) -> None:
        if options.judge not in context.judges:
            known = ", ".join(f"`{name}`" for name in context.judges) or "none"
            raise ConfigError(
                f"rewards.{context.reward_name}.judge: there is no judge `{options.judge}` (there is: {known})"
            )
        self._judge = context.judges[options.judge]
        self.needs = self._judge.needs
        self.score_range: tuple[float, float] | None = self._judge.score_range

    async def start(self) -> None:
        """Opens nothing: the server starts the engine that the judge asks."""

    async def close(self) -> None:
        """Closes nothing."""

    @property
    def compares(self) -> bool:
        """Returns whether the judge grades by comparing the completions of a prompt."""
        return self._judge.method.compares

    def identity(self) -> Mapping[str, Any]:
        """Returns what shapes the judge's scores."""
        return self._judge.identity()

    def health(self) -> Health:
        """Returns whether the judge's engine can serve."""
        return self._judge.health()

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncIterator[tuple[int, Verdict]]:
        """Yields each sample's index and verdict as the judge gives them."""
        async with aclosing(self._judge.score(samples, call)) as judged:
            async for index, verdict in judged:
                yield index, verdict
