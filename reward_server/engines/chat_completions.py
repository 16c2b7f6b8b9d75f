"""What OpenAI's `/chat/completions` asks and answers, as OpenAI, vLLM, llama.cpp and others speak it."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, Final

from reward_server.engines.base import Question
from reward_server.engines.complaints import Addressee, complaint_in, complaint_of, error_for, excerpt, too_long
from reward_server.engines.host import Reply
from reward_server.engines.hosted import Said
from reward_server.errors import BadAnswer, HostFailed, HostRefused

WHOLE_REASONS: Final = ("stop", "length")


def body(question: Question) -> dict[str, Any]:
    """Returns the parts of a request that all dialects share."""
    return {
        "messages": [{"role": message.role, "content": message.content} for message in question.messages],
        "temperature": question.temperature,
        "seed": question.seed,
        "stream": False,
    }


def schema_format(schema: Any) -> dict[str, Any]:
    """Returns the `response_format` that holds an answer to a JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def read(reply: Reply, to: Addressee) -> Said:
    """Returns the whole answer, or raises the `EngineError` that the reply means."""
    label = to.label
    if reply.status != HTTPStatus.OK:
        raise error_for(to, reply.status, complaint_of(reply))
    said = _object(reply, label)
    if said.get("error"):
        complaint = complaint_in(said)
        raise too_long(label, complaint) if complaint.about_context else HostFailed(f"{label}: {complaint.message}")
    choice = _choice(said, label)
    reason = choice.get("finish_reason")
    if reason not in WHOLE_REASONS:
        raise BadAnswer(f"{label}: the answer ended by {reason!r}, not by stop or length")
    return Said(_content(choice, label), str(reason), *_counts(said, label))


def _object(reply: Reply, label: str) -> dict[str, Any]:
    try:
        said = json.loads(reply.text())
    except (ValueError, RecursionError):
        said = None
    if not isinstance(said, dict):
        raise HostRefused(
            f"{label}: the answer is no JSON object but {reply.content_type or 'of no type'}: "
            f"{excerpt(complaint_of(reply).message)!r}. Is something else at this URL?"
        )
    return said


def _choice(said: dict[str, Any], label: str) -> dict[str, Any]:
    choices = said.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        raise BadAnswer(f"{label}: the answer has no choices: {excerpt(json.dumps(said))}")
    return choices[0]


def _content(choice: dict[str, Any], label: str) -> str:
    """Returns the text of the answer. A refusal stands in a field of its own, and is no verdict."""
    message = choice.get("message")
    if not isinstance(message, dict):
        raise BadAnswer(f"{label}: the answer has no message")
    if message.get("refusal"):
        raise BadAnswer(f"{label}: the model refused: {excerpt(str(message['refusal']))}")
    content = message.get("content")
    if not isinstance(content, str):
        raise BadAnswer(f"{label}: the answer has no text")
    return content


def _counts(said: dict[str, Any], label: str) -> tuple[int, int]:
    """Returns the tokens read and written; (0, 0) from a host that does not count them."""
    usage = said.get("usage") or {}
    if not isinstance(usage, dict):
        raise BadAnswer(f"{label}: usage is {usage!r}, not an object of counts")
    counts = (usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
    if not all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
        raise BadAnswer(f"{label}: usage has no counts of tokens: {usage!r}")
    return counts
