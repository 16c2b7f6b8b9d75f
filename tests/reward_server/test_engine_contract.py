"""What every engine promises, asked of all three: two in front of fake hosts, one with a real small model."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_ollama import FakeOllama
from fake_openai import FakeOpenAI
from small_model import PATH, needs_model

from reward_server.engines.base import ChatMessage, Question
from reward_server.engines.embedded import Embedded
from reward_server.engines.ollama import Ollama
from reward_server.engines.openai import OpenAI
from reward_server.errors import AnswerTimedOut, EngineError, PromptTooLong

SCHEMA = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "maxLength": 40},
        "score": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["reason", "score"],
    "additionalProperties": False,
}
PLAIN = "BEGIN COMPLETION abc\nIs Paris the capital of France?\nEND COMPLETION abc"
"""Fenced, so that the fake judges can read it; any model can answer it."""


@dataclass
class Bench:
    """An engine that is started, and a way to make its host slow."""

    engine: Any
    pace: Callable[[float], None]  # seconds over an answer; the real model has its own


def question(text: str = PLAIN, **changes: Any) -> Question:
    return Question((ChatMessage("user", text),), **{"max_tokens": 60, "schema": SCHEMA} | changes)


def slow_question(**changes: Any) -> Question:
    """A question that the real model, too, answers for seconds."""
    return question(f"{PLAIN}\nTell a very long story.", max_tokens=1500, schema=None, **changes)


@pytest.fixture(params=["ollama", "openai", pytest.param("embedded", marks=needs_model)])
async def bench(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bench]:
    if request.param == "embedded":
        engine = Embedded("local", Embedded.Options(model=PATH, context_tokens=2048), tmp_path)
        await engine.start()
        yield Bench(engine, lambda _: None)
        await engine.close()
        return
    with FakeOllama(slots=4) if request.param == "ollama" else FakeOpenAI(model="smollm2:135m") as host:
        if isinstance(host, FakeOllama):
            options: Any = Ollama.Options(model=host.model, url=host.url, in_flight=1)
            engine = Ollama("box", options, tmp_path)
        else:
            options = OpenAI.Options(model=host.model, url=host.url, in_flight=1)
            engine = OpenAI("any", options, tmp_path)
        await engine.start()
        yield Bench(engine, lambda seconds: setattr(host, "seconds", seconds))
        await engine.close()


async def test_an_answer_is_whole_and_says_what_it_cost(bench: Bench) -> None:
    answer = await bench.engine.ask(question(), 60)
    assert json.loads(answer.text).keys() == {"reason", "score"}
    assert answer.finish == "stop"
    assert answer.prompt_token_count > 5
    assert answer.decoded_token_count > 5
    assert answer.host_ms > 0
    assert answer.queue_ms >= 0


async def test_an_answer_that_reaches_its_limit_says_so(bench: Bench) -> None:
    answer = await bench.engine.ask(question(max_tokens=2), 60)
    assert answer.finish == "length"
    assert answer.decoded_token_count == 2


async def test_a_prompt_that_is_too_long_is_refused_with_both_numbers(bench: Bench) -> None:
    with pytest.raises(PromptTooLong) as refused:
        await bench.engine.ask(question(PLAIN + " fox" * 9000), 60)
    numbers = [int(word) for word in str(refused.value).split() if word.isdigit()]
    assert len(numbers) == 2
    assert numbers[0] > 9000 > numbers[1] > 2000


async def test_a_slow_answer_is_given_up_in_time(bench: Bench) -> None:
    bench.pace(20)
    asked = time.monotonic()
    with pytest.raises(AnswerTimedOut, match=r"no answer within 0\.3 s"):
        await bench.engine.ask(slow_question(answer_timeout_s=0.3), 60)
    assert time.monotonic() - asked < 5


async def test_the_whole_time_limit_holds_where_the_host_may_take_longer(bench: Bench) -> None:
    bench.pace(20)
    asked = time.monotonic()
    with pytest.raises(AnswerTimedOut):
        await bench.engine.ask(slow_question(answer_timeout_s=60), 0.3)
    assert time.monotonic() - asked < 5


async def test_questions_wait_for_their_turn_and_only_so_long(bench: Bench) -> None:
    bench.pace(20)
    first = asyncio.create_task(bench.engine.ask(slow_question(), 30))
    await asyncio.sleep(0.1)
    with pytest.raises(AnswerTimedOut, match=r"no turn within 0\.2 s; all 1 places"):
        await bench.engine.ask(question(), 0.2)
    assert not first.done()
    first.cancel()


async def test_turns_go_in_the_order_of_asking_and_the_wait_is_measured(bench: Bench) -> None:
    came: list[int] = []

    async def ask(number: int) -> float:
        answer = await bench.engine.ask(question(), 60)
        came.append(number)
        return float(answer.queue_ms)

    waits = await asyncio.gather(*(ask(number) for number in range(5)))
    assert came == [0, 1, 2, 3, 4]
    assert waits == sorted(waits)
    assert waits[4] > waits[0]


async def test_a_cancelled_question_frees_its_place(bench: Bench) -> None:
    bench.pace(20)
    slow = asyncio.create_task(bench.engine.ask(slow_question(), 60))
    await asyncio.sleep(0.2)
    bench.pace(0)
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow
    assert (await bench.engine.ask(question(), 15)).finish == "stop"


async def test_a_started_engine_knows_that_it_can_serve(bench: Bench) -> None:
    assert bench.engine.health().serving, bench.engine.health().reason
    assert (await bench.engine.check()).serving


async def test_identity_is_json_and_stays_the_same(bench: Bench) -> None:
    before = json.dumps(bench.engine.identity(), sort_keys=True)
    await bench.engine.ask(question(), 60)
    assert json.dumps(bench.engine.identity(), sort_keys=True) == before
    assert "smollm2" in before.lower()


async def test_a_closed_engine_says_so_at_once(bench: Bench) -> None:
    await bench.engine.close()
    asked = time.monotonic()
    with pytest.raises(EngineError, match=r"not started|closed|died"):
        await bench.engine.ask(question(), 30)
    assert time.monotonic() - asked < 2
