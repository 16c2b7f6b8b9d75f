"""Everything that can go wrong at the fake Ollama does so on the wire, for the question it is meant for and no other."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from fake_ollama import DIGEST, MODEL, OTHER_DIGEST, FakeOllama, Fault
from fake_ollama_faults import HUGE_BYTES, INSTEAD, SPOILS
from plain_http import plain_client
from scripted_judges import constant

SCHEMA = {"type": "object", "properties": {"reason": {"type": "string"}, "score": {"type": "integer"}}}
LABEL = {
    "model": MODEL,
    "stream": False,
    "messages": [{"role": "user", "content": "Is Paris the capital of France? " * 30}],
    "options": {"num_predict": 1},
    "logprobs": True,
    "top_logprobs": 20,
}
GRADES = LABEL | {"options": {"num_predict": 40}, "format": SCHEMA, "logprobs": False}

NEVER_WHOLE = {Fault.HANG, Fault.DRIP, Fault.HANG_UP, Fault.CUT_BODY, Fault.HUGE, Fault.GARBAGE}

STATUS_AND_BODY: dict[Fault, tuple[int, str]] = {
    Fault.CRASHED: (500, "unexpected EOF"),
    Fault.MID_STREAM_ERROR: (200, '"done":false'),
    Fault.BUSY: (503, "server busy, please try again"),
    Fault.MISSING_MODEL: (404, "model 'smollm2:135m' not found"),
    Fault.DELETED: (404, "model 'smollm2:135m' not found"),
    Fault.TOO_LONG: (400, '\\"n_prompt_tokens\\":910,\\"n_ctx\\":256}'),
    Fault.NESTED_400: (400, "JSON schema conversion failed"),
    Fault.HTML: (200, "<html>"),
    Fault.HTML_502: (502, "<h1>502 Bad Gateway</h1>"),
    Fault.JSON_LIST: (500, '[{"error"'),
    Fault.WRONG_TOKEN: (401, "Unauthorized"),
    Fault.REDIRECT: (302, ""),
    Fault.EMPTY: (200, ""),
    Fault.UNLOADED: (200, '"done_reason":"unload"'),
}

Check = Callable[[dict[str, Any]], object]
BODIES: dict[Fault, tuple[dict[str, Any], Check]] = {
    Fault.DONE_FALSE: (GRADES, lambda body: body["done"] is False and "done_reason" not in body),
    Fault.UNKNOWN_REASON: (GRADES, lambda body: body["done_reason"] == "aborted"),
    Fault.NO_REASON: (GRADES, lambda body: "done_reason" not in body),
    Fault.HALF_JSON: (GRADES, lambda body: body["eval_count"] == 40 and not is_json(text_of(body))),
    Fault.OUT_OF_CONTEXT: (GRADES, lambda body: body["done_reason"] == "length" and body["eval_count"] < 40),
    Fault.NOT_JSON: (GRADES, lambda body: body["done_reason"] == "stop" and not is_json(text_of(body))),
    Fault.WHITESPACE: (GRADES, lambda body: body["eval_count"] == 40 and text_of(body).isspace()),
    Fault.ONLY_THINKING: (GRADES, lambda body: "thinking" in body["message"] and text_of(body) == ""),
    Fault.HALVED: (GRADES, lambda body: 1 < body["prompt_eval_count"] < 100),
    Fault.CHANGED: (GRADES, lambda body: is_json(text_of(body))),
    Fault.ZERO_COUNT: (GRADES, lambda body: body["prompt_eval_count"] == 0),
    Fault.NEGATIVE_COUNT: (GRADES, lambda body: body["prompt_eval_count"] < 0),
    Fault.NO_COUNT: (GRADES, lambda body: "prompt_eval_count" not in body),
    Fault.TEXT_COUNT: (GRADES, lambda body: isinstance(body["prompt_eval_count"], str)),
    Fault.NO_LOGPROBS: (LABEL, lambda body: "logprobs" not in body),
    Fault.EMPTY_LOGPROBS: (LABEL, lambda body: body["logprobs"] == []),
    Fault.NAN_LOGPROBS: (LABEL, lambda body: all(map(math.isnan, numbers(body)))),
    Fault.POSITIVE_LOGPROBS: (LABEL, lambda body: all(number > 0 for number in numbers(body))),
    Fault.WRONG_LOGPROBS: (LABEL, lambda body: isinstance(body["logprobs"][0], str)),
    Fault.BEYOND_TOP: (LABEL, lambda body: text_of(body) not in {top["token"] for top in tops(body)}),
}


def text_of(body: dict[str, Any]) -> str:
    return str(body["message"]["content"])


def is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def tops(body: dict[str, Any]) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = body["logprobs"][0]["top_logprobs"]
    return listed


def numbers(body: dict[str, Any]) -> list[float]:
    return [top["logprob"] for top in tops(body)]


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with plain_client() as running:
        yield running


def test_every_fault_is_tried() -> None:
    assert NEVER_WHOLE | STATUS_AND_BODY.keys() | BODIES.keys() == set(Fault)
    assert INSTEAD.keys() | SPOILS.keys() | {Fault.HANG, Fault.HANG_UP} == set(Fault)


@pytest.mark.parametrize("fault", STATUS_AND_BODY)
async def test_an_answer_in_place_of_the_models(fault: Fault, client: httpx.AsyncClient) -> None:
    status, words = STATUS_AND_BODY[fault]
    with FakeOllama() as host:
        host.always = fault
        reply = await client.post(f"{host.url}/api/chat", json=GRADES)
    assert reply.status_code == status
    assert words in reply.text if words else reply.text == ""
    assert ("location" in reply.headers) == (fault is Fault.REDIRECT)


@pytest.mark.parametrize("fault", BODIES)
async def test_an_answer_of_the_models_with_something_wrong_in_it(fault: Fault, client: httpx.AsyncClient) -> None:
    question, holds = BODIES[fault]
    with FakeOllama() as host:
        host.always = fault
        body = (await client.post(f"{host.url}/api/chat", json=question)).json()
        host.always = None
        good = (await client.post(f"{host.url}/api/chat", json=question)).json()
    assert holds(body)
    assert fault is Fault.CHANGED or not holds(good)


@pytest.mark.parametrize("fault", [Fault.HANG_UP, Fault.CUT_BODY])
async def test_a_connection_that_breaks(fault: Fault, client: httpx.AsyncClient) -> None:
    with FakeOllama() as host:
        host.faults = [fault]
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"{host.url}/api/chat", json=GRADES)
        assert (await client.post(f"{host.url}/api/chat", json=GRADES)).status_code == 200


async def test_a_body_that_is_not_what_it_is_called(client: httpx.AsyncClient) -> None:
    with FakeOllama() as host:
        host.faults = [Fault.GARBAGE]
        with pytest.raises(httpx.DecodingError):
            await client.post(f"{host.url}/api/chat", json=GRADES)


@pytest.mark.parametrize("fault", [Fault.HANG, Fault.DRIP])
async def test_an_answer_that_never_ends(fault: Fault, client: httpx.AsyncClient) -> None:
    with FakeOllama() as host:
        host.faults = [fault]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.post(f"{host.url}/api/chat", json=GRADES), 0.3)


async def test_a_huge_body_goes_on_until_the_client_has_had_enough(client: httpx.AsyncClient) -> None:
    with FakeOllama() as host:
        host.faults = [Fault.HUGE]
        read = 0
        async with client.stream("POST", f"{host.url}/api/chat", json=GRADES) as reply:
            async for piece in reply.aiter_bytes():
                read += len(piece)
                if read > 2**21:
                    break
    assert read < HUGE_BYTES


async def test_a_change_in_mid_request_shows_in_tags_after_it_and_not_before(client: httpx.AsyncClient) -> None:
    async def digest() -> str:
        return str((await client.get(f"{host.url}/api/tags")).json()["models"][0]["digest"])

    with FakeOllama() as host:
        host.faults = [Fault.CHANGED]
        assert await digest() == DIGEST
        await client.post(f"{host.url}/api/chat", json=GRADES)
        assert await digest() == OTHER_DIGEST


async def test_faults_come_in_order_and_the_lasting_one_after_them(client: httpx.AsyncClient) -> None:
    with FakeOllama() as host:
        host.faults, host.always = [Fault.BUSY, None, Fault.CRASHED], Fault.WRONG_TOKEN
        replies = [await client.post(f"{host.url}/api/chat", json=GRADES) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [503, 200, 500, 401, 401]


async def test_a_load_is_no_question(client: httpx.AsyncClient) -> None:
    with FakeOllama() as host:
        host.faults = [Fault.BUSY]
        loading = {"model": MODEL, "messages": [], "stream": False}
        assert (await client.post(f"{host.url}/api/chat", json=loading)).json()["done_reason"] == "load"
        assert host.questions == []
        assert host.faults == [Fault.BUSY]


@pytest.mark.parametrize("fault", [fault for fault in SPOILS if fault not in BODIES or BODIES[fault][0] is GRADES])
async def test_a_spoilt_answer_can_be_streamed(fault: Fault, client: httpx.AsyncClient) -> None:
    with FakeOllama(constant(0.5)) as host:
        host.always = fault
        reply = await client.post(f"{host.url}/api/chat", json=GRADES | {"stream": True})
    lines = [json.loads(line) for line in reply.text.splitlines()]
    assert all(line["done"] is False for line in lines[:-1])
    assert reply.headers["content-type"] == "application/x-ndjson"
