"""The judge: what it asks, when it asks again, and what it says where there is no score."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pydantic
import pytest

from reward_server.domain import HEALTHY, Call, Health, Sample, Status, Verdict
from reward_server.engines.base import Answer, Question
from reward_server.errors import (
    AnswerTimedOut,
    BadAnswer,
    ConfigError,
    HostBusy,
    HostFailed,
    HostRefused,
    HostUnreachable,
    ModelMissing,
    PromptTooLong,
)
from reward_server.judge import guard, patience
from reward_server.judge import judge as judge_module
from reward_server.judge.judge import Judge, JudgeOptions
from reward_server.scorers.base import YIELD_AFTER_CHARS, ScorerContext
from reward_server.scorers.judge import JudgeScorer

GOOD = '{"reason": "fine", "score": 7}'


class ScriptedEngine:
    """Answers with what the script says to each question: a text, an answer, or an error to raise."""

    kind = "scripted"

    def __init__(self, *script: Any, always: Any = GOOD, context_tokens: int | None = None) -> None:
        self.context_tokens = context_tokens
        self.script, self.always = list(script), always
        self.questions: list[Question] = []
        self.timeouts: list[float] = []
        self.open = self.most_open = 0

    async def ask(self, question: Question, timeout_s: float) -> Answer:
        self.questions.append(question)
        self.timeouts.append(timeout_s)
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            said = self.script.pop(0) if self.script else self.always
            said = said(question) if callable(said) and not isinstance(said, type) else said
            if asyncio.iscoroutine(said):
                said = await said
            await asyncio.sleep(0)
        finally:
            self.open -= 1
        if isinstance(said, Exception):
            raise said
        return said if isinstance(said, Answer) else Answer(said, "stop", 100, 10, queue_ms=1.0, host_ms=20.0)

    async def start(self) -> None: ...

    async def close(self) -> None: ...

    async def check(self) -> Health:
        return HEALTHY

    def health(self) -> Health:
        return HEALTHY

    def identity(self) -> dict[str, Any]:
        return {"model": "scripted"}


def judge_with(engine: ScriptedEngine, **options: Any) -> Judge:
    return Judge("relevance", JudgeOptions(**{"engine": "e", "rubric": "Grade it."} | options), engine, Path.cwd())


async def verdicts_of(judge: Judge, samples: Sequence[Sample], call: Call | None = None) -> list[Verdict]:
    found = {index: verdict async for index, verdict in judge.score(samples, call or Call())}
    assert sorted(found) == list(range(len(samples)))
    return [found[index] for index in range(len(samples))]


async def verdict_of(engine: ScriptedEngine, sample: Sample | None = None, **options: Any) -> Verdict:
    (verdict,) = await verdicts_of(judge_with(engine, **options), [sample or Sample("hi", "Say hi.")])
    return verdict


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(patience, "LONGEST_PAUSE_S", 0.01)


async def test_a_verdict_has_the_score_the_reason_and_its_cost() -> None:
    verdict = await verdict_of(ScriptedEngine())
    assert (verdict.status, verdict.score, verdict.explanation) == (Status.SCORED, 7.0, "fine")
    cost = verdict.cost
    assert (cost.judge_call_count, cost.judge_ms, cost.prompt_token_count, cost.decoded_token_count) == (
        1,
        20.0,
        100,
        10,
    )
    assert cost.queue_ms >= 1.0


async def test_a_reason_is_safe_to_show() -> None:
    verdict = await verdict_of(ScriptedEngine(always='{"reason": "\\u001b[31mred", "score": 1}'))
    assert verdict.explanation == "\u241b[31mred"


async def test_the_question_holds_the_answer_to_its_form() -> None:
    engine = ScriptedEngine(always='{"reason": "fine", "score": 5}')
    await verdict_of(engine, score_range=(1, 5), max_answer_tokens=50, timeout_s=12)
    (question,) = engine.questions
    assert question.schema is not None
    assert question.schema["properties"]["score"] == {"type": "integer", "minimum": 1, "maximum": 5}
    assert (question.max_tokens, question.answer_timeout_s, question.temperature, question.seed) == (50, 12, 0.0, 0)


@pytest.mark.parametrize(
    "bad",
    [
        "Sure! A 9.",
        '{"reason": "x", "score": 11}',
        BadAnswer("the answer is not complete"),
        Answer('{"reason": "', "length", 100, 80, queue_ms=0.0, host_ms=1.0),
        Answer(GOOD, "length", 100, 80, queue_ms=0.0, host_ms=1.0),
    ],
)
async def test_a_bad_answer_is_asked_again_with_another_seed_and_less_greed(bad: Any) -> None:
    engine = ScriptedEngine(bad)
    verdict = await verdict_of(engine)
    assert verdict.score == 7.0
    assert [question.seed for question in engine.questions] == [0, 1]
    assert [question.temperature for question in engine.questions] == [0.0, 0.5]
    assert verdict.cost.judge_call_count == 2


async def test_after_the_last_attempt_it_abstains_and_shows_what_was_said() -> None:
    engine = ScriptedEngine(always="Sure! I would give this a 9.")
    verdict = await verdict_of(engine, attempts=3)
    assert verdict.status is Status.ABSTAINED
    assert verdict.score is None
    assert "the judge gave no verdict in 3 attempts" in verdict.status_reason
    assert "Sure! I would give this a 9." in verdict.status_reason
    assert verdict.cost.judge_call_count == len(engine.questions) == 3
    assert verdict.cost.decoded_token_count == 30


async def test_a_host_that_keeps_breaking_over_a_sample_fails_it() -> None:
    engine = ScriptedEngine(always=HostFailed("engine `box`: unexpected EOF"))
    verdict = await verdict_of(engine, attempts=2)
    assert (verdict.status, len(engine.questions)) == (Status.FAILED, 2)
    assert verdict.status_reason == "engine `box`: unexpected EOF (2 attempts)"


@pytest.mark.parametrize("error", [HostBusy("engine `box`: busy"), HostUnreachable("engine `box`: no connection")])
async def test_a_host_that_is_away_for_a_moment_is_waited_for(error: Exception) -> None:
    engine = ScriptedEngine(*[error] * 5)
    verdict = await verdict_of(engine, attempts=1)
    assert verdict.score == 7.0
    assert [question.seed for question in engine.questions] == [0] * 6


async def test_a_host_that_stays_away_fails_all_samples_after_one_wait() -> None:
    judge = judge_with(ScriptedEngine(always=HostUnreachable("engine `box`: no connection")), timeout_s=0.3)
    started = time.monotonic()
    verdicts = await verdicts_of(judge, [Sample("hi")] * 200)
    assert time.monotonic() - started < 5
    assert {verdict.status for verdict in verdicts} == {Status.FAILED}
    assert {verdict.status_reason for verdict in verdicts} == {"engine `box`: no connection"}


async def test_no_waiting_for_a_host_beyond_the_deadline() -> None:
    judge = judge_with(ScriptedEngine(always=HostBusy("busy")), timeout_s=60)
    started = time.monotonic()
    (verdict,) = await verdicts_of(judge, [Sample("hi")], Call(deadline=time.monotonic() + 0.2))
    assert time.monotonic() - started < 5
    assert verdict.status is Status.FAILED


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (PromptTooLong("the prompt has 910 tokens, the context is 256 tokens"), Status.ABSTAINED),
        (AnswerTimedOut("no answer within 30 s"), Status.FAILED),
        (ModelMissing("it has no model `x`"), Status.FAILED),
        (HostRefused("answered 400"), Status.FAILED),
        (RuntimeError("a bug"), Status.FAILED),
    ],
)
async def test_what_asking_again_cannot_mend_is_asked_once(error: Exception, status: Status) -> None:
    engine = ScriptedEngine(always=error)
    verdict = await verdict_of(engine)
    assert (verdict.status, len(engine.questions)) == (status, 1)
    assert str(error) in verdict.status_reason


async def test_one_bad_sample_does_not_touch_its_neighbours() -> None:
    engine = ScriptedEngine(always=lambda question: "no" if "bad" in question.messages[1].content else GOOD)
    verdicts = await verdicts_of(judge_with(engine), [Sample("good"), Sample("bad"), Sample("good")])
    assert [verdict.status for verdict in verdicts] == [Status.SCORED, Status.ABSTAINED, Status.SCORED]


async def test_the_engine_gets_what_is_left_of_the_deadline() -> None:
    engine = ScriptedEngine()
    await verdicts_of(judge_with(engine), [Sample("hi")], Call(deadline=time.monotonic() + 5))
    assert 4 < engine.timeouts[0] <= 5


async def test_verdicts_come_as_they_are_ready() -> None:
    async def slow() -> str:
        await asyncio.sleep(0.2)
        return GOOD

    judge = judge_with(ScriptedEngine(lambda _: slow(), GOOD, GOOD))
    assert [index async for index, _ in judge.score([Sample("hi")] * 3, Call())][-1] == 0


async def test_a_large_call_does_not_fill_the_engines_queue() -> None:
    engine = ScriptedEngine()
    await verdicts_of(judge_with(engine), [Sample("hi")] * 500)
    assert engine.most_open <= judge_module.MAX_OPEN


async def test_closing_the_generator_cancels_what_is_open() -> None:
    async def forever() -> str:
        await asyncio.sleep(600)
        return GOOD

    engine = ScriptedEngine(GOOD, always=lambda _: forever())
    judged = judge_with(engine).score([Sample("hi")] * 10, Call())
    assert (await anext(judged))[1].score == 7.0
    assert engine.open == 9
    await judged.aclose()
    assert engine.open == 0


async def test_an_empty_call_asks_nothing() -> None:
    engine = ScriptedEngine()
    assert await verdicts_of(judge_with(engine), []) == []
    assert engine.questions == []


async def test_conversations_are_shown_readably() -> None:
    engine = ScriptedEngine()
    prompt = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
    ]
    completion = [
        {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "weather"}}]},
        {"role": "tool", "content": "sunny"},
        {"role": "assistant", "content": "Sunny."},
    ]
    await verdict_of(engine, Sample(completion, prompt))
    shown = engine.questions[0].messages[1].content
    assert "system: Be brief.\n\nuser: Weather?\nEND TASK" in shown
    assert (
        'assistant: \n(tool calls: [{"function": {"name": "weather"}}])\n\ntool: sunny\n\nassistant: Sunny.\nEND'
        in shown
    )


async def test_without_a_prompt_only_the_completion_is_shown() -> None:
    engine = ScriptedEngine()
    await verdict_of(engine, Sample("hi"))
    assert "TASK" not in engine.questions[0].messages[1].content


@pytest.mark.parametrize(("reference", "shown"), [("Paris", "Paris"), (["a", 1], '["a", 1]'), (0, "0")])
async def test_a_reference_is_shown_and_its_column_needed(reference: Any, shown: str) -> None:
    engine = ScriptedEngine()
    judge = judge_with(engine, reference_column="answer")
    assert judge.needs.required_columns == {"answer"}
    assert judge.needs.prompts
    await verdicts_of(judge, [Sample("hi", "?", {"answer": reference})])
    assert f"\n{shown}\nEND REFERENCE" in engine.questions[0].messages[1].content
    assert "the reference" in engine.questions[0].messages[0].content


@pytest.mark.parametrize("reference", [None, ""])
async def test_a_sample_without_its_reference_is_abstained_on(reference: Any) -> None:
    engine = ScriptedEngine()
    verdict = await verdict_of(engine, Sample("hi", "?", {"answer": reference}), reference_column="answer")
    assert verdict.status is Status.ABSTAINED
    assert "its column `answer` is empty" in verdict.status_reason
    assert engine.questions == []


async def test_a_clipped_completion_is_named_as_such_or_not_judged() -> None:
    clipped = Sample("hi", "?", truncated=True)
    engine = ScriptedEngine()
    assert (await verdict_of(engine, clipped)).score == 7.0
    assert "cut off at its length limit" in engine.questions[0].messages[1].content
    verdict = await verdict_of(engine, clipped, clipped="abstain")
    assert verdict.status is Status.ABSTAINED
    assert len(engine.questions) == 1


async def test_a_text_that_no_context_holds_is_not_even_read() -> None:
    engine = ScriptedEngine()
    verdict = await verdict_of(engine, Sample("x" * 600_000, "?"))
    assert verdict.status is Status.ABSTAINED
    assert "600001 characters, more than this judge reads (500000)" in verdict.status_reason
    assert engine.questions == []


async def test_a_text_that_its_own_context_cannot_hold_is_not_sent() -> None:
    engine = ScriptedEngine(context_tokens=1000)
    fits, too_long = await verdicts_of(judge_with(engine), [Sample("x" * 7999, "?"), Sample("x" * 8000, "?")])
    assert fits.score == 7.0
    assert too_long.status is Status.ABSTAINED
    assert "8001 characters, more than this judge reads (8000): its context has 1000 tokens" in too_long.status_reason
    assert len(engine.questions) == 1


async def test_other_calls_get_turns_while_long_texts_are_prepared(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = 0
    turns: list[int] = []

    async def other_call() -> None:
        while True:
            turns.append(prepared)
            await asyncio.sleep(0)

    def counted(text: str) -> str:
        nonlocal prepared
        prepared += len(text)
        return text

    monkeypatch.setattr(guard, "neutralise", counted)
    judge = judge_with(ScriptedEngine())
    other = asyncio.create_task(other_call())
    await verdicts_of(judge, [Sample("x" * 90_000)] * 20)
    other.cancel()
    steps = [later - earlier for earlier, later in pairwise(turns)]
    assert max(steps) <= YIELD_AFTER_CHARS + 100_000


@pytest.mark.parametrize(
    "change",
    [
        {"rubric": "Grade it well."},
        {"score_range": (0, 10)},
        {"score_range": (0.0, 9.0)},
        {"temperature": 0.7},
        {"max_answer_tokens": 100},
        {"attempts": 3},
        {"reference_column": "answer"},
        {"clipped": "abstain"},
    ],
)
def test_all_that_shapes_a_score_shapes_the_identity(change: dict[str, Any]) -> None:
    def identity(**options: Any) -> str:
        return json.dumps(judge_with(ScriptedEngine(), **options).identity(), sort_keys=True)

    assert identity() == identity()
    assert identity(timeout_s=99) == identity()
    assert identity(**change) != identity()


def test_a_rubric_comes_from_a_file_too(tmp_path: Path) -> None:
    (tmp_path / "rubric.md").write_text("Grade it.\n")
    options = JudgeOptions(engine="e", rubric_file="rubric.md")
    Judge("relevance", options, ScriptedEngine(), tmp_path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "rubric.md: No such file or directory"),
        (b" \n", "rubric.md is empty"),
        (b"\xff", "rubric.md is not UTF-8"),
    ],
)
def test_a_rubric_file_that_is_no_good_is_named(content: bytes | None, words: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "rubric.md").write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        Judge("relevance", JudgeOptions(engine="e", rubric_file="rubric.md"), ScriptedEngine(), tmp_path)
    assert "judges.relevance.rubric_file: " in str(refused.value)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "give either `rubric`"),
        ({"rubric": "x", "rubric_file": "y"}, "give either `rubric`"),
        ({"rubric": " "}, "the rubric is empty"),
        ({"rubric": "x", "score_range": [9, 0]}, "9 to 0 is no range"),
        ({"rubric": "x", "score_range": [0, float("nan")]}, "is no range"),
        ({"rubric": "x", "attempts": 0}, "greater than or equal to 1"),
        ({"rubric": "x", "temprature": 1}, "Extra inputs"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=words):
        JudgeOptions(**{"engine": "e"} | options)


def context_with(**judges: Judge) -> ScorerContext:
    unused: Callable[[str], Any] = lambda name: pytest.fail(f"asked for {name}")  # noqa: E731  # a one-line stand-in
    return ScorerContext("relevant", Path.cwd(), pool=SimpleNamespace(), judges=judges, reward=unused)  # type: ignore[arg-type]


async def test_the_scorer_gives_its_judges_verdicts() -> None:
    judge = judge_with(ScriptedEngine(), score_range=(0, 9), reference_column="answer")
    scorer = JudgeScorer(JudgeScorer.Options(judge="relevance"), context_with(relevance=judge))
    await scorer.start()
    found: AsyncIterator[tuple[int, Verdict]] = scorer.score([Sample("hi", "?", {"answer": "x"})], Call())
    assert [(index, verdict.score) async for index, verdict in found] == [(0, 7.0)]
    assert scorer.score_range == (0.0, 9.0)
    assert scorer.needs == judge.needs
    assert scorer.identity() == judge.identity()
    assert scorer.health() == HEALTHY
    await scorer.close()


def test_a_scorer_of_an_unknown_judge_names_those_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"rewards\.relevant\.judge: there is no judge `kind` \(there is: `relevance`\)"
    ):
        JudgeScorer(JudgeScorer.Options(judge="kind"), context_with(relevance=judge_with(ScriptedEngine())))
