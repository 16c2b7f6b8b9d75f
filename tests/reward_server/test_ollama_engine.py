"""The engine `ollama`: what it sends, what a look finds, how it pulls, and whom it tells a token."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pydantic
import pytest
import recordings
from fake_host import FakeHost, Request, Response, json_response
from fake_ollama import DIGEST, MODEL, FakeOllama, Fault
from waiting import until

from reward_server.engines.base import ChatMessage, Puller, Question
from reward_server.engines.ollama.engine import Ollama
from reward_server.engines.ollama.host import OllamaHost
from reward_server.errors import (
    AnswerTimedOut,
    ConfigError,
    EngineError,
    HostFailed,
    HostRefused,
    HostUnreachable,
    ModelMissing,
)
from reward_server.http.credentials import Secret

QUESTION = Question(
    (ChatMessage("system", "You grade."), ChatMessage("user", "BEGIN COMPLETION a\nhi\nEND COMPLETION a")),
    max_tokens=60,
    schema={"type": "object"},
    temperature=0.3,
    seed=7,
)

OTHER_DIGEST = "0" * 64


class Telling(FakeHost):
    """Answers everything with one response."""

    response = Response()

    async def answer(self, _: Request) -> Response:
        return self.response


def options_for(url: str, **options: Any) -> Any:
    return Ollama.Options(**{"model": MODEL, "url": url} | options)


@asynccontextmanager
async def opened(url: str, folder: Path = Path(), **options: Any) -> AsyncIterator[OllamaHost]:
    """One host by itself, without the pool in front of it."""
    chosen = options_for(url, **options)
    token = Secret("engines.box", "token", chosen.token_env, chosen.token_file, folder)
    host = OllamaHost("box", url, chosen, token)
    await host.open()
    try:
        yield host
    finally:
        await host.close()


@asynccontextmanager
async def started(url: str, folder: Path, **options: Any) -> AsyncIterator[Ollama]:
    engine = Ollama("box", options_for(url, **options), folder)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def test_nothing_may_be_cut_and_the_load_profile_is_the_configured_one() -> None:
    with FakeOllama() as fake:
        async with opened(fake.url, context_tokens=2048, options={"top_k": 40}) as host:
            await host.send(QUESTION, 30)
        assert fake.questions == [
            {
                "model": MODEL,
                "messages": [
                    {"role": "system", "content": "You grade."},
                    {"role": "user", "content": "BEGIN COMPLETION a\nhi\nEND COMPLETION a"},
                ],
                "stream": False,
                "think": False,
                "truncate": False,
                "shift": False,
                "keep_alive": "30m",
                "options": {"top_k": 40, "num_ctx": 2048, "num_predict": 60, "temperature": 0.3, "seed": 7},
                "format": {"type": "object"},
            }
        ]


async def test_a_grade_of_one_token_asks_for_its_alternatives_beside_the_options_and_for_no_form() -> None:
    with FakeOllama() as fake:
        async with opened(fake.url) as host:
            await host.send(Question(QUESTION.messages, max_tokens=1, alternatives=99), 30)
        (sent,) = fake.questions
    assert (sent["logprobs"], sent["top_logprobs"], sent["options"]["num_predict"]) == (True, 20, 1)
    assert "format" not in sent


async def test_no_number_of_tokens_means_without_limit() -> None:
    with FakeOllama() as fake:
        async with opened(fake.url) as host:
            await host.send(Question(QUESTION.messages, max_tokens=0), 30)
        assert fake.questions[0]["options"]["num_predict"] == 1


async def test_a_look_reads_what_a_real_ollama_says_of_its_models() -> None:
    with FakeOllama() as fake:
        async with opened(fake.url) as host:
            sight = await host.look()
    assert sight.health.serving
    assert sight.digest == DIGEST == recordings.exchange("life", "tags")["response"]["json"]["models"][0]["digest"]


async def test_what_a_model_can_do_is_asked_once_for_each_digest() -> None:
    with FakeOllama() as fake:
        async with opened(fake.url) as host:
            for _ in range(3):
                await host.look()
            fake.digest = OTHER_DIGEST
            assert (await host.look()).digest == OTHER_DIGEST
        paths = [request.path for request in fake.requests]
    assert paths == ["/api/tags", "/api/show", "/api/tags", "/api/tags", "/api/tags", "/api/show"]


@pytest.mark.parametrize("asked_for", ["tiny", "tiny:latest"])
async def test_a_model_without_a_tag_is_the_latest_one(asked_for: str) -> None:
    with FakeOllama(model="tiny:latest") as fake:
        async with opened(fake.url, model=asked_for) as host:
            assert (await host.look()).digest == DIGEST


async def test_a_missing_model_is_told_with_its_remedy() -> None:
    with FakeOllama() as fake:
        async with opened(fake.url, model="qwen3:8b") as host:
            with pytest.raises(ModelMissing) as raised:
                await host.look()
    assert "it has no model `qwen3:8b` (it has: smollm2:135m)" in str(raised.value)
    assert "Run `reward-server judge pull`, or mend engines.box.model" in str(raised.value)


async def test_a_dead_host_is_told_with_its_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    words = rf"engine `box` \(http://127.0.0.1:{port}\): no connection.*Start Ollama there, or mend engines\.box\.url"
    async with opened(f"http://127.0.0.1:{port}") as host:
        with pytest.raises(HostUnreachable, match=words):
            await host.look()
        with pytest.raises(HostUnreachable, match=words):
            await host.send(QUESTION, 30)


async def test_a_context_larger_than_the_models_is_told_with_both_numbers() -> None:
    with FakeOllama(context_length=4096) as fake:
        async with opened(fake.url, context_tokens=8192) as host:
            health = (await host.look()).health
    assert not health.serving
    assert "context_tokens 8192 is more than the 4096 of `smollm2:135m`" in health.reason
    assert "set engines.box.context_tokens to at most 4096" in health.reason


async def test_a_model_that_cannot_think_is_told() -> None:
    with FakeOllama() as fake:
        async with opened(fake.url, think=True) as host:
            health = (await host.look()).health
            with pytest.raises(HostRefused, match="does not support thinking"):
                await host.send(QUESTION, 30)
    assert not health.serving
    assert "`smollm2:135m` does not think: set engines.box.think to false" in health.reason


async def test_a_model_that_writes_no_text_is_told() -> None:
    with FakeOllama(capabilities=("embedding",)) as fake:
        async with opened(fake.url) as host:
            assert "`smollm2:135m` writes no text (it is for embedding)" in (await host.look()).health.reason


@pytest.mark.parametrize(
    "body",
    [b"<html>Sign in</html>", b'[{"error": "x"}]', b'{"models": 3}', b"", b'{"models": [1]}', b"null"],
    ids=["html", "list", "other field", "empty", "other list", "null"],
)
async def test_something_else_at_the_url_is_told(body: bytes) -> None:
    with Telling() as elsewhere:
        elsewhere.response = Response(200, body)
        async with opened(elsewhere.url) as host:
            with pytest.raises(HostRefused, match=r"the answer is not Ollama's.*mend engines\.box\.url"):
                await host.look()


@pytest.mark.parametrize("body", [b'[{"error": {"message": "upstream went away"}}]', b"<html>502</html>"])
async def test_an_error_of_any_shape_at_a_look_is_told(body: bytes) -> None:
    with Telling() as broken:
        broken.response = Response(502, body)
        async with opened(broken.url) as host:
            with pytest.raises(EngineError, match="engine `box`"):
                await host.look()


async def test_only_the_text_after_thinking_is_the_answer_and_has_positions() -> None:
    def entry(token: str) -> dict[str, Any]:
        return {"token": token, "logprob": -0.1, "bytes": list(token.encode())}

    body = recordings.exchange("chat", "logprobs")["response"]["json"]
    body["message"] |= {"thinking": "Is it Yes?", "content": "Yes"}
    body["logprobs"] = [entry(token) for token in ("<think>", "Is", " it", " Yes", "?", "</think>", "\n\n", "Yes")]
    with Telling() as fake:
        fake.response = json_response(body)
        async with opened(fake.url, think=True) as host:
            answer = await host.send(QUESTION, 30)
    assert answer.text == "Yes"
    assert [position.token for position in answer.positions] == ["Yes"]


async def test_an_answer_that_never_ends_ends() -> None:
    with FakeOllama() as fake:
        fake.always = Fault.DRIP
        async with opened(fake.url) as host:
            with pytest.raises(AnswerTimedOut, match=r"no answer within 0\.5 s"):
                await host.send(QUESTION, 0.5)


async def test_a_cancelled_question_closes_its_connection() -> None:
    with FakeOllama() as fake:
        fake.always = Fault.HANG
        async with opened(fake.url) as host:
            asking = asyncio.create_task(host.send(QUESTION, 60))
            await until(lambda: fake.questions)
            asking.cancel()
            await until(lambda: fake.abandoned)


async def test_the_users_own_key_is_sent_to_no_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "the-users-own")
    with FakeOllama() as fake:
        async with opened(fake.url) as host:
            await host.look()
            await host.send(QUESTION, 30)
        assert len(fake.requests) == 3
        assert all("authorization" not in request.headers for request in fake.requests)


async def test_the_configured_token_is_sent_with_every_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "the-users-own")
    monkeypatch.setenv("BOX_TOKEN", "secret-of-the-box")
    with FakeOllama(token="secret-of-the-box") as fake:
        async with opened(fake.url, token_env="BOX_TOKEN") as host:
            assert (await host.look()).health.serving
            await host.send(QUESTION, 30)
            assert [p.status async for p in host.pull()][-1] == "success"


async def test_a_wrong_token_is_told_with_where_it_is_configured(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong\n")
    with FakeOllama(token="right") as fake:
        async with opened(fake.url, tmp_path, token_file="token") as host:
            with pytest.raises(HostRefused, match=r"answered 401.*Is the token right\? See engines\.box\.token_env"):
                await host.look()


async def test_a_token_that_is_not_there_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOX_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"engines\.box\.token_env: the environment variable BOX_TOKEN is not set"):
        async with started("http://127.0.0.1:1", tmp_path, token_env="BOX_TOKEN"):
            pass
    with pytest.raises(ConfigError, match=r"engines\.box\.token_file: .*nowhere: No such file"):
        async with started("http://127.0.0.1:1", tmp_path, token_file="nowhere"):
            pass


async def test_identity_is_the_model_and_not_where_it_runs(tmp_path: Path) -> None:
    with FakeOllama() as one, FakeOllama() as other:
        async with started(one.url, tmp_path) as first, started([one.url, other.url], tmp_path) as second:
            await until(lambda: first.identity()["digest"] and second.identity()["digest"])
            assert first.identity() == second.identity()
            assert first.identity() == {
                "engine": "ollama",
                "model": MODEL,
                "digest": DIGEST,
                "context_tokens": 4096,
                "think": False,
                "options": {},
            }


async def test_a_host_of_another_digest_gets_no_question(tmp_path: Path) -> None:
    async def ask(place: Any) -> str:
        return (await place.ask(QUESTION)).text

    with FakeOllama() as right, FakeOllama() as wrong:
        wrong.digest = OTHER_DIGEST
        async with started([right.url, wrong.url], tmp_path, in_flight=1) as engine:
            await until(lambda: engine.identity()["digest"])
            asked = {DIGEST: right, OTHER_DIGEST: wrong}[engine.identity()["digest"]]
            asked.questions.clear()
            deadline = asyncio.get_running_loop().time() + 60
            works = [
                engine.run(ask, affinity=str(n), deadline=lambda: deadline, patience_s=10, attempts=1) for n in range(6)
            ]
            await asyncio.gather(*works)
            assert sum(bool(question.get("format")) for question in asked.questions) == 6


async def test_a_pull_tells_its_progress(tmp_path: Path) -> None:
    with FakeOllama(present=False) as fake:
        engine = Ollama("box", options_for(fake.url), tmp_path)
        assert isinstance(engine, Puller)
        progress = [step async for step in engine.pull()]
        assert progress[0].status == "pulling manifest"
        assert progress[0].total_bytes is None
        assert (progress[2].completed_bytes, progress[2].total_bytes) == (50_000_000, 98_362_745)
        assert progress[-1].status == "success"
        async with opened(fake.url) as host:
            assert (await host.look()).health.serving


async def test_a_pull_goes_to_every_host_and_names_it(tmp_path: Path) -> None:
    with FakeOllama(present=False) as one, FakeOllama(present=False) as other:
        engine = Ollama("box", options_for([one.url, other.url]), tmp_path)
        done = [step.host async for step in engine.pull() if step.status == "success"]
        assert done == [one.url, other.url]
        assert one.present
        assert other.present


async def test_a_host_that_cannot_pull_does_not_keep_the_others_from_it(tmp_path: Path) -> None:
    with FakeOllama(present=False) as one, FakeOllama(present=False) as other:
        one.pull_error = "no space left on device"
        engine = Ollama("box", options_for([one.url, other.url]), tmp_path)
        with pytest.raises(HostFailed, match="no space left on device"):
            [step async for step in engine.pull()]
        assert not one.present
        assert other.present


async def test_a_pull_that_fails_in_its_stream_raises_what_the_host_said(tmp_path: Path) -> None:
    error = recordings.exchange("errors", "pull, unreachable")["response"]["ndjson"][-1]["error"]
    with FakeOllama(present=False) as fake:
        fake.pull_error = error
        with pytest.raises(HostFailed, match=r"pull model manifest: .* no such host"):
            [step async for step in Ollama("box", options_for(fake.url), tmp_path).pull()]


async def test_a_pull_from_a_dead_host_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"Start Ollama there, or mend engines\.box\.url"):
        [step async for step in Ollama("box", options_for("http://127.0.0.1:9"), tmp_path).pull()]


def test_one_url_or_several() -> None:
    assert options_for("http://a/").urls == ("http://a",)
    assert options_for(["http://a/", "http://b"]).urls == ("http://a", "http://b")


@pytest.mark.parametrize(("in_flight", "slots"), [("auto", None), (3, 3)])
def test_in_flight_is_a_number_or_found_out(in_flight: Any, slots: int | None) -> None:
    assert options_for("http://a", in_flight=in_flight).slots == slots


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "gpu-box:11434"}, "no URL of a host: write http://host:port"),
        ({"url": "http://user:pw@gpu-box"}, "a password does not belong in the URL"),
        ({"options": {"num_ctx": 8192}}, "num_ctx does not belong here: set `context_tokens`"),
        ({"options": {"seed": 1}}, "seed does not belong here"),
        ({"keep_alive": "soon"}, "should match pattern"),
        ({"context": 8192}, "Extra inputs are not permitted"),
        ({"in_flight": 0}, "greater than or equal to 1"),
        ({"url": []}, "at least 1 item"),
        ({"url": ["http://a", "http://b", "http://a/"]}, "http://a is listed twice"),
        ({"url": ["http://a", "b"]}, "'b' is no URL of a host"),
        ({"on_model_change": "ignore"}, "'refuse' or 'new_version'"),
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=words):
        Ollama.Options(**{"model": MODEL} | options)
