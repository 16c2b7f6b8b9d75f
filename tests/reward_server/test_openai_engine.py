"""The engine `openai`: what it sends, what it makes of answers that are none, and what its check finds."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pydantic
import pytest
from fake_host import Response, json_response
from fake_ollama import FakeOllama
from fake_openai import FakeOpenAI, said

from reward_server.engines.base import ChatMessage, Question
from reward_server.engines.openai import OpenAI
from reward_server.errors import BadAnswer, EngineError, HostRefused, ModelMissing

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


@asynccontextmanager
async def started(url: str, folder: Path, **options: Any) -> AsyncIterator[OpenAI]:
    engine = OpenAI("any", OpenAI.Options(**{"url": url, "model": "judge-8b"} | options), folder)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def test_the_answer_is_held_to_the_schema_without_what_some_servers_refuse(tmp_path: Path) -> None:
    with FakeOpenAI() as host:
        async with started(host.url, tmp_path, options={"top_p": 0.9}) as engine:
            await engine.ask(QUESTION, 30)
        question = host.questions[0]
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
async def test_other_ways_to_hold_the_answer_to_its_form(structured: str, sent: Any, tmp_path: Path) -> None:
    with FakeOpenAI() as host:
        async with started(host.url, tmp_path, structured=structured, token_limit="max_completion_tokens") as engine:
            await engine.ask(QUESTION, 30)
        assert host.questions[0].get("response_format") == sent
        assert host.questions[0]["max_completion_tokens"] == 60
        assert "max_tokens" not in host.questions[0]


@pytest.mark.parametrize("suffix", ["", "/", "/v1", "/v1/", "/v1/chat/completions"])
async def test_the_url_may_be_written_in_any_usual_way(suffix: str, tmp_path: Path) -> None:
    with FakeOpenAI() as host:
        async with started(host.url + suffix, tmp_path) as engine:
            assert engine.health().serving, engine.health().reason
            await engine.ask(QUESTION, 30)


async def test_the_key_comes_from_a_file_or_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-right")
    (tmp_path / "key").write_text("sk-right\n")
    with FakeOpenAI(key="sk-right") as host:
        for options in ({"api_key_env": "SOME_KEY"}, {"api_key_file": "key"}):
            async with started(host.url, tmp_path, **options) as engine:
                assert engine.health().serving, engine.health().reason
                await engine.ask(QUESTION, 30)


async def test_a_missing_key_is_told_with_where_it_is_configured(tmp_path: Path) -> None:
    with FakeOpenAI(key="sk-right") as host:
        async with started(host.url, tmp_path) as engine:
            assert "Incorrect API key provided" in engine.health().reason
            assert "Is the token right? See engines.any.api_key_env" in engine.health().reason


async def test_a_missing_model_is_told_at_check_and_at_asking(tmp_path: Path) -> None:
    with FakeOpenAI(model="other") as host:
        async with started(host.url, tmp_path) as engine:
            assert "it has no model `judge-8b` (it has: other). Mend engines.any.model" in engine.health().reason
            with pytest.raises(ModelMissing, match="it has no model `judge-8b`"):
                await engine.ask(QUESTION, 30)


async def test_a_server_without_a_list_of_models_is_taken_at_its_word(tmp_path: Path) -> None:
    class Listless(FakeOpenAI):
        async def answer(self, request: Any) -> Response:
            return Response(404) if request.path.endswith("/models") else await super().answer(request)

    with Listless() as host:
        async with started(host.url, tmp_path) as engine:
            assert engine.health().serving
            assert engine.health().reason == ""


async def test_an_ollama_behind_this_api_is_warned_of(tmp_path: Path) -> None:
    with FakeOllama(model="judge-8b") as host:
        async with started(host.url, tmp_path) as engine:
            assert engine.health().serving
            assert "this is an Ollama, whose OpenAI endpoint cuts long prompts in silence" in engine.health().reason
            assert "use `engines.any: {ollama: " in engine.health().reason


async def test_a_server_that_does_not_count_tokens_is_read(tmp_path: Path) -> None:
    body = said('{"reason": "x", "score": 1}')
    del body["usage"]
    with FakeOpenAI() as host:
        host.responses = [json_response(body)]
        async with started(host.url, tmp_path) as engine:
            answer = await engine.ask(QUESTION, 30)
    assert (answer.prompt_token_count, answer.decoded_token_count) == (0, 0)


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
        (json_response([]), HostRefused, "the answer is no JSON object"),
        (Response(200, b"<html>Sign in</html>", "text/html"), HostRefused, "a page of HTML: Sign in"),
        (Response(200, b"data: {}\n\n", "text/event-stream"), HostRefused, "no JSON object but text/event-stream"),
        (Response(200, b""), HostRefused, "an empty body"),
    ],
)
async def test_an_answer_that_is_none(response: Response, error: type[EngineError], words: str, tmp_path: Path) -> None:
    with FakeOpenAI() as host:
        host.responses = [response]
        async with started(host.url, tmp_path) as engine:
            with pytest.raises(error) as raised:
                await engine.ask(QUESTION, 30)
    assert type(raised.value) is error
    assert words in str(raised.value)
    assert "engine `any`" in str(raised.value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "api.example.org"}, "no URL of a host"),
        ({"options": {"n": 4, "stream": True}}, "n, stream: set by the engine and the judge themselves"),
        ({"structured": "xml"}, "json_schema"),
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
    class VLLM(FakeOpenAI):
        async def answer(self, request: Any) -> Response:
            models = {"data": [{"id": "judge-8b", "root": "Qwen/Qwen3-8B"}]}
            return json_response(models) if request.path.endswith("/models") else await super().answer(request)

    with VLLM() as host, FakeOpenAI() as other:
        async with started(host.url, tmp_path) as engine:
            assert engine.identity()["served"] == {"id": "judge-8b", "root": "Qwen/Qwen3-8B"}
            assert engine.identity()["url"] == f"{host.url}/v1"
        async with started(other.url, tmp_path) as engine:
            assert engine.identity()["served"] == {"id": "judge-8b"}
