"""What a missing grade is owed to: only what a completion does by itself, proven by a control, is held against it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from scripted_engine import ScriptedEngine, completion_shown, labels, said, yes_no
from small_judges import judge_with, verdict_of, verdicts_of

from reward_server.domain import Blame, Sample, Status
from reward_server.engines.base import Question
from reward_server.errors import (
    AnswerTimedOut,
    BadAnswer,
    HostBusy,
    HostFailed,
    HostRefused,
    HostUnreachable,
    ModelChanged,
    ModelMissing,
    PromptTooLong,
)
from reward_server.judge.blame import BLAND

SILENCERS = [BadAnswer("no sense in it"), HostFailed("unexpected EOF"), said("Sure!"), yes_no(0.5, mass=0.01)]


def silenced_by(word: str, error: Any) -> ScriptedEngine:
    """Returns an engine that answers well unless a completion has the word."""
    return ScriptedEngine(lambda question: error if word in completion_shown(question) else yes_no(0.75))


def controls(engine: ScriptedEngine) -> list[Question]:
    return [question for question in engine.questions if completion_shown(question) == BLAND]


@pytest.mark.parametrize("error", SILENCERS)
async def test_a_completion_that_silences_its_judge_again_and_alone_is_to_blame(error: Any) -> None:
    engine = silenced_by("abracadabra", error)
    verdict = await verdict_of(engine, Sample("abracadabra", "Say hello."))
    assert (verdict.score, verdict.blame) == (None, Blame.COMPLETION)
    again = 3 if isinstance(error, HostFailed) else 0  # alone, for a host takes all with it; and one more control
    assert len(controls(engine)) == (2 if again else 1)
    assert verdict.cost.judge_call_count == len(engine.questions) == 3 + again


async def test_a_model_that_is_nearly_sure_of_its_labels_accuses_nobody() -> None:
    def answer(question: Question) -> Any:  # as a weak model does: sometimes a little too little
        return labels({"yes": 0.05, "no": 0.045} if "odd" in completion_shown(question) else {"yes": 0.1, "no": 0.1})

    verdict = await verdict_of(ScriptedEngine(answer), Sample("something odd", "Say something."))
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.UNKNOWN)


async def test_a_host_that_was_sick_for_a_moment_is_not_held_against_a_completion() -> None:
    asked = 0

    def sick_at_first(_: Question) -> Any:
        nonlocal asked
        asked += 1
        return HostFailed("unexpected EOF") if asked <= 2 else yes_no(0.75)

    verdict = await verdict_of(ScriptedEngine(sick_at_first))
    assert (verdict.score, verdict.flags) == (0.75, ())
    assert verdict.cost.judge_call_count == 4


@pytest.mark.parametrize("error", SILENCERS)
async def test_a_host_that_answers_the_control_no_better_is_not_held_against_a_completion(error: Any) -> None:
    verdict = await verdict_of(ScriptedEngine(lambda _: error))
    assert (verdict.score, verdict.blame) == (None, Blame.UNKNOWN)


async def test_once_is_chance() -> None:
    engine = silenced_by("abracadabra", BadAnswer("no sense in it"))
    verdict = await verdict_of(engine, Sample("abracadabra"), attempts=1)
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.UNKNOWN)
    assert controls(engine) == []


async def test_a_control_is_asked_though_the_memory_knows_the_answer_of_better_days() -> None:
    sick = False
    engine = ScriptedEngine(lambda _: HostFailed("it broke") if sick else yes_no(0.75))
    judge = judge_with(engine)
    await verdicts_of(judge, [Sample(BLAND, "Say hello.")])
    sick = True
    (verdict,) = await verdicts_of(judge, [Sample("Hello.", "Say hello.")])
    assert (verdict.score, verdict.blame) == (None, Blame.UNKNOWN)


async def test_neighbours_graded_before_a_host_fell_sick_prove_nothing() -> None:
    asked = 0

    def sick_after_four(_: Question) -> Any:
        nonlocal asked
        asked += 1
        return yes_no(0.75) if asked <= 4 else HostFailed("it broke")

    engine = ScriptedEngine(sick_after_four)
    samples = [Sample(f"Number {n}.", "Count.") for n in range(8)]
    verdicts = await verdicts_of(judge_with(engine), samples)
    assert [verdict.score is None for verdict in verdicts] == [False] * 4 + [True] * 4
    assert {verdict.blame for verdict in verdicts[4:]} == {Blame.UNKNOWN}


async def test_all_of_a_group_that_silence_their_judge_are_to_blame_and_share_the_control() -> None:
    engine = silenced_by("abracadabra", BadAnswer("no sense in it"))
    samples = [Sample(f"abracadabra {n}", "Say hello.") for n in range(8)]
    verdicts = await verdicts_of(judge_with(engine), samples)
    assert {verdict.blame for verdict in verdicts} == {Blame.COMPLETION}
    assert 1 <= len(controls(engine)) < 8


async def test_a_task_that_silences_its_judge_is_not_held_against_its_completions() -> None:
    engine = ScriptedEngine(
        lambda question: BadAnswer("?") if "poison" in question.messages[-1].content else yes_no(0.75)
    )
    verdicts = await verdicts_of(judge_with(engine), [Sample("Hello.", "poison"), Sample("Hello.", "Say hello.")])
    assert [(verdict.score, verdict.blame) for verdict in verdicts] == [
        (None, Blame.UNKNOWN),
        (0.75, Blame.UNKNOWN),
    ]


@pytest.mark.parametrize(
    ("error", "status", "blame"),
    [
        (HostUnreachable("no connection"), Status.FAILED, Blame.OUTAGE),
        (HostBusy("busy"), Status.FAILED, Blame.OUTAGE),
        (ModelMissing("no such model"), Status.FAILED, Blame.OUTAGE),
        (ModelChanged("another digest"), Status.FAILED, Blame.OUTAGE),
        (AnswerTimedOut("no answer within 30 s"), Status.FAILED, Blame.UNKNOWN),
        (HostRefused("answered 400"), Status.FAILED, Blame.UNKNOWN),
        (RuntimeError("a bug"), Status.FAILED, Blame.UNKNOWN),
        (BadAnswer("no sense in it"), Status.ABSTAINED, Blame.UNKNOWN),
        (PromptTooLong("too long"), Status.ABSTAINED, Blame.UNKNOWN),
    ],
)
async def test_what_goes_wrong_has_its_status_and_its_blame(error: Exception, status: Status, blame: Blame) -> None:
    verdict = await verdict_of(ScriptedEngine(lambda _: error))
    assert (verdict.score, verdict.status, verdict.blame) == (None, status, blame)
    assert str(error) in verdict.status_reason


async def test_the_reason_says_how_often_it_was_tried_and_what_was_said() -> None:
    verdict = await verdict_of(ScriptedEngine(lambda _: BadAnswer("Sure! A 9.")), attempts=3)
    assert verdict.status_reason == "the judge gave no grade in 3 attempts, at last: Sure! A 9."


async def test_of_a_group_that_is_compared_the_one_that_breaks_it_is_found() -> None:
    engine = ScriptedEngine(
        lambda question: BadAnswer("?") if "abracadabra" in question.messages[-1].content else _first(question)
    )
    samples = [Sample(text, "Say hello.", group=1) for text in ("Hello.", "abracadabra", "Good day.")]
    verdicts = await verdicts_of(judge_with(engine, method="listwise"), samples)
    assert [verdict.blame for verdict in verdicts] == [Blame.UNKNOWN, Blame.COMPLETION, Blame.UNKNOWN]


def _first(question: Question) -> Any:
    """Ranks the completions in the order in which they are shown, by whatever ids the schema names."""
    assert question.schema is not None
    return said(_ranking(question))


def _ranking(question: Question) -> str:
    properties = question.schema["properties"]  # type: ignore[index]
    (name, ranking), *_ = [(key, value) for key, value in properties.items() if value["type"] == "array"]
    ids = ranking["items"]["enum"]
    rest = {key: "" for key, value in properties.items() if value["type"] == "string"}
    return json.dumps(rest | {name: ids})


@pytest.mark.parametrize("method", ["listwise", "pairwise"])
async def test_of_several_that_break_a_comparison_each_is_found_and_no_other(method: str) -> None:
    def answer(question: Question) -> Any:
        if "abracadabra" in question.messages[-1].content:
            return BadAnswer("?")
        return _first(question) if question.schema else labels({"A": 0.5, "B": 0.5})

    texts = ("Hello.", "abracadabra one", "Good day.", "abracadabra two")
    samples = [Sample(text, "Say hello.", group=1) for text in texts]
    verdicts = await verdicts_of(judge_with(ScriptedEngine(answer), method=method), samples)
    assert [verdict.blame is Blame.COMPLETION for verdict in verdicts] == [False, True, False, True]


@pytest.mark.parametrize("method", ["listwise", "pairwise"])
async def test_a_sick_host_is_not_held_against_a_group(method: str) -> None:
    samples = [Sample(text, "Say hello.", group=1) for text in ("Hello.", "Good day.", "Hi.")]
    verdicts = await verdicts_of(judge_with(ScriptedEngine(lambda _: HostFailed("it broke")), method=method), samples)
    assert {(verdict.score, verdict.blame) for verdict in verdicts} == {(None, Blame.UNKNOWN)}
