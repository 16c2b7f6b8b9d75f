"""The fake Ollama answers what a real one was recorded to answer to the same request: status, headers, and every field
with its kind of value. A recording that is not replayed here fails."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import httpx
import pytest
import recordings
from fake_ollama import DIGEST, MODEL, FakeOllama, Fault
from plain_http import NO_TLS
from scripted_judges import constant
from shapes import differences

FILES = ("life", "chat", "errors", "context", "reload", "openai", "faults")
RECORDED = [f"{file}/{exchange['name']}" for file in FILES for exchange in recordings.exchanges(file)]
SAME_VALUES = ("model", "done", "done_reason", "object", "system_fingerprint", "error")
"""Fields whose values are the recorded ones too, wherever they are texts or truth values."""

CHAT = {
    "model": MODEL,
    "stream": False,
    "messages": [{"role": "user", "content": "Is Paris the capital of France?"}],
    "options": {"temperature": 0, "seed": 1, "num_predict": 4, "num_ctx": 2048},
}


def load(host: FakeOllama) -> None:
    """Loads the model as the recorded request does."""
    host.capabilities = ("completion",)
    send(host, "POST", "/api/chat", {"model": MODEL, "messages": [], "stream": False, "options": {"num_ctx": 65536}})


def refuse_pulls(host: FakeOllama) -> None:
    host.pull_error = recordings.exchange("errors", "pull, unreachable")["response"]["ndjson"][-1]["error"]


def always(fault: Fault) -> Callable[[FakeOllama], None]:
    return lambda host: setattr(host, "always", fault)


BEFORE: Mapping[str, Callable[[FakeOllama], None]] = {
    "life/ps, loaded": load,
    "context/ps after that": load,
    "errors/pull, unreachable": refuse_pulls,
    "errors/pull, unreachable, not streamed": refuse_pulls,
    "faults/queue full while a model loads": always(Fault.BUSY),
    "faults/inference process killed during a request": always(Fault.CRASHED),
    "faults/inference process killed during a streamed request": always(Fault.MID_STREAM_ERROR),
}
COUNTED_DIFFERENTLY = {"context/over num_ctx 256, truncate false", "context/over 32768"}
COUNTED_DIFFERENTLY |= {"context/over, several messages, truncate false"}
"""Their errors tell how many tokens the prompt has: the fake's tokens are not SmolLM2's."""


@dataclass
class Exchange:
    """What was recorded, and what the fake answers to the same."""

    recorded: dict[str, Any]
    given: httpx.Response

    def lines(self) -> tuple[list[Any], list[Any]]:
        """Returns the JSON of both, one element a line."""
        if "json" in self.recorded:
            return [self.recorded["json"]], [self.given.json()]
        given = [json.loads(line) for line in self.given.text.splitlines()]
        if "ndjson_last" in self.recorded:
            return [self.recorded["ndjson_last"]], given[-1:]
        return self.recorded["ndjson"], given


def send(host: FakeOllama, method: str, path: str, body: Any) -> httpx.Response:
    content = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    return httpx.request(method, host.url + path, content=content, trust_env=False, timeout=30, verify=NO_TLS)


def said_in(response: dict[str, Any]) -> str:
    """Returns what the recorded model said; one that was stopped at its limit had more to say."""
    parts = response.get("ndjson") or [response.get("json", {})]
    if parts[0].get("choices"):
        choice = parts[0]["choices"][0]
        text, reason = choice["message"]["content"], choice["finish_reason"]
    else:
        text = "".join(part.get("message", {}).get("content", "") for part in parts)
        reason = parts[-1].get("done_reason")
    return text + " and so on" * 60 if reason == "length" else text


@cache
def replayed(where: str) -> Exchange:
    """Sends the recorded request to a fake whose model says what the recorded one said; once for all tests."""
    file, _, name = where.partition("/")
    exchange = recordings.exchange(file, name)
    recorded = exchange["response"]
    request = recordings.request_of(file, name) if "request" in exchange else ("POST", "/api/chat", CHAT)
    text = said_in(recorded)
    with FakeOllama(lambda _: text) as host:
        BEFORE.get(where, lambda _: None)(host)
        return Exchange(recorded, send(host, *request))


@pytest.mark.parametrize("where", RECORDED)
def test_the_same_request_is_answered_with_the_same_fields(where: str) -> None:
    exchange = replayed(where)
    if "text" in exchange.recorded:
        assert exchange.given.text == exchange.recorded["text"]
    else:
        recorded, given = exchange.lines()
        assert len(given) == len(recorded)
        assert [differences(*pair) for pair in zip(recorded, given, strict=True)] == [[]] * len(recorded)


@pytest.mark.parametrize("where", RECORDED)
def test_the_same_request_is_answered_with_the_same_status_and_headers(where: str) -> None:
    exchange = replayed(where)
    assert exchange.given.status_code == exchange.recorded["status"]
    for name, value in exchange.recorded.get("headers", {}).items():
        if name == "content-length":
            assert exchange.given.headers[name] == str(len(exchange.given.content))
        else:
            assert exchange.given.headers[name] == value


@pytest.mark.parametrize("where", [where for where in RECORDED if where not in COUNTED_DIFFERENTLY])
def test_what_is_no_measurement_has_the_recorded_value(where: str) -> None:
    exchange = replayed(where)
    if "text" in exchange.recorded:
        return
    for recorded, given in zip(*exchange.lines(), strict=True):
        for name in SAME_VALUES:
            assert given.get(name) == recorded.get(name)


@pytest.mark.parametrize("where", [where for where in RECORDED if where.startswith("chat/")])
def test_what_the_model_said_is_in_the_answer_as_far_as_its_limit_goes(where: str) -> None:
    exchange = replayed(where)
    given = "".join(line["message"]["content"] for line in exchange.lines()[1])
    whole = said_in(exchange.recorded)
    assert given
    assert whole.startswith(given)
    assert given == whole or exchange.given.text.rstrip().count('"done_reason":"length"') == 1


def test_a_prompt_too_long_is_cut_to_as_many_tokens_as_recorded() -> None:
    cut = replayed("context/over num_ctx 256, default")
    assert cut.given.json()["prompt_eval_count"] == cut.recorded["json"]["prompt_eval_count"] == 130
    openai = replayed("openai/openai over-long")
    assert openai.given.json()["usage"]["prompt_tokens"] == openai.recorded["json"]["usage"]["prompt_tokens"] == 2050


def test_a_context_over_the_models_is_cut_down_and_only_ps_tells() -> None:
    assert replayed("context/ps after that").given.json()["models"][0]["context_length"] == 8192


def test_the_digest_is_the_recorded_one() -> None:
    assert replayed("life/tags").given.json()["models"][0]["digest"] == DIGEST
    assert replayed("life/tags").recorded["json"]["models"][0]["digest"] == DIGEST


def test_options_load_again_where_they_did_in_the_recordings() -> None:
    loads: dict[str, bool] = {}
    with FakeOllama(constant(0.5), load_s=0.001) as host:
        for exchange in recordings.exchanges("reload"):
            before = host.loads
            send(host, *recordings.request_of("reload", exchange["name"]))
            loads[exchange["name"]] = host.loads > before
    assert loads == {
        exchange["name"]: exchange["load_duration_ms"] > 100 for exchange in recordings.exchanges("reload")
    }


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"a": 1, "b": [{"c": "x"}]}, []),
        ({"a": 1.0, "b": [{"c": "x"}]}, ["$.a: float in place of int"]),
        ({"a": 1, "b": [{"c": "x", "d": 1}]}, ["$.b[0].d: not in the recording"]),
        ({"b": [{"c": "x"}, {}]}, ["$.a: missing", "$.b[1].c: missing"]),
        ({"a": 1, "b": []}, ["$.b: 0 elements in place of 1"]),
        ({"a": True, "b": [{"c": None}]}, ["$.a: bool in place of int", "$.b[0].c: NoneType in place of text"]),
        ({"a": 1, "b": [{"c": "2026-11-22T19:14:22Z"}]}, ["$.b[0].c: moment in place of text"]),
    ],
)
def test_a_difference_of_shape_is_found(given: Any, found: list[str]) -> None:
    assert differences({"a": 1, "b": [{"c": "y"}]}, given) == found


def test_a_difference_inside_nested_json_is_found() -> None:
    assert differences('{"error":{"n_ctx":256}}', '{"error":{"n_ctx":"256"}}') == [
        "$.json.error.n_ctx: text in place of int"
    ]
