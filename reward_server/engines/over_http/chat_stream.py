"""Reads a chat completion that came as a stream of server-sent events, once it is whole.

Streams are asked of llama.cpp alone: it notices that nobody waits for an answer any more when it can't write a piece of
it, and goes on to the end where there is nothing to write before that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from reward_server.engines.base import Answer
from reward_server.engines.over_http import chat_completions
from reward_server.errors import BadAnswer
from reward_server.http.complaints import Addressee, complaint_of, error_for
from reward_server.http.host import Reply

STREAMED: Final = {"stream": True, "stream_options": {"include_usage": True}, "return_progress": True}
"""What to add to a request. With `return_progress` there is something to write after each piece of a long prompt."""
DATA: Final = "data:"
DONE: Final = "[DONE]"


def read(reply: Reply, to: Addressee) -> Answer:
    """Returns the whole answer, or raises the `EngineError` that the reply means."""
    if reply.status != HTTPStatus.OK:
        raise error_for(to, reply.status, complaint_of(reply))
    try:
        whole = _whole(_events(reply))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise BadAnswer(f"{to.label}: the answer is no stream of chat completions") from error
    return chat_completions.answer_in(whole, reply.elapsed_ms, to)


def _events(reply: Reply) -> list[dict[str, Any]]:
    data = [line.removeprefix(DATA).strip() for line in reply.text().split("\n") if line.startswith(DATA)]
    return [json.loads(event) for event in data if event != DONE]


def _whole(events: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Returns the object that the answer would have been without streaming."""
    for event in events:
        if event.get("error"):
            return event
    choices = [choice for event in events for choice in event["choices"]]
    deltas = [choice["delta"] for choice in choices]
    listed = [choice["logprobs"]["content"] for choice in choices if choice.get("logprobs")]
    message = {
        key: "".join(delta[key] for delta in deltas if delta.get(key)) for key in ("content", "reasoning_content")
    }
    return {
        "choices": [
            {
                "message": message,
                "finish_reason": next((choice["finish_reason"] for choice in choices if choice["finish_reason"]), None),
                "logprobs": {"content": [entry for entries in listed for entry in entries]} if listed else None,
            }
        ],
        "usage": next((event["usage"] for event in events if event.get("usage")), None),
    }
