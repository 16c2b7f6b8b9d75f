"""The engine `openai`: what it sends, what it makes of answers that are none, and what its check finds."""

from __future__ import annotations

import json
import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pydantic
import pytest
from fake_host import Response, json_response
from fake_ollama import FakeOllama
from fake_openai import FakeOpenAI, said
from scripted_judges import constant

from reward_server.domain import HEALTHY
from reward_server.engines.base import ChatMessage, Question
from reward_server.engines.model_host import Sight
from reward_server.engines.openai.engine import OpenAI
from reward_server.engines.openai.host import OpenAIHost
from reward_server.errors import BadAnswer, ConfigError, EngineError, HostRefused, ModelMissing
from reward_server.http.credentials import Secret

SCHEMA = {
    "type": "object",
    "properties": {
        "reason": {"type": "string", "maxLength": 60},
        "score": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["reason", "score"],
    "additionalProperties": False,
}
QUESTION = Question(
    (ChatMessage("user", "BEGIN COMPLETION a\nhi\nEND COMPLETION a"),), max_tokens=60, schema=SCHEMA, seed=3
)


GRADE = Question(QUESTION.messages, max_tokens=1, alternatives=20)


@asynccontextmanager
async def opened(url: str, folder: Path = Path(), **options: Any) -> AsyncIterator[OpenAIHost]:
    """One server by itself, without the pool in front of it."""
    chosen = OpenAI.Options(**{"url": url, "model": "judge-8b"} | options)
    key = Secret("engines.any", "api_key", chosen.api_key_env, chosen.api_key_file, folder)
    host = OpenAIHost("any", chosen.urls[0], chosen, key)
    await host.open()
    try:
        yield host
    finally:
        await host.close()


@asynccontextmanager
async def started(url: Any, folder: Path, **options: Any) -> AsyncIterator[OpenAI]:
    engine = OpenAI("any", OpenAI.Options(**{"url": url, "model": "judge-8b"} | options), folder)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def test_the_answer_is_held_to_the_schema_without_what_some_servers_refuse() -> None:
    with FakeOpenAI() as fake:
        async with opened(fake.url, options={"top_p": 0.9}) as host:
            await host.send(QUESTION, 30)
        question = fake.questions[0]
    held_to = question.pop("response_format")["json_schema"]
    assert held_to["strict"] is True
    assert held_to["schema"] == {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "score": {"type": "integer"}},
        "required": ["reason", "score"],
        "additionalProperties": False,
    }
    assert question == {
        "model": "judge-8b",
        "messages": [{"role": "user", "content": "BEGIN COMPLETION a\nhi\nEND COMPLETION a"}],
        "max_tokens": 60,
        "temperature": 0.0,
        "seed": 3,
        "stream": False,
        "top_p": 0.9,
    }


@pytest.mark.parametrize(("structured", "sent"), [("json_object", {"type": "json_object"}), ("none", None)])
async def test_other_ways_to_hold_the_answer_to_its_form(structured: str, sent: Any) -> None:
    with FakeOpenAI() as fake:
        async with opened(fake.url, structured=structured, token_limit="max_completion_tokens") as host:
            await host.send(QUESTION, 30)
        assert fake.questions[0].get("response_format") == sent
        assert fake.questions[0]["max_completion_tokens"] == 60
        assert "max_tokens" not in fake.questions[0]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
async def test_the_url_may_be_written_in_any_usual_way(suffix: str) -> None:
    with FakeOpenAI() as fake:
        async with opened(fake.url + suffix) as host:
            assert (await host.look()).health == HEALTHY
            await host.send(QUESTION, 30)


async def test_a_grade_of_one_token_asks_for_its_alternatives() -> None:
    with FakeOpenAI(constant(0.75)) as fake:
        async with opened(fake.url) as host:
            answer = await host.send(GRADE, 30)
        (sent,) = fake.questions
    assert (sent["logprobs"], sent["top_logprobs"], sent["max_tokens"]) == (True, 20, 1)
    (position,) = answer.positions
    assert position.token == answer.text
    assert math.isclose(math.exp(position.logprobs["Yes"]), 0.375)


async def test_a_server_that_lists_fewer_tokens_is_asked_for_fewer() -> None:
    with FakeOpenAI(most_logprobs=5) as fake:
        async with opened(fake.url) as host:
            with pytest.raises(HostRefused, match="at most 5 are allowed"):
                await host.send(GRADE, 30)
        async with opened(fake.url, top_logprobs=5) as host:
            assert len((await host.send(GRADE, 30)).positions[0].logprobs) == 5


async def test_a_server_without_log_probabilities_is_not_asked_for_any() -> None:
    with FakeOpenAI() as fake:
        async with opened(fake.url, top_logprobs=0) as host:
            assert (await host.send(GRADE, 30)).positions == ()
        assert "logprobs" not in fake.questions[0]


async def test_a_server_that_ignores_the_wish_for_log_probabilities_leaves_none() -> None:
    with FakeOpenAI(most_logprobs=None) as fake:
        async with opened(fake.url) as host:
            assert (await host.send(GRADE, 30)).positions == ()


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning"])
async def test_of_a_thinking_model_only_the_answers_tokens_have_positions(key: str) -> None:
    body = said("Yes", **{key: "Is it? Yes."})
    tokens = [{"token": token, "logprob": -0.1} for token in ("Is", " it?", " Yes", ".", "Yes")]
    body["choices"][0]["logprobs"] = {"content": tokens}
    with FakeOpenAI() as fake:
        fake.responses = [json_response(body)]
        async with opened(fake.url) as host:
            answer = await host.send(GRADE, 30)
    assert [position.token for position in answer.positions] == ["Yes"]


async def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-right")
    (tmp_path / "key").write_text("sk-right\n")
    with FakeOpenAI(key="sk-right") as fake:
        for options in ({"api_key_env": "SOME_KEY"}, {"api_key_file": "key"}):
            async with opened(fake.url, tmp_path, **options) as host:
                assert (await host.look()).health.serving
                await host.send(QUESTION, 30)


async def test_a_missing_key_is_told_with_where_it_is_configured() -> None:
    with FakeOpenAI(key="sk-right") as fake:
        async with opened(fake.url) as host:
            with pytest.raises(
                HostRefused, match=r"Incorrect API key.*Is the token right\? See engines\.any\.api_key_env"
            ):
                await host.look()


async def test_a_key_that_is_not_there_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with pytest.raises(ConfigError, match=r"engines\.any\.api_key_env: the environment variable SOME_KEY is not set"):
        async with started("http://127.0.0.1:1", tmp_path, api_key_env="SOME_KEY"):
            pass


async def test_a_missing_model_is_told_at_a_look_and_at_asking() -> None:
    with FakeOpenAI(model="other") as fake:
        async with opened(fake.url) as host:
            with pytest.raises(ModelMissing) as raised:
                await host.look()
            with pytest.raises(ModelMissing, match="it has no model `judge-8b`"):
                await host.send(QUESTION, 30)
    assert "it has no model `judge-8b` (it has: other). Mend engines.any.model" in str(raised.value)


async def test_a_server_without_a_list_of_models_is_taken_at_its_word() -> None:
    class Listless(FakeOpenAI):
        async def answer(self, request: Any) -> Response:
            return Response(404) if request.path.endswith("/models") else await super().answer(request)

    with Listless() as fake:
        async with opened(fake.url) as host:
            assert await host.look() == Sight()


async def test_an_ollama_behind_this_api_is_warned_of() -> None:
    with FakeOllama(model="judge-8b") as fake:
        async with opened(fake.url) as host:
            health = (await host.look()).health
    assert health.serving
    assert "this is an Ollama, whose OpenAI endpoint cuts long prompts in silence" in health.reason
    assert "use `engines.any: {ollama: " in health.reason


async def test_a_prompt_that_the_server_has_cut_is_no_answer() -> None:
    long = Question((ChatMessage("user", "fox " * 900),), max_tokens=4)
    with FakeOpenAI() as fake:
        fake.responses = [json_response(said("To be", prompt_tokens=400))]
        async with opened(fake.url) as host:
            with pytest.raises(HostRefused, match="it has cut the prompt in silence: it read 400 tokens"):
                await host.send(long, 30)


async def test_a_server_that_does_not_count_tokens_is_read() -> None:
    body = said('{"reason": "x", "score": 1}')
    del body["usage"]
    with FakeOpenAI() as fake:
        fake.responses = [json_response(body)]
        async with opened(fake.url) as host:
            answer = await host.send(QUESTION, 30)
    assert (answer.prompt_token_count, answer.decoded_token_count) == (0, 0)


async def test_a_server_that_counts_tokens_before_it_is_asked_is_made_use_of() -> None:
    with FakeOpenAI(counts_tokens=True) as fake:
        async with opened(fake.url) as host:
            assert await host.count_tokens(QUESTION.messages) is None  # nothing is known of it yet
            await host.look()
            counted = await host.count_tokens(QUESTION.messages)
            assert counted == (await host.send(QUESTION, 30)).prompt_token_count
    with FakeOpenAI() as fake:
        async with opened(fake.url) as host:
            await host.look()
            assert await host.count_tokens(QUESTION.messages) is None


async def test_what_kind_of_server_it_is_is_asked_once() -> None:
    with FakeOpenAI() as fake:
        async with opened(fake.url) as host:
            for _ in range(3):
                await host.look()
        paths = [request.path for request in fake.requests]
    assert paths == ["/v1/models", "/", "/tokenize", "/v1/models", "/v1/models"]


@pytest.mark.parametrize(
    ("response", "error", "words"),
    [
        (json_response(said("x", finish="content_filter")), BadAnswer, "the answer ended by 'content_filter'"),
        (json_response(said("x", finish=None)), BadAnswer, "the answer ended by None"),
        (json_response(said(None, refusal="I can't grade that.")), BadAnswer, "the model refused: I can't grade that."),
        (json_response(said(None)), BadAnswer, "the answer has no text"),
        (json_response({"choices": []}), BadAnswer, "the answer has no choices"),
        (json_response({"choices": [{"finish_reason": "stop"}]}), BadAnswer, "the answer has no message"),
        (json_response(said("x") | {"usage": [1]}), BadAnswer, "usage is [1]"),
        (json_response(said("x") | {"usage": {"prompt_tokens": "many"}}), BadAnswer, "usage has no counts"),
        (
            json_response({"choices": [said("x")["choices"][0] | {"logprobs": [1]}]}),
            BadAnswer,
            "the log-probabilities are list, not an object",
        ),
        (json_response([]), HostRefused, "the answer is no JSON object"),
        (Response(200, b"<html>Sign in</html>", "text/html"), HostRefused, "a page of HTML: Sign in"),
        (Response(200, b"data: {}\n\n", "text/event-stream"), HostRefused, "no JSON object but text/event-stream"),
        (Response(200, b""), HostRefused, "an empty body"),
    ],
)
async def test_an_answer_that_is_none(response: Response, error: type[EngineError], words: str) -> None:
    with FakeOpenAI() as fake:
        fake.responses = [response]
        async with opened(fake.url) as host:
            with pytest.raises(error) as raised:
                await host.send(QUESTION, 30)
    assert type(raised.value) is error
    assert words in str(raised.value)
    assert "engine `any`" in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "api.example.org"}, "no URL of a host"),
        ({"options": {"n": 4, "stream": True}}, "n, stream: set by the engine and the judge themselves"),
        ({"structured": "xml"}, "json_schema"),
        ({"top_logprobs": 21}, "less than or equal to 20"),
        ({"url": ["http://x", "http://x/v1"]}, "http://x/v1 is listed twice"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=words):
        OpenAI.Options(**{"url": "http://x", "model": "m"} | options)


def test_identity_tells_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-right")
    engine = OpenAI("any", OpenAI.Options(url="http://x", model="m", api_key_env="SOME_KEY"), tmp_path)
    assert "sk-right" not in json.dumps(dict(engine.identity())) + repr(vars(engine))


async def test_identity_tells_where_the_model_is_and_what_is_loaded_under_its_name(tmp_path: Path) -> None:
    with FakeOpenAI(root="Qwen/Qwen3-8B") as one, FakeOpenAI(root="Qwen/Qwen3-8B") as other:
        async with started([other.url, one.url], tmp_path) as engine:
            assert engine.identity()["served"] == "Qwen/Qwen3-8B"
            assert engine.identity()["urls"] == sorted([f"{one.url}/v1", f"{other.url}/v1"])


async def test_the_context_is_what_the_server_tells_unless_it_is_configured(tmp_path: Path) -> None:
    with FakeOpenAI(root="Qwen/Qwen3-8B", context_tokens=3000) as host:
        async with started([host.url], tmp_path) as engine:
            assert engine.context_tokens == engine.identity()["context_tokens"] == 3000
        async with started([host.url], tmp_path, context_tokens=1000) as engine:
            assert engine.context_tokens == 1000
    with FakeOpenAI() as host:
        async with started([host.url], tmp_path) as engine:
            assert engine.context_tokens is None


async def test_servers_that_have_loaded_something_else_under_the_name_are_held_out(tmp_path: Path) -> None:
    with FakeOpenAI(root="Qwen/Qwen3-8B") as one, FakeOpenAI(root="Qwen/Qwen3-4B") as other:
        async with started([one.url, other.url], tmp_path) as engine:
            assert engine.health().serving
            assert "its model has the digest Qwen/Qwen3-" in engine.health().reason
