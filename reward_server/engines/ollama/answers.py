"""Reads what Ollama's `/api/chat` answers: one JSON object, or one a line when streamed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from reward_server.engines.base import Answer
from reward_server.engines.over_http.logprobs import read_positions
from reward_server.errors import BadAnswer, EngineError, HostFailed, HostRefused
from reward_server.http.complaints import Addressee, complaint_in, complaint_of, error_for, excerpt
from reward_server.http.host import Reply

WHOLE_REASONS: Final = ("stop", "length")
CALLERS_FAULT: Final = re.compile(r'^option "|^invalid format|does not support')
"""Ollama answers 500 to some requests that are themselves wrong; asking again would not help."""


def read(reply: Reply, to: Addressee) -> Answer:
    """Returns the whole answer, or raises the `EngineError` that the reply means."""
    label = to.label
    if reply.status != HTTPStatus.OK:
        raise _error(reply, to)
    parts = _parts(reply, label)
    last = parts[-1]
    if last.get("error"):
        raise HostFailed(f"{label}: {complaint_in(last).message}")
    if last.get("done") is not True:
        raise BadAnswer(f"{label}: the answer is not complete (done is not true)")
    reason = last.get("done_reason")
    if reason not in WHOLE_REASONS:
        raise BadAnswer(f"{label}: the answer ended by {reason!r}, not by stop or length")
    text = "".join(_content(part, label) for part in parts)
    return Answer(
        text,
        str(reason),
        prompt_token_count=_count(last, "prompt_eval_count", label, at_least=1),
        decoded_token_count=_count(last, "eval_count", label),
        host_ms=reply.elapsed_ms,
        positions=read_positions(_logprobs(parts, label), text, label, thought=_thought(parts)),
    )


def _error(reply: Reply, to: Addressee) -> EngineError:
    """Returns the engine error for a reply whose status says that it is one."""
    complaint = complaint_of(reply)
    if CALLERS_FAULT.search(complaint.message):
        return HostRefused(f"{to.label}: answered {reply.status}: {complaint.message}")
    return error_for(to, reply.status, complaint)


def _parts(reply: Reply, label: str) -> list[dict[str, Any]]:
    """Returns the JSON objects of a reply, at least one."""
    try:
        parts = [json.loads(line) for line in reply.text().split("\n") if line.strip()]
    except (ValueError, RecursionError):
        parts = []
    if not parts or not all(isinstance(part, dict) for part in parts):
        raise HostRefused(
            f"{label}: the answer is not Ollama's JSON but {reply.content_type or 'of no type'}: "
            f"{excerpt(complaint_of(reply).message)!r}. Is something else at this URL?"
        )
    return parts


def _content(part: dict[str, Any], label: str) -> str:
    """Returns the text of one part; what a model thought before answering is not of it."""
    message = part.get("message")
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, str):
        raise BadAnswer(f"{label}: the answer has no message with a text")
    return content


def _thought(parts: Sequence[dict[str, Any]]) -> bool:
    """Tells whether the model thought before it answered. Needs parts whose messages have been read."""
    return any(part["message"].get("thinking") for part in parts)


def _logprobs(parts: Sequence[dict[str, Any]], label: str) -> list[Any] | None:
    """Returns the list of log-probabilities, beside the message, not in it; None where no part has one."""
    lists = [part["logprobs"] for part in parts if part.get("logprobs") is not None]
    if not all(isinstance(listed, list) for listed in lists):
        raise BadAnswer(f"{label}: the log-probabilities are no list")
    return [entry for listed in lists for entry in listed] if lists else None


def _count(last: dict[str, Any], key: str, label: str, at_least: int = 0) -> int:
    """Returns a token count. Ollama leaves one of zero out; of a prompt there is always one, or a cut would not show."""
    count = last.get(key, 0)
    if not isinstance(count, int) or isinstance(count, bool) or count < at_least:
        raise BadAnswer(f"{label}: {key} is {count!r}, not a count of tokens")
    return count
