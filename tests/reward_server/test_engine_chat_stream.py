"""A streamed chat completion, read once it is whole: as the answer that it would have been in one piece."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reward_server.engines.base import Answer
from reward_server.engines.over_http import chat_stream
from reward_server.errors import BadAnswer, EngineError, HostFailed, PromptTooLong
from reward_server.http.complaints import Addressee
from reward_server.http.host import Reply

TO = Addressee("engine `local`", "m.gguf", model_mend="Mend it", token_mend="")
USAGE = {"choices": [], "usage": {"prompt_tokens": 37, "completion_tokens": 2}}


def piece(finish: str | None = None, logprobs: Any = None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"delta": delta, "finish_reason": finish, "logprobs": logprobs}]}


def read(*events: Any, status: int = 200) -> Answer:
    lines = [f"data: {event if isinstance(event, str) else json.dumps(event)}" for event in events]
    return chat_stream.read(Reply(status, "text/event-stream", "\n\n".join(lines).encode(), 12.0), TO)


def entry(token: str) -> dict[str, Any]:
    return {"content": [{"token": token, "logprob": -0.5, "bytes": list(token.encode()), "top_logprobs": []}]}


def test_the_pieces_make_one_answer() -> None:
    answer = read(
        piece(role="assistant", content=None) | {"prompt_progress": {"total": 37, "processed": 37}},
        piece(content="No", logprobs=entry("No")),
        piece(content="\u2028, never", logprobs=entry("\u2028, never")),
        piece(finish="stop"),
        USAGE,
        "[DONE]",
    )
    assert (answer.text, answer.finish) == ("No\u2028, never", "stop")
    assert (answer.prompt_token_count, answer.decoded_token_count, answer.host_ms) == (37, 2, 12.0)
    assert [position.token for position in answer.positions] == ["No", "\u2028, never"]


def test_what_was_thought_is_not_of_the_answer() -> None:
    thought = [piece(reasoning_content="It is", logprobs=entry("It is")), piece(logprobs=entry("</think>"))]
    answer = read(*thought, piece(content="yes", logprobs=entry("yes")), piece(finish="stop"), USAGE)
    assert answer.text == "yes"
    assert [position.token for position in answer.positions] == ["yes"]


@pytest.mark.parametrize(
    ("events", "error", "words"),
    [
        ([piece(content="No"), USAGE], BadAnswer, "the answer ended by None"),
        ([], BadAnswer, "ended by None"),
        (["{half"], BadAnswer, "no stream of chat completions"),
        ([[1]], BadAnswer, "no stream of chat completions"),
        ([{"choices": [{}]}], BadAnswer, "no stream of chat completions"),
        ([piece(content="No"), {"error": {"message": "it broke"}}], HostFailed, "it broke"),
        (
            [{"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4}}],
            PromptTooLong,
            "9 tokens",
        ),
    ],
)
def test_a_stream_that_is_no_answer(events: list[Any], error: type[EngineError], words: str) -> None:
    with pytest.raises(error) as raised:
        read(*events)
    assert type(raised.value) is error
    assert words in str(raised.value)


def test_a_refusal_comes_before_the_stream() -> None:
    body = json.dumps({"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 9, "n_ctx": 4}}).encode()
    with pytest.raises(PromptTooLong, match="the prompt has 9 tokens, the context is 4 tokens"):
        chat_stream.read(Reply(400, "application/json", body), TO)
