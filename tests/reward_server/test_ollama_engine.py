"""The engine `ollama`: what it sends, what its check finds, how it pulls, and whom it tells a token."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ollama
import pydantic
import pytest
import recordings
from fake_host import HangUp
from fake_ollama import DIGEST, MODEL, FakeOllama, Fault
from waiting import until

from reward_server.engines import hosted
from reward_server.engines.base import ChatMessage, Puller, Question
from reward_server.engines.ollama import Ollama
from reward_server.errors import ConfigError, EngineError, HostFailed, HostRefused, HostUnreachable

QUESTION = Question(
    (ChatMessage("system", "You grade."), ChatMessage("user", "BEGIN COMPLETION a\nhi\nEND COMPLETION a")),
    max_tokens=60,
    schema={"type": "object"},
    temperature=0.3,
    seed=7,
)

OTHER_DIGEST = "0" * 64


class Doorman(FakeOllama):
    """An Ollama that can be away: then every connection closes without an answer."""

    away = False

    async def answer(self, request: Any) -> Any:
        if self.away:
            raise HangUp
        return await super().answer(request)


def engine_for(host: FakeOllama | str, folder: Path, **options: Any) -> Ollama:
    url = host if isinstance(host, str) else host.url
    return Ollama("box", Ollama.Options(**{"model": MODEL, "url": url} | options), folder)


@asynccontextmanager
async def started(host: FakeOllama | str, folder: Path, **options: Any) -> AsyncIterator[Ollama]:
    engine = engine_for(host, folder, **options)
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


async def test_nothing_may_be_cut_and_the_load_profile_is_the_configured_one(tmp_path: Path) -> None:
    with FakeOllama() as host:
        async with started(host, tmp_path, context_tokens=2048, options={"top_k": 40}) as engine:
            await engine.ask(QUESTION, 30)
        assert host.questions == [
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


async def test_check_reads_what_a_real_ollama_says_of_its_models(tmp_path: Path) -> None:
    with FakeOllama() as host:
        async with started(host, tmp_path) as engine:
            assert engine.health().serving
            assert engine.identity()["digest"] == DIGEST
            assert recordings.exchange("life", "tags")["response"]["json"]["models"][0]["digest"] == DIGEST


@pytest.mark.parametrize("asked_for", ["tiny", "tiny:latest"])
async def test_a_model_without_a_tag_is_the_latest_one(asked_for: str, tmp_path: Path) -> None:
    with FakeOllama(model="tiny:latest") as host:
        engine = engine_for(host, tmp_path, model=asked_for)
        await engine.start()
        assert engine.identity()["digest"] == DIGEST
        await engine.close()


async def test_a_missing_model_is_told_with_its_remedy(tmp_path: Path) -> None:
    with FakeOllama() as host:
        async with started(host, tmp_path, model="qwen3:8b") as engine:
            reason = engine.health().reason
    assert not engine.health().serving
    assert "it has no model `qwen3:8b` (it has: smollm2:135m)" in reason
    assert "Run `reward-server judge pull`, or mend engines.box.model" in reason


async def test_a_dead_host_is_told_with_its_remedy(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    async with started(f"http://127.0.0.1:{port}", tmp_path) as engine:
        assert not engine.health().serving
        assert f"engine `box` (http://127.0.0.1:{port}): no connection" in engine.health().reason
        assert "Start Ollama there, or mend engines.box.url" in engine.health().reason
        with pytest.raises(HostUnreachable, match=r"Start Ollama there, or mend engines\.box\.url"):
            await engine.ask(QUESTION, 30)


async def test_a_context_larger_than_the_models_is_told_with_both_numbers(tmp_path: Path) -> None:
    with FakeOllama(context_length=4096) as host:
        async with started(host, tmp_path, context_tokens=8192) as engine:
            assert not engine.health().serving
            assert "context_tokens 8192 is more than the 4096 of `smollm2:135m`" in engine.health().reason
            assert "set engines.box.context_tokens to at most 4096" in engine.health().reason


async def test_a_model_that_cannot_think_is_told_at_check_and_at_asking(tmp_path: Path) -> None:
    with FakeOllama() as host:
        async with started(host, tmp_path, think=True) as engine:
            assert "`smollm2:135m` does not think: set engines.box.think to false" in engine.health().reason
            with pytest.raises(HostRefused, match="does not think"):
                await engine.ask(QUESTION, 30)
        assert host.questions == []


async def test_a_model_that_writes_no_text_is_told(tmp_path: Path) -> None:
    with FakeOllama(capabilities=("embedding",)) as host:
        async with started(host, tmp_path) as engine:
            assert "`smollm2:135m` writes no text (it is for embedding)" in engine.health().reason


@pytest.mark.parametrize(
    "body",
    [b"<html>Sign in</html>", b'[{"error": "x"}]', b'{"models": 3}', b"", b'{"models": [1]}', b"null"],
    ids=["html", "list", "other field", "empty", "other list", "null"],
)
async def test_something_else_at_the_url_is_told(body: bytes, tmp_path: Path) -> None:
    class Elsewhere(FakeOllama):
        async def answer(self, request: Any) -> Any:
            response = await super().answer(request)
            response.body, response.pieces = body, None
            return response

    with Elsewhere() as host:
        async with started(host, tmp_path) as engine:
            assert not engine.health().serving
            assert "the answer is not Ollama's" in engine.health().reason
            assert "mend engines.box.url" in engine.health().reason


@pytest.mark.parametrize("fault", [b'[{"error": {"message": "upstream went away"}}]', b"<html>502</html>"])
async def test_an_error_of_any_shape_at_check_is_told(fault: bytes, tmp_path: Path) -> None:
    class Broken(FakeOllama):
        async def answer(self, request: Any) -> Any:
            response = await super().answer(request)
            response.status, response.body = 502, fault
            return response

    with Broken() as host:
        async with started(host, tmp_path) as engine:
            assert not engine.health().serving
            assert "engine `box`" in engine.health().reason


async def test_a_check_that_breaks_is_told_and_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "RECHECK_SICK_S", 0.02)
    with FakeOllama() as host:
        engine = engine_for(host, tmp_path)
        with monkeypatch.context() as broken:
            broken.setattr(engine, "_look", lambda: 1 / 0)
            await engine.start()
            assert "the check broke: ZeroDivisionError" in engine.health().reason
        await until(lambda: engine.health().serving)
        await engine.close()


async def test_a_host_that_comes_up_later_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hosted, "RECHECK_SICK_S", 0.05)
    with FakeOllama(present=False) as host:
        async with started(host, tmp_path) as engine:
            assert not engine.health().serving
            host.present = True
            await until(lambda: engine.health().serving)
            assert engine.identity()["digest"] == DIGEST


async def test_a_host_that_goes_away_shows_in_health_at_the_next_question(tmp_path: Path) -> None:
    with FakeOllama() as host:
        engine = engine_for(host, tmp_path)
        await engine.start()
    try:
        assert engine.health().serving
        with pytest.raises(HostUnreachable):
            await engine.ask(QUESTION, 30)
        assert not engine.health().serving
    finally:
        await engine.close()


async def test_no_question_goes_to_a_model_that_nobody_has_identified(tmp_path: Path) -> None:
    with Doorman() as host:
        host.away = True
        async with started(host, tmp_path) as engine:
            with pytest.raises(HostUnreachable, match="no connection"):
                await engine.ask(QUESTION, 30)
            assert host.questions == []
            assert engine.identity()["digest"] is None
            host.away = False
            await engine.ask(QUESTION, 30)
            assert engine.identity()["digest"] == DIGEST
            assert engine.health().serving


async def test_a_host_that_was_lost_is_looked_at_before_it_is_asked_again(tmp_path: Path) -> None:
    with FakeOllama() as host:
        async with started(host, tmp_path) as engine:
            host.faults = [Fault.HANG_UP]
            with pytest.raises(HostUnreachable):
                await engine.ask(QUESTION, 30)
            assert not engine.health().serving
            host.digest = OTHER_DIGEST  # it comes back with another model
            await engine.ask(QUESTION, 30)
            assert [request.path for request in host.requests[-3:]] == ["/api/tags", "/api/show", "/api/chat"]
            assert engine.identity()["digest"] == OTHER_DIGEST


async def test_questions_that_waited_while_the_host_was_lost_are_not_sent(tmp_path: Path) -> None:
    with FakeOllama() as host:
        async with started(host, tmp_path, in_flight=1) as engine:
            host.faults = [Fault.HANG_UP]
            outcomes = await asyncio.gather(*(engine.ask(QUESTION, 30) for _ in range(3)), return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [HostUnreachable] * 3
        assert len(host.questions) == 1


async def test_a_model_pulled_meanwhile_is_seen_before_the_next_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOllama() as host:
        async with started(host, tmp_path) as engine:
            host.digest = OTHER_DIGEST
            await engine.ask(QUESTION, 30)
            assert engine.identity()["digest"] == DIGEST  # a look of just now is believed
            monkeypatch.setattr(Ollama, "fresh_s", 0.0)
            await engine.ask(QUESTION, 30)
            assert engine.identity()["digest"] == OTHER_DIGEST


async def test_questions_asked_together_share_one_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeOllama() as host:
        async with started(host, tmp_path, in_flight=8) as engine:
            monkeypatch.setattr(Ollama, "fresh_s", 0.0)
            before = len(host.requests)
            await asyncio.gather(*(engine.ask(QUESTION, 30) for _ in range(8)))
        paths = [request.path for request in host.requests[before:]]
    assert sorted(paths) == ["/api/chat"] * 8 + ["/api/tags"]  # the same digest: what it can do is known


async def test_a_cancelled_question_leaves_the_look_to_the_others(tmp_path: Path) -> None:
    with Doorman() as host:
        host.away = True
        async with started(host, tmp_path) as engine:
            host.away = False
            first, second = (asyncio.create_task(engine.ask(QUESTION, 30)) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            assert (await second).finish == "stop"


async def test_checks_share_one_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    client = ollama.AsyncClient
    monkeypatch.setattr(ollama, "AsyncClient", lambda **options: made.append(client(**options)) or made[-1])
    with FakeOllama() as host:
        async with started(host, tmp_path) as engine:
            await engine.check()
            await engine.check()
            assert len(made) == 1
        assert made[0]._client.is_closed


async def test_a_cancelled_question_closes_its_connection(tmp_path: Path) -> None:
    with FakeOllama(seconds=60) as host:
        async with started(host, tmp_path) as engine:
            asking = asyncio.create_task(engine.ask(QUESTION, 60))
            await until(lambda: host.questions)  # it is not the check's request any more
            asking.cancel()
            await until(lambda: host.abandoned)


async def test_never_more_questions_at_the_host_than_configured(tmp_path: Path) -> None:
    with FakeOllama(slots=8, seconds=0.02) as host:
        async with started(host, tmp_path, in_flight=3) as engine:
            await asyncio.gather(*(engine.ask(QUESTION, 30) for _ in range(12)))
        assert host.most_in_flight == 3


async def test_the_users_own_key_is_sent_to_no_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "the-users-own")
    with FakeOllama() as host:
        async with started(host, tmp_path) as engine:
            await engine.ask(QUESTION, 30)
        assert len(host.requests) == 3
        assert all("authorization" not in request.headers for request in host.requests)


async def test_the_configured_token_is_sent_with_every_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "the-users-own")
    monkeypatch.setenv("BOX_TOKEN", "secret-of-the-box")
    with FakeOllama(token="secret-of-the-box") as host:
        async with started(host, tmp_path, token_env="BOX_TOKEN") as engine:
            assert engine.health().serving, engine.health().reason
            await engine.ask(QUESTION, 30)
            assert [p.status async for p in engine.pull()][-1] == "success"


async def test_a_wrong_token_is_told_with_where_it_is_configured(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("wrong\n")
    with FakeOllama(token="right") as host:
        async with started(host, tmp_path, token_file="token") as engine:
            assert "answered 401: Unauthorized. Is the token right? See engines.box.token_env" in engine.health().reason


async def test_a_token_that_is_not_there_stops_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BOX_TOKEN", raising=False)
    with pytest.raises(ConfigError, match=r"engines\.box\.token_env: the environment variable BOX_TOKEN is not set"):
        await engine_for("http://127.0.0.1:1", tmp_path, token_env="BOX_TOKEN").start()
    with pytest.raises(ConfigError, match=r"engines\.box\.token_file: .*nowhere: No such file"):
        await engine_for("http://127.0.0.1:1", tmp_path, token_file="nowhere").start()


async def test_a_pull_tells_its_progress(tmp_path: Path) -> None:
    with FakeOllama(present=False) as host:
        engine = engine_for(host, tmp_path)
        assert isinstance(engine, Puller)
        progress = [step async for step in engine.pull()]
        assert progress[0].status == "pulling manifest"
        assert progress[0].total_bytes is None
        assert (progress[2].completed_bytes, progress[2].total_bytes) == (50_000_000, 98_362_745)
        assert progress[-1].status == "success"
        assert (await engine.check()).serving
        await engine.close()


async def test_a_pull_that_fails_in_its_stream_raises_what_the_host_said(tmp_path: Path) -> None:
    error = recordings.exchange("errors", "pull, unreachable")["response"]["ndjson"][-1]["error"]
    with FakeOllama(present=False) as host:
        host.pull_error = error
        with pytest.raises(HostFailed, match=r"pull model manifest: .* no such host"):
            [step async for step in engine_for(host, tmp_path).pull()]


async def test_a_pull_from_a_dead_host_names_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match=r"Start Ollama there, or mend engines\.box\.url"):
        [step async for step in engine_for("http://127.0.0.1:9", tmp_path).pull()]


async def test_an_answer_that_never_ends_ends(tmp_path: Path) -> None:
    with FakeOllama() as host:
        host.always = Fault.DRIP
        async with started(host, tmp_path) as engine:
            with pytest.raises(EngineError, match=r"no answer within 0\.5 s"):
                await engine.ask(QUESTION, 0.5)


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
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(pydantic.ValidationError, match=words):
        Ollama.Options(**{"model": MODEL} | options)
