"""What OpenAI's `/chat/completions` asks and answers, as OpenAI, vLLM, llama.cpp and others speak it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any, Final

from reward_server.engines.base import MAX_ALTERNATIVES, Answer, ChatMessage, Position, Question
from reward_server.engines.over_http.logprobs import read_positions
from reward_server.errors import BadAnswer, HostFailed, HostRefused
from reward_server.http.complaints import (
    Addressee,
    complaint_in,
    complaint_of,
    error_for,
    excerpt,
    too_long,
)
from reward_server.http.host import Reply

WHOLE_REASONS: Final = ("stop", "length")
THOUGHT_KEYS: Final = ("reasoning_content", "reasoning", "thinking")
"""Where servers put what a model thought before its answer."""


def body(question: Question, most_alternatives: int = MAX_ALTERNATIVES) -> dict[str, Any]:
    """Returns the parts of a request that all dialects share.

    `most_alternatives` is how many tokens the host lists at each position at most; 0 = it lists none.
    """
    alternatives = min(question.alternatives, most_alternatives)
    return {
        "messages": wire_messages(question.messages),
        "temperature": question.temperature,
        "seed": question.seed,
        "stream": False,
    } | ({"logprobs": True, "top_logprobs": alternatives} if alternatives else {})


def wire_messages(messages: Sequence[ChatMessage]) -> list[dict[str, str]]:
    """Returns messages as a request carries them."""
    return [{"role": message.role, "content": message.content} for message in messages]


def schema_format(schema: Any) -> dict[str, Any]:
    """Returns the `response_format` that holds an answer to a JSON schema."""
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def read(reply: Reply, to: Addressee) -> Answer:
    """Returns the whole answer, or raises the `EngineError` that the reply means."""
    if reply.status != HTTPStatus.OK:
        raise error_for(to, reply.status, complaint_of(reply))
    return answer_in(_object(reply, to.label), reply.elapsed_ms, to)


def answer_in(said: dict[str, Any], host_ms: float, to: Addressee) -> Answer:
    """Returns the answer in what a host said, or raises the `EngineError` that it means."""
    label = to.label
    if said.get("error"):
        complaint = complaint_in(said)
        raise too_long(label, complaint) if complaint.about_context else HostFailed(f"{label}: {complaint.message}")
    choice = _choice(said, label)
    reason = choice.get("finish_reason")
    if reason not in WHOLE_REASONS:
        raise BadAnswer(f"{label}: the answer ended by {reason!r}, not by stop or length")
    text = _content(choice, label)
    return Answer(text, str(reason), *_counts(said, label), host_ms, _positions(choice, text, label))


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


def _positions(choice: dict[str, Any], text: str, label: str) -> Sequence[Position]:
    """Returns the log-probabilities of the text's tokens, none where the host gave none."""
    listed = choice.get("logprobs")
    if listed is not None and not isinstance(listed, dict):
        raise BadAnswer(f"{label}: the log-probabilities are {type(listed).__name__}, not an object")
    thought = any(choice["message"].get(key) for key in THOUGHT_KEYS)
    return read_positions((listed or {}).get("content"), text, label, thought=thought)


def _counts(said: dict[str, Any], label: str) -> tuple[int, int]:
    """Returns the tokens read and written; (0, 0) from a host that does not count them."""
    usage = said.get("usage") or {}
    if not isinstance(usage, dict):
        raise BadAnswer(f"{label}: usage is {usage!r}, not an object of counts")
    counts = (usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
    if not all(isinstance(count, int) and not isinstance(count, bool) and count >= 0 for count in counts):
        raise BadAnswer(f"{label}: usage has no counts of tokens: {usage!r}")
    return counts
