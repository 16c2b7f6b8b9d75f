"""The fake Ollama answers in the shape of the recordings: status, content type, and every field with its kind of value."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import recordings
from fake_ollama import FakeOllama, Fault

OPTIONS = {"temperature": 0, "seed": 1, "num_predict": 80, "num_ctx": 2048}
CHAT = {
    "model": "smollm2:135m",
    "stream": False,
    "messages": [{"role": "user", "content": "BEGIN COMPLETION a\nhi\nEND COMPLETION a"}],
    "options": OPTIONS,
}


def shape(value: Any) -> Any:
    """Returns a value with its contents replaced by their kinds; of lists the first element stands for all."""
    if isinstance(value, dict):
        return {key: shape(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


@pytest.fixture
def host() -> Iterator[FakeOllama]:
    with FakeOllama() as running:
        yield running


def ask(host: FakeOllama, method: str, path: str, body: Any) -> httpx.Response:
    return httpx.request(method, host.url + path, json=body, trust_env=False)


@pytest.mark.parametrize(
    ("where", "body", "fault"),
    [
        ("life/root", None, None),
        ("life/version", None, None),
        ("life/tags", None, None),
        ("life/show", {"model": "smollm2:135m"}, None),
        ("life/show, missing model", {"model": "nosuch:1b"}, None),
        ("life/ps, nothing loaded", None, None),
        ("chat/schema", CHAT, None),
        ("chat/schema, cut by length", CHAT, Fault.HALF_JSON),
        ("errors/missing model", CHAT | {"model": "nosuch:1b"}, None),
        ("errors/think on a model that can't", CHAT | {"think": True}, None),
        ("errors/unknown path", {}, None),
        ("errors/wrong method", None, None),
        (
            "context/over num_ctx 256, truncate false",
            CHAT | {"truncate": False, "options": OPTIONS | {"num_ctx": 3}},
            None,
        ),
        ("openai/openai models", None, None),
        ("life/unload", CHAT, Fault.UNLOADED),
        ("faults/queue full while a model loads", CHAT, Fault.BUSY),
        ("faults/inference process killed during a request", CHAT, Fault.CRASHED),
    ],
)
def test_an_answer_has_the_shape_of_the_recording(where: str, body: Any, fault: Fault | None, host: FakeOllama) -> None:
    file, _, name = where.partition("/")
    exchange = recordings.exchange(file, name)
    request, recorded = exchange.get("request", {"method": "POST", "path": "/api/chat"}), exchange["response"]
    host.always = fault
    answer = ask(host, request["method"], request["path"], body)
    assert answer.status_code == recorded["status"]
    assert answer.headers["content-type"] == recordings.content_type_of(recorded)
    if "text" in recorded:
        assert answer.text == recorded["text"]
    else:
        assert shape(answer.json()) == shape(recorded["json"])


def test_a_nested_error_is_nested_as_in_the_recording(host: FakeOllama) -> None:
    body = CHAT | {"truncate": False, "options": OPTIONS | {"num_ctx": 3}}
    inner = json.loads(ask(host, "POST", "/api/chat", body).json()["error"])
    recorded = recordings.exchange("context", "over num_ctx 256, truncate false")["response"]["json"]["error"]
    assert shape(inner) == shape(json.loads(recorded))


def test_a_failed_pull_is_a_200_that_ends_in_an_error(host: FakeOllama) -> None:
    recorded = recordings.exchange("errors", "pull, unreachable")["response"]
    host.pull_error = "pull model manifest: no such host"
    answer = ask(host, "POST", "/api/pull", {"model": "nosuch:1b"})
    assert answer.status_code == recorded["status"]
    assert answer.headers["content-type"] == recorded["headers"]["content-type"]
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [shape(line) for line in lines] == [shape(line) for line in recorded["ndjson"]]
