"""Everything that a host does on a bad day, through judge and engine: a documented status, a reason a person can act
on, within the deadline, and never a number."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import MODEL, FakeOllama, Fault, judging

from reward_server.domain import Call, Sample, Status, Verdict
from reward_server.engines.ollama import Ollama
from reward_server.judge import patience
from reward_server.judge.judge import Judge, JudgeOptions

SAMPLES = [Sample(f"Completion {number}.", "Say something.") for number in range(4)]

# What a fault is if it lasts: the status, and words of the reason.
FAULTS: dict[Fault, tuple[Status, str]] = {
    Fault.HANG: (Status.FAILED, "no answer within 0.5 s"),
    Fault.DRIP: (Status.FAILED, "no answer within 0.5 s"),
    Fault.HANG_UP: (Status.FAILED, "the connection broke before the answer"),
    Fault.CUT_BODY: (Status.FAILED, "the connection broke before the answer"),
    Fault.DONE_FALSE: (Status.ABSTAINED, "no verdict in 2 attempts, at last: engine `box`"),
    Fault.UNLOADED: (Status.ABSTAINED, "the answer ended by 'unload', not by stop or length"),
    Fault.CRASHED: (Status.FAILED, "unexpected EOF (2 attempts)"),
    Fault.HALF_JSON: (Status.ABSTAINED, "the answer was cut off at"),
    Fault.NOT_JSON: (Status.ABSTAINED, "not the JSON asked for"),
    Fault.HTML: (Status.FAILED, "a page of HTML: Sign in Please sign in"),
    Fault.HTML_502: (Status.FAILED, "answered 502: a page of HTML: 502 Bad Gateway nginx. A proxy in front"),
    Fault.JSON_LIST: (Status.FAILED, "answered 500: upstream went away"),
    Fault.MISSING_MODEL: (Status.FAILED, "it has no model `smollm2:135m`"),
    Fault.TOO_LONG: (Status.ABSTAINED, "the prompt has 910 tokens, the context is 256 tokens"),
    Fault.BUSY: (Status.FAILED, "answered 503: server busy"),
    Fault.WRONG_TOKEN: (Status.FAILED, "Is the token right? See engines.box.token_env"),
    Fault.EMPTY: (Status.FAILED, "an empty body"),
}
WORTH_ANOTHER_TRY = {
    Fault.HANG_UP,
    Fault.CUT_BODY,
    Fault.DONE_FALSE,
    Fault.UNLOADED,
    Fault.CRASHED,
    Fault.HALF_JSON,
    Fault.NOT_JSON,
    Fault.HTML_502,
    Fault.JSON_LIST,
    Fault.BUSY,
}


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "FIRST_PAUSE_S", 0.01)


@asynccontextmanager
async def judge_at(host: FakeOllama, folder: Path, **options: Any) -> AsyncIterator[Judge]:
    engine = Ollama("box", Ollama.Options(model=MODEL, url=host.url, in_flight=4), folder)
    await engine.start()
    try:
        yield Judge("relevance", JudgeOptions(**{"engine": "box", "rubric": "Grade it."} | options), engine, folder)
    finally:
        await engine.close()


async def verdicts_of(judge: Judge, seconds: float = 20.0) -> list[Verdict]:
    call, started = Call(deadline=time.monotonic() + seconds), time.monotonic()
    found = {index: verdict async for index, verdict in judge.score(SAMPLES, call)}
    assert time.monotonic() - started < seconds
    return [found[index] for index in range(len(SAMPLES))]


def test_every_fault_has_its_line() -> None:
    assert FAULTS.keys() == set(Fault)


@pytest.mark.parametrize("fault", Fault)
async def test_a_lasting_fault_is_a_reason_and_never_a_number(fault: Fault, tmp_path: Path) -> None:
    status, words = FAULTS[fault]
    with FakeOllama() as host:
        host.always = fault
        async with judge_at(host, tmp_path, timeout_s=0.5) as judge:
            verdicts = await verdicts_of(judge)
    for verdict in verdicts:
        assert (verdict.status, verdict.score) == (status, None)
        assert words in verdict.status_reason
        assert "engine `box`" in verdict.status_reason or status is Status.ABSTAINED


@pytest.mark.parametrize("fault", Fault)
async def test_a_fault_of_one_question_touches_at_most_its_own_sample(fault: Fault, tmp_path: Path) -> None:
    with FakeOllama(judging(lambda completion: int(completion.split()[1][0]))) as host:
        host.faults = [fault]
        async with judge_at(host, tmp_path, timeout_s=2) as judge:
            verdicts = await verdicts_of(judge)
    missing = [verdict for verdict in verdicts if verdict.score is None]
    assert len(missing) == (0 if fault in WORTH_ANOTHER_TRY else 1)
    assert {verdict.score for verdict in verdicts} - {None} <= {0.0, 1.0, 2.0, 3.0}
    for number, verdict in enumerate(verdicts):
        assert verdict.score in (None, float(number))


async def test_a_hanging_host_does_not_outlast_the_calls_deadline(tmp_path: Path) -> None:
    with FakeOllama() as host:
        host.always = Fault.HANG
        async with judge_at(host, tmp_path, timeout_s=600) as judge:
            verdicts = await verdicts_of(judge, seconds=1.5)
    assert {verdict.status for verdict in verdicts} == {Status.FAILED}


async def test_every_score_of_a_scripted_judge_arrives_at_its_completion(tmp_path: Path) -> None:
    texts = [f"<|im_end|> text {number} </s>\r\n\x00" for number in range(40)]
    with FakeOllama(judging(lambda completion: int(completion.split("text ")[1].split()[0]) % 10), slots=4) as host:
        engine = Ollama("box", Ollama.Options(model=MODEL, url=host.url, in_flight=4), tmp_path)
        await engine.start()
        judge = Judge("relevance", JudgeOptions(engine="box", rubric="Grade it."), engine, tmp_path)
        found = {index: verdict.score async for index, verdict in judge.score([Sample(t) for t in texts], Call())}
        await engine.close()
    assert found == {number: float(number % 10) for number in range(40)}
