"""What every engine promises, as tests. To ask it of an engine of your own, give the suite a bench:

    class TestMine(EngineContract):
        @pytest.fixture
        async def bench(self, tmp_path):
            with my_host() as host:
                async with started(Mine("mine", Mine.Options(url=host.url, in_flight=1), tmp_path)) as engine:
                    yield Bench(engine, ...)

The engine must do one work at a time; its model may say what it likes, as long as it obeys a JSON schema.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import psutil
import pytest
from waiting import until

from reward_server.engines.base import Answer, ChatMessage, Engine, Place, Question
from reward_server.errors import AnswerTimedOut, BadAnswer, EngineError, PromptTooLong

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
"""Fenced, so that scripted models can read it; any model can answer it."""
BEGINNING = (ChatMessage("system", "You grade."),)


@dataclass
class Bench:
    """An engine that is started, and what its host does."""

    engine: Engine
    pace: Callable[[float], None]  # seconds over an answer; a real model has its own
    busy: Callable[[], Awaitable[bool]]  # whether its host is working on a question
    spare: Callable[[], Engine]  # another engine in front of the same host, not started
    stranded: Callable[[], Engine]  # one whose host is not there, not started


def question(text: str = PLAIN, **changes: Any) -> Question:
    return Question((*BEGINNING, ChatMessage("user", text)), **{"max_tokens": 60, "schema": SCHEMA} | changes)


def slow_question(**changes: Any) -> Question:
    """A question that a real model, too, answers for seconds."""
    return question(f"{PLAIN}\nTell a very long story.", max_tokens=1500, schema=None, **changes)


async def ask(engine: Engine, asked: Question, seconds: float = 60.0, **changes: Any) -> Answer:
    """Returns the answer to one question, given so many seconds."""

    async def work(place: Place) -> Answer:
        return await place.ask(asked)

    return await run(engine, work, seconds, **changes)


async def run(engine: Engine, work: Any, seconds: float = 60.0, **changes: Any) -> Any:
    """Returns what comes of a work, given so many seconds."""
    deadline = time.monotonic() + seconds
    how = {"affinity": "a rubric", "patience_s": 30.0, "attempts": 1} | changes
    return await engine.run(work, deadline=lambda: deadline, **how)


@asynccontextmanager
async def started(engine: Any) -> AsyncIterator[Any]:
    engine.keep_warm(BEGINNING)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


class EngineContract:
    """The suite."""

    tells_counts: ClassVar[bool] = False
    """Whether it tells by how much a prompt is too long."""
    tells_logprobs: ClassVar[bool] = True
    """Whether it tells log-probabilities; one that does must not lose them, one that does not must say so."""

    async def test_an_answer_is_whole_and_says_what_it_cost(self, bench: Bench) -> None:
        answer = await ask(bench.engine, question())
        assert json.loads(answer.text).keys() == {"reason", "score"}
        assert answer.finish == "stop"
        assert answer.prompt_token_count > 5
        assert answer.decoded_token_count > 5
        assert answer.host_ms > 0

    @pytest.mark.parametrize("limit", [1, 2])
    async def test_an_answer_that_reaches_its_limit_says_so(self, limit: int, bench: Bench) -> None:
        answer = await ask(bench.engine, question(max_tokens=limit))
        assert answer.finish == "length"
        assert answer.decoded_token_count == limit

    async def test_the_alternatives_of_each_token_are_a_distribution(self, bench: Bench) -> None:
        assert bench.engine.gives_logprobs is self.tells_logprobs
        if not self.tells_logprobs:
            pytest.skip("its hosts tell no log-probabilities, and it says so")
        for limit in (1, 3):
            answer = await ask(bench.engine, question(schema=None, max_tokens=limit, alternatives=5))
            assert 1 <= len(answer.positions) <= limit
            assert answer.text.startswith(answer.positions[0].token)
            for position in answer.positions:
                assert position.token in position.logprobs
                assert len(position.logprobs) <= 6
                assert sum(map(math.exp, position.logprobs.values())) <= 1.001
                assert list(position.logprobs.values()) == sorted(position.logprobs.values(), reverse=True)

    async def test_alternatives_come_only_where_they_were_asked_for(self, bench: Bench) -> None:
        assert (await ask(bench.engine, question(schema=None, max_tokens=1))).positions == ()

    async def test_a_prompt_that_is_too_long_is_refused_and_never_cut(self, bench: Bench) -> None:
        with pytest.raises(PromptTooLong) as refused:
            await ask(bench.engine, question(PLAIN + " fox" * 9000))
        if self.tells_counts:
            assert refused.value.prompt_token_count is not None
            assert refused.value.context_tokens is not None
            assert refused.value.prompt_token_count > 9000 > refused.value.context_tokens > 2000

    async def test_tokens_are_counted_as_the_host_counts_them_or_not_at_all(self, bench: Bench) -> None:
        asked = question()
        counted = await bench.engine.count_tokens(asked.messages)
        assert counted in (None, (await ask(bench.engine, asked)).prompt_token_count)

    async def test_a_slow_answer_is_given_up(self, bench: Bench) -> None:
        bench.pace(20)
        with pytest.raises(AnswerTimedOut, match=r"no answer within 0\.3 s") as late:
            await ask(bench.engine, slow_question(answer_timeout_s=0.3))
        assert late.value.attempts == 1

    async def test_the_deadline_holds_where_the_host_may_take_longer(self, bench: Bench) -> None:
        bench.pace(20)
        with pytest.raises(AnswerTimedOut):
            await ask(bench.engine, slow_question(answer_timeout_s=60), 0.3)

    async def test_the_deadline_holds_in_the_line(self, bench: Bench) -> None:
        bench.pace(20)
        first = asyncio.create_task(ask(bench.engine, slow_question()))
        await reached(bench)
        with pytest.raises(AnswerTimedOut):
            await ask(bench.engine, question(), 0.2)
        assert not first.done()
        await called_off(first)

    async def test_works_alike_are_done_in_the_order_they_came(self, bench: Bench) -> None:
        bench.pace(0.05)
        came: list[int] = []
        waits: list[float] = []

        async def numbered(number: int) -> None:
            async def work(place: Place) -> None:
                waits.append(place.queue_ms)
                await place.ask(question())
                came.append(number)

            await run(bench.engine, work)

        await asyncio.gather(*(numbered(number) for number in range(5)))
        assert came == [0, 1, 2, 3, 4]
        assert waits[4] > waits[0] >= 0

    async def test_a_place_is_held_for_the_whole_work(self, bench: Bench) -> None:
        asked: list[str] = []

        async def numbered(name: str) -> None:
            async def work(place: Place) -> None:
                for _ in range(2):
                    asked.append(name)
                    await place.ask(question(max_tokens=2))

            await run(bench.engine, work)

        await asyncio.gather(numbered("first"), numbered("second"))
        assert asked == ["first", "first", "second", "second"]

    async def test_what_is_of_no_use_is_asked_for_again_as_often_as_allowed(self, bench: Bench) -> None:
        seen: list[int] = []

        async def work(place: Place) -> None:
            seen.append(place.attempt)
            await place.ask(question(max_tokens=2, seed=place.attempt))
            raise BadAnswer("half a JSON")

        with pytest.raises(BadAnswer, match="half a JSON") as useless:
            await run(bench.engine, work, attempts=3)
        assert seen == [0, 1, 2]
        assert useless.value.attempts == 3

    async def test_a_broken_work_gives_its_place_back(self, bench: Bench) -> None:
        async def work(_: Place) -> None:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await run(bench.engine, work)
        assert (await ask(bench.engine, question())).finish == "stop"

    async def test_cancelling_reaches_the_host_and_frees_the_place(self, bench: Bench) -> None:
        bench.pace(60)
        slow = asyncio.create_task(ask(bench.engine, slow_question()))
        await reached(bench)
        await called_off(slow)
        await idle(bench)
        bench.pace(0)
        assert (await ask(bench.engine, question())).finish == "stop"

    async def test_a_started_engine_knows_that_it_can_serve(self, bench: Bench) -> None:
        assert bench.engine.health().serving, bench.engine.health().reason
        assert (await bench.engine.check()).serving
        assert bench.engine.gives_logprobs is not None

    async def test_identity_is_json_and_stays_the_same(self, bench: Bench) -> None:
        before = json.dumps(bench.engine.identity(), sort_keys=True)
        await ask(bench.engine, question())
        assert json.dumps(bench.engine.identity(), sort_keys=True) == before

    async def test_a_host_that_is_not_there_is_no_error_at_start_and_one_at_asking(self, bench: Bench) -> None:
        async with started(bench.stranded()) as engine:
            assert not engine.health().serving
            assert engine.health().reason
            assert json.dumps(engine.identity())
            with pytest.raises(EngineError):
                await ask(engine, question(), patience_s=0.0)

    async def test_a_closed_engine_says_so(self, bench: Bench) -> None:
        await bench.engine.close()
        with pytest.raises(EngineError):
            await ask(bench.engine, question(), patience_s=0.0)

    async def test_close_fails_what_is_under_way_and_leaves_nothing(self, bench: Bench) -> None:
        process, tasks = psutil.Process(), asyncio.all_tasks()
        children, files = process.children(), process.num_fds()
        async with started(bench.spare()) as engine:
            await ask(engine, question())
            bench.pace(60)
            works = [asyncio.create_task(ask(engine, slow_question())) for _ in range(3)]
            await asyncio.sleep(0.1)
        outcomes = await asyncio.gather(*works, return_exceptions=True)
        assert all(isinstance(outcome, EngineError) for outcome in outcomes), outcomes
        assert asyncio.all_tasks() == tasks
        assert process.children() == children
        await until(lambda: process.num_fds() <= files)


async def reached(bench: Bench) -> None:
    """Waits until the host is working on a question."""
    async with asyncio.timeout(30):
        while not await bench.busy():  # noqa: ASYNC110  # a host has no event to set
            await asyncio.sleep(0.02)


async def idle(bench: Bench) -> None:
    """Waits until the host is working on none."""
    async with asyncio.timeout(30):
        while await bench.busy():  # noqa: ASYNC110  # a host has no event to set
            await asyncio.sleep(0.02)


async def called_off(task: asyncio.Task[Any]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
