"""What the model reads of a request, as far as it fits, and what it then says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import fake_ollama_checks as checks
from fake_ollama_bodies import Written, written
from fake_ollama_slots import as_read, prompt_tokens
from scripted_judges import Answerer, Messages, Prompt

DEFAULT_CONTEXT: Final = 4096
LEAST_CONTEXT: Final = 2
MAX_UNLIMITED_TOKENS: Final = 500
"""A model without a limit comes to an end some time."""


@dataclass(frozen=True)
class Fitted:
    """A prompt as far as it fits."""

    messages: Messages
    tokens: list[str]
    room: int | None  # for the answer, in tokens; None = without end, since the context moves on


def effective_options(question: Mapping[str, Any], context_length: int) -> dict[str, Any]:
    """Returns the options; the context is never larger than the model's, and of nonsense the least there is."""
    options = dict(question.get("options", {}))
    return options | {"num_ctx": max(LEAST_CONTEXT, min(options.get("num_ctx", DEFAULT_CONTEXT), context_length))}


def fitted(question: Mapping[str, Any], context: int) -> Fitted:
    """Returns the prompt, cut as Ollama cuts it: whole messages first, then the beginning of what is left.

    Raises:
        Complaint: it does not fit, and nothing may be cut.
    """
    messages = question["messages"]
    tokens = prompt_tokens(messages)
    if len(tokens) > context and question.get("truncate") is False:
        raise checks.too_long(len(tokens), context)
    while len(tokens) > context and (old := [one for one in messages[:-1] if one["role"] != "system"]):
        messages = [message for message in messages if message is not old[0]]
        tokens = prompt_tokens(messages)
    if len(tokens) > context:
        tokens = tokens[-kept_of(context) :]
        messages = [messages[-1] | {"content": "".join(tokens[:-4])}]
    room = max(1, context - len(tokens)) if question.get("shift") is False else None
    return Fitted(messages, tokens, room)


def answer_to(question: Mapping[str, Any], prompt: Fitted, answer: Answerer) -> Written:
    """Returns what the model says, within the limits that the request sets."""
    options, schema = question.get("options", {}), question.get("format")
    asked = Prompt(
        as_read(prompt.messages),
        schema=schema,
        seed=options.get("seed", 0),
        temperature=options.get("temperature", 0.8),
    )
    limit = limit_of(question)
    return written(answer(asked), limit if prompt.room is None else min(limit, prompt.room), schema)


def kept_of(context: int) -> int:
    """Returns how many tokens are left of a prompt that is cut for a context of so many."""
    return context // 2 + 2


def limit_of(question: Mapping[str, Any]) -> int:
    """Returns how many tokens an answer may have; a limit of 0 is none, as is a negative one."""
    limit = int(question.get("options", {}).get("num_predict", -1))
    return limit if limit > 0 else MAX_UNLIMITED_TOKENS


def from_openais_dialect(asked: dict[str, Any]) -> dict[str, Any]:
    """Returns what the OpenAI endpoint makes of a request: it knows no context, and cuts what is too long for it."""
    options = {"temperature": asked.get("temperature", 1.0), "num_predict": asked.get("max_tokens", -1)}
    question = {"model": asked["model"], "messages": asked["messages"], "options": options}
    question |= {key: asked[key] for key in ("logprobs", "top_logprobs") if key in asked}
    wanted = asked.get("response_format", {})
    if wanted.get("type") == "json_schema":
        question["format"] = wanted["json_schema"]["schema"]
    return question | ({"format": "json"} if wanted.get("type") == "json_object" else {})
