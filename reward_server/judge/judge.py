"""The LLM judge: a model and a rubric. Asks, reads, asks again where that can help, and else says why there is no score."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import structlog
from pydantic import Field, field_validator, model_validator

from reward_server.domain import Call, Cost, Health, Needs, Sample, Verdict, abstained, failed, scored
from reward_server.engines.base import Answer, ChatMessage, Engine, Question
from reward_server.engines.complaints import excerpt
from reward_server.errors import (
    BadAnswer,
    ConfigError,
    EngineError,
    HostBusy,
    HostFailed,
    HostUnreachable,
    PromptTooLong,
)
from reward_server.judge import guard, prompt, texts, verdicts
from reward_server.judge.patience import Patience
from reward_server.options import Options
from reward_server.scorers.base import YIELD_AFTER_CHARS

MAX_OPEN: Final = 64
"""Samples of one call that are being judged at a time. The engine's own limit decides how many of them its host has;
this one keeps a large call from filling the engine's queue, so that others take turns with it."""

MARGIN_S: Final = 0.1
"""What is not answered so long before the call's deadline is given up, so that the reason why still arrives."""

MAX_MATERIAL_CHARS: Final = 500_000
"""More than any judge's context holds; reading it on the event loop would hold up all other calls."""

MAX_CHARS_A_TOKEN: Final = 8
"""No text of any length has more on the average, so what is longer than the context by this need not be sent."""

SHAKEN_TEMPERATURE: Final = 0.5
"""A model asked again at temperature 0 would say the same again, whatever the seed: other attempts get at least this."""

log = structlog.get_logger(__name__)


class JudgeOptions(Options):
    """A judge of the configuration."""

    engine: str = Field(description="name of the engine whose model is asked")
    rubric: str | None = Field(None, description="what makes a completion good or bad")
    rubric_file: Path | None = Field(None, description="file with that text, in place of `rubric`")
    score_range: tuple[int | float, int | float] = Field(
        (0, 9), description="worst and best score; whole numbers if both are written as such"
    )
    reference_column: str | None = Field(None, description="dataset column with the gold answer, shown to the judge")
    max_answer_tokens: int = Field(80, ge=32, le=32_768, description="longest answer, reason and score together")
    timeout_s: float = Field(30.0, gt=0, description="longest time for one answer, and to wait for a host that is away")
    attempts: int = Field(2, ge=1, le=10, description="how often a sample is asked about if the answer is no verdict")
    temperature: float = Field(0.0, ge=0, le=2, description="of the model's sampling")
    clipped: Literal["tell", "abstain"] = Field(
        "tell", description="a completion cut off at its length limit: tell the judge so, or abstain without asking"
    )

    @field_validator("score_range")
    @classmethod
    def _rises(cls, score_range: tuple[float, float]) -> tuple[float, float]:
        low, high = score_range
        if not (float("-inf") < low < high < float("inf")):
            raise ValueError(f"{low} to {high} is no range: write the lower score first, as in [0, 9]")
        return score_range

    @model_validator(mode="after")
    def _one_rubric(self) -> JudgeOptions:
        if (self.rubric is None) == (self.rubric_file is None):
            raise ValueError("give either `rubric` (a text) or `rubric_file` (a path)")
        if self.rubric is not None and not self.rubric.strip():
            raise ValueError("the rubric is empty: say what makes a completion good or bad")
        return self


class Judge:
    """Gives verdicts by asking a model. One instance serves all rewards that name it, several calls at a time.

    Args:
        name: its name in the configuration.
        options: its options.
        engine: what its model runs on; started and closed by the server.
        folder: where a relative `rubric_file` starts. The file is read here; raises `ConfigError`.
    """

    def __init__(self, name: str, options: JudgeOptions, engine: Engine, folder: Path) -> None:
        self.name = name
        self._options = options
        self._engine = engine
        self._max_chars = min(MAX_MATERIAL_CHARS, (engine.context_tokens or MAX_MATERIAL_CHARS) * MAX_CHARS_A_TOKEN)
        self._scores = verdicts.ScoreRange(*options.score_range)
        rubric = _rubric(name, options, folder)
        self._prompt = prompt.JudgePrompt(
            rubric, self._scores, options.max_answer_tokens, with_reference=options.reference_column is not None
        )
        self._schema = verdicts.schema(self._scores, options.max_answer_tokens)
        self._rubric_hash = hashlib.sha256(rubric.encode()).hexdigest()[:16]
        column = options.reference_column
        self.needs = Needs(required_columns=frozenset({column} if column else ()), prompts=True)
        self.score_range = (float(self._scores.low), float(self._scores.high))

    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, all that shapes a score: rubric, prompt, sampling, and the engine's own identity."""
        options = self._options
        return {
            "rubric": self._rubric_hash,
            "prompt": prompt.revision(),
            "schema": self._schema,
            "reference_column": options.reference_column,
            "max_answer_tokens": options.max_answer_tokens,
            "attempts": options.attempts,
            "temperature": options.temperature,
            "shaken_temperature": SHAKEN_TEMPERATURE,
            "clipped": options.clipped,
            "engine": dict(self._engine.identity()),
        }

    def health(self) -> Health:
        """Returns whether its engine can serve; asks nobody."""
        return self._engine.health()

    async def score(self, samples: Sequence[Sample], call: Call) -> AsyncGenerator[tuple[int, Verdict], None]:
        """Yields each sample's index and verdict as they come, until `call.deadline`; see `Scorer.score`."""
        started, patience = time.monotonic(), Patience(self._options.timeout_s, call.deadline - MARGIN_S)
        waiting: Iterator[tuple[int, Sample]] = iter(enumerate(samples))
        open_: dict[asyncio.Task[Verdict], int] = {}
        chars = 0
        try:
            while True:
                while len(open_) < MAX_OPEN and (following := next(waiting, None)) is not None:
                    index, sample = following
                    messages = self._prepared(sample)
                    if isinstance(messages, Verdict):
                        yield index, messages
                        continue
                    open_[asyncio.create_task(self._verdict(messages, call, patience, started))] = index
                    chars += len(messages[-1].content)
                    if chars > YIELD_AFTER_CHARS:
                        chars = 0
                        await asyncio.sleep(0)
                if not open_:
                    return
                done, _ = await asyncio.wait(open_, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield open_.pop(task), task.result()
        finally:
            await _cancel(open_)

    def _prepared(self, sample: Sample) -> Sequence[ChatMessage] | Verdict:
        """Returns what to ask about one sample, or the verdict where there is nothing to ask."""
        try:
            material = self._material(sample)
            return material if isinstance(material, Verdict) else self._prompt.messages(material)
        except Exception as error:  # noqa: BLE001  # a bug here is one sample's failed verdict, never a dead call
            return self._broke(error)

    async def _verdict(
        self, messages: Sequence[ChatMessage], call: Call, patience: Patience, started: float
    ) -> Verdict:
        """Returns the verdict on one sample. Its queue time counts from the start of the call's scoring."""
        waited = Cost(queue_ms=(time.monotonic() - started) * 1000)
        try:
            return await self._asked(messages, call, patience, waited)
        except Exception as error:  # noqa: BLE001  # as above
            return self._broke(error)

    def _broke(self, error: Exception) -> Verdict:
        log.error("judge broke", judge=self.name, exc_info=error)
        return failed(f"judge `{self.name}` broke: {type(error).__name__}: {error}")

    def _material(self, sample: Sample) -> prompt.Material | Verdict:
        """Returns what is shown to the judge, or the verdict where there is nothing to ask."""
        if sample.truncated and self._options.clipped == "abstain":
            return abstained("the completion was cut off at its length limit, and this judge does not judge such ones")
        reference = None
        if (column := self._options.reference_column) is not None:
            value = sample.columns.get(column)
            if value is None or value == "":
                return abstained(f"this sample has no reference: its column `{column}` is empty")
            reference = texts.readable_value(value)
        completion = texts.readable(sample.completion)
        task = None if sample.prompt is None else texts.readable(sample.prompt)
        chars = len(completion) + len(task or "") + len(reference or "")
        if chars > self._max_chars:
            context = self._engine.context_tokens
            why = "" if context is None else f": its context has {context} tokens"
            return abstained(
                f"prompt and completion have {chars} characters, more than this judge reads ({self._max_chars}){why}"
            )
        return prompt.Material(completion, task, reference, clipped=bool(sample.truncated))

    async def _asked(self, messages: Sequence[ChatMessage], call: Call, patience: Patience, cost: Cost) -> Verdict:
        """Asks until there is a verdict, or no reason to ask again: the one place where a judge's questions repeat."""
        attempt = absences = 0
        while True:
            answer = None
            try:
                answer = await self._engine.ask(
                    self._question(messages, attempt), max(0.0, call.remaining_s() - MARGIN_S)
                )
                opinion = _opinion(answer, self._scores)
            except (HostUnreachable, HostBusy) as error:
                absences += 1
                if not await patience.another_try(absences):
                    return failed(str(error), cost=cost)
            except PromptTooLong as error:
                return abstained(str(error), cost=cost)
            except (BadAnswer, HostFailed) as error:
                cost += _cost(answer)
                attempt += 1
                if attempt == self._options.attempts:
                    return _given_up(error, attempt, cost)
            except EngineError as error:
                return failed(str(error), cost=cost)
            else:
                patience.answered()
                return scored(opinion.score, guard.neutralise(opinion.reason), cost=cost + _cost(answer))

    def _question(self, messages: Sequence[ChatMessage], attempt: int) -> Question:
        """Returns the question. Each attempt has its own seed, and those after the first are not greedy."""
        temperature = self._options.temperature
        return Question(
            messages,
            max_tokens=self._options.max_answer_tokens,
            schema=self._schema,
            temperature=max(temperature, SHAKEN_TEMPERATURE) if attempt else temperature,
            seed=attempt,
            answer_timeout_s=self._options.timeout_s,
        )


def _rubric(name: str, options: JudgeOptions, folder: Path) -> str:
    """Returns the rubric's text. Raises `ConfigError` for a file that cannot be read or is empty."""
    if options.rubric is not None:
        return options.rubric
    path = folder / (options.rubric_file or "")
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"judges.{name}.rubric_file: {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"judges.{name}.rubric_file: {path} is not UTF-8: {error}") from error
    if not text.strip():
        raise ConfigError(f"judges.{name}.rubric_file: {path} is empty: say what makes a completion good or bad")
    return text


def _opinion(answer: Answer, scores: verdicts.ScoreRange) -> verdicts.Opinion:
    """Returns the opinion in an answer. Raises `BadAnswer` for one that was cut off, or is none."""
    if answer.finish == "length":
        raise BadAnswer(f"the answer was cut off at {answer.decoded_token_count} tokens: {excerpt(answer.text)!r}")
    return verdicts.read(answer.text, scores)


def _cost(answer: Answer | None) -> Cost:
    """Returns what an answer cost; one that never came whole tells nothing."""
    if answer is None:
        return Cost(judge_call_count=1)
    return Cost(answer.queue_ms, 1, answer.host_ms, answer.prompt_token_count, answer.decoded_token_count)


def _given_up(error: EngineError, attempts: int, cost: Cost) -> Verdict:
    """Returns the verdict after the last attempt: abstained if the model said no verdict, failed if its host broke."""
    if isinstance(error, BadAnswer):
        return abstained(f"the judge gave no verdict in {attempts} attempts, at last: {error}", cost=cost)
    return failed(f"{error} ({attempts} attempts)", cost=cost)


async def _cancel(tasks: Mapping[asyncio.Task[Verdict], int]) -> None:
    """Cancels the tasks and waits until they have let go of the host."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
