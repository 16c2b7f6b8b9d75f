"""Error bodies of all shapes: what they say, and what a caller does next."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.errors import (
    EngineError,
    HostBusy,
    HostFailed,
    HostRefused,
    HostUnreachable,
    ModelMissing,
    PromptTooLong,
)
from reward_server.http.complaints import Addressee, Complaint, complaint_in, complaint_of, error_for
from reward_server.http.host import Reply

TO = Addressee("engine `any` (http://x)", "judge-8b", model_mend="Mend engines.any.model", token_mend="engines.any.key")
NESTED = json.dumps({"error": {"code": 400, "message": "inner", "type": "t", "n_prompt_tokens": 9, "n_ctx": 4}})


def reply(body: Any, status: int = 400, content_type: str = "application/json") -> Reply:
    return Reply(status, content_type, body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"error": "plain"}, "plain"),
        ({"error": {"message": "object", "code": 400}}, "object"),
        ({"error": NESTED}, "inner"),
        ({"message": "only"}, "only"),
        ({"detail": "fastapi"}, "fastapi"),
        ({"detail": [{"loc": ["body"], "msg": "field required"}]}, "field required"),
        ([{"error": {"message": "google"}}], "google"),
        ({"error": {"errors": ["first", "second"]}}, "first"),
        (b"plain text", "plain text"),
        (b"", "an empty body"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"<html><script>x()</script><h1>502 Bad&nbsp;Gateway</h1></html>", "a page of HTML: 502 Bad Gateway"),
        ({"error": ""}, '{"error": ""}'),
        ({}, "{}"),
        ([], "[]"),
        (b"{half", "{half"),
        (b"[" * 100_000, "[" * 299 + "…"),
    ],
)
def test_what_a_body_says(body: Any, message: str) -> None:
    assert complaint_of(reply(body)).message == message


def test_the_counts_of_a_nested_error_are_found() -> None:
    assert complaint_of(reply({"error": NESTED})) == Complaint("inner", "t", 9, 4)


@given(st.binary(max_size=300))
def test_no_bytes_break_it(body: bytes) -> None:
    assert complaint_of(Reply(500, "", body)).message


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda x: (
            st.lists(x)
            | st.dictionaries(st.sampled_from(["error", "message", "detail", "code", "n_ctx"]) | st.text(), x)
        ),
        max_leaves=20,
    )
)
def test_no_json_breaks_it(body: Any) -> None:
    assert complaint_in(body).message


@pytest.mark.parametrize(
    "message",
    [
        "This model's maximum context length is 4096 tokens. However, your messages resulted in 5000 tokens.",
        "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4920 in the messages).",
        "You passed 5000 input tokens and requested 60 output tokens. However, the model's context length is only 4096 tokens.",
    ],
)
def test_a_context_told_in_words_is_a_prompt_too_long(message: str) -> None:
    error = error_for(TO, 400, complaint_of(reply({"error": {"message": message, "type": "BadRequestError"}})))
    assert type(error) is PromptTooLong
    assert "the prompt has 5000 tokens, the context is 4096 tokens" in str(error)


def test_a_context_told_without_numbers_keeps_the_hosts_words() -> None:
    error = error_for(TO, 400, Complaint("too long", code="context_length_exceeded"))
    assert type(error) is PromptTooLong
    assert "does not fit the context (too long)" in str(error)


@pytest.mark.parametrize(
    ("status", "complaint", "kind", "remedy"),
    [
        (302, Complaint("moved"), HostRefused, "mend the url"),
        (400, Complaint("bad"), HostRefused, ""),
        (401, Complaint("no"), HostRefused, "Is the token right? See engines.any.key"),
        (403, Complaint("no"), HostRefused, "Is the token right? See engines.any.key"),
        (404, Complaint("model 'x' not found"), ModelMissing, "Mend engines.any.model"),
        (404, Complaint("nope", code="not_found_error"), ModelMissing, "Mend engines.any.model"),
        (404, Complaint("404 page not found"), HostRefused, "mend the url"),
        (405, Complaint("no"), HostRefused, "mend the url"),
        (413, Complaint("too large"), PromptTooLong, ""),
        (422, Complaint("bad"), HostRefused, ""),
        (429, Complaint("slow down"), HostBusy, ""),
        (429, Complaint("pay", code="insufficient_quota"), HostRefused, ""),
        (500, Complaint("oops"), HostFailed, ""),
        (502, Complaint("x"), HostUnreachable, "A proxy in front"),
        (503, Complaint("busy"), HostBusy, ""),
        (504, Complaint("x"), HostUnreachable, "A proxy in front"),
        (529, Complaint("x"), HostFailed, ""),
    ],
)
def test_what_a_caller_does_next(status: int, complaint: Complaint, kind: type[EngineError], remedy: str) -> None:
    error = error_for(TO, status, complaint)
    assert type(error) is kind
    assert str(error).startswith("engine `any` (http://x): ")
    assert remedy in str(error)
