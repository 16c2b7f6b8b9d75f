"""What a host means by an answer that is an error: bodies of all shapes that are out there, and the engine error for it.

Seen: `{"error": "text"}` (Ollama), the same with a whole JSON object inside the text (Ollama passing on llama.cpp's),
`{"error": {"message", "type", "code", …}}` (OpenAI, llama.cpp, vLLM), `{"message": …}`, `{"detail": "text"}` and
`{"detail": [{"msg": …}]}` (FastAPI), a list around any of these (Google), plain text, and the HTML of a proxy.
"""

from __future__ import annotations

import html
import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from reward_server.errors import (
    EngineError,
    HostBusy,
    HostFailed,
    HostRefused,
    HostUnreachable,
    ModelMissing,
    PromptTooLong,
)
from reward_server.http.host import Reply

MAX_EXCERPT_CHARS: Final = 300
MAX_DEPTH: Final = 6
"""How often an error may be wrapped into another one before it is taken as it is."""

MESSAGE_KEYS: Final = ("error", "message", "detail", "msg", "errors")
CONTEXT_CODES: Final = {"exceed_context_size_error", "context_length_exceeded"}
CONTEXT_WORDS: Final = re.compile(
    r"context length is (?:only )?(?P<context>\d+) tokens"  # OpenAI, vLLM
    r"|exceeds? the (?:available|model's|maximum)[a-z' ]* context"
    r"|is too large to process",  # llama.cpp
    re.IGNORECASE,
)
PROMPT_WORDS: Final = re.compile(
    r"(?:requested|resulted in|passed|your (?:prompt|messages|request)[a-z ]*?) (?P<prompt>\d+) (?:input )?tokens",
    re.IGNORECASE,
)


WRONG_TOKEN: Final = (HostRefused, ". Is the token right? See {token_mend}")
WRONG_URL: Final = (HostRefused, ". Nothing at this URL knows the API: mend the url")
NO_WAY_THROUGH: Final = (HostUnreachable, ". A proxy in front of the model's host does not reach it")

BY_STATUS: Final[dict[int, tuple[type[EngineError], str]]] = {
    HTTPStatus.UNAUTHORIZED: WRONG_TOKEN,
    HTTPStatus.FORBIDDEN: WRONG_TOKEN,
    HTTPStatus.NOT_FOUND: WRONG_URL,
    HTTPStatus.METHOD_NOT_ALLOWED: WRONG_URL,
    HTTPStatus.TOO_MANY_REQUESTS: (HostBusy, ""),
    HTTPStatus.SERVICE_UNAVAILABLE: (HostBusy, ""),
    HTTPStatus.BAD_GATEWAY: NO_WAY_THROUGH,
    HTTPStatus.GATEWAY_TIMEOUT: NO_WAY_THROUGH,
}
"""What a status means for the next move, and the remedy."""

BY_HUNDRED: Final[dict[int, tuple[type[EngineError], str]]] = {
    3: (HostRefused, ". It sends elsewhere: mend the url"),
    5: (HostFailed, ""),
}
"""The same for the statuses that have no entry of their own, by their first digit; all others are refusals."""


@dataclass(frozen=True, slots=True)
class Complaint:
    """What an error body says."""

    message: str
    code: str = ""  # the host's own word for it: "exceed_context_size_error", "not_found_error", …
    prompt_token_count: int | None = None
    context_tokens: int | None = None

    @property
    def about_context(self) -> bool:
        """Tells whether the prompt was too long."""
        return self.code in CONTEXT_CODES or CONTEXT_WORDS.search(self.message) is not None


def complaint_in(body: Any) -> Complaint:
    """Returns what a parsed error body says; never raises."""
    return _unpacked(body, 0)


def complaint_of(reply: Reply) -> Complaint:
    """Returns what an error's body says, whatever its shape; never raises."""
    text = reply.text().strip()
    if not text:
        return Complaint("an empty body")
    if "html" in reply.content_type or text[:1] == "<":
        return Complaint(f"a page of HTML: {excerpt(_visible(text))}")
    return _unpacked(text, 0)


@dataclass(frozen=True, slots=True)
class Addressee:
    """Whom a question went to, and what a person can mend: for messages."""

    label: str  # the engine and its host
    model: str
    model_mend: str  # what to do if the host does not have the model
    token_mend: str  # where the token is configured


def error_for(to: Addressee, status: int, complaint: Complaint) -> EngineError:
    """Returns the engine error for an HTTP status that is none of success."""
    if complaint.about_context:
        return too_long(to.label, complaint)
    if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return PromptTooLong(f"{to.label}: the request is larger than the host takes ({complaint.message})")
    if status == HTTPStatus.NOT_FOUND and ("model" in complaint.message.lower() or complaint.code == "not_found_error"):
        return ModelMissing(f"{to.label}: it has no model `{to.model}` ({complaint.message}). {to.model_mend}")
    kind, hint = BY_STATUS.get(status) or BY_HUNDRED.get(status // 100) or (HostRefused, "")
    if complaint.code == "insufficient_quota":
        kind = HostRefused
    return kind(f"{to.label}: answered {status}: {complaint.message}{hint.format(token_mend=to.token_mend)}")


def too_long(label: str, complaint: Complaint) -> PromptTooLong:
    """Returns the error for a prompt that does not fit, with both numbers where the host gave them."""
    prompt, context = complaint.prompt_token_count, complaint.context_tokens
    if prompt is not None and context is not None:
        return PromptTooLong(
            f"{label}: the prompt has {prompt} tokens, the context is {context} tokens", prompt, context
        )
    return PromptTooLong(f"{label}: the prompt does not fit the context ({complaint.message})", prompt, context)


def excerpt(text: str) -> str:
    """Returns the begin of a text on one line, for messages."""
    line = " ".join(text.split())
    return line if len(line) <= MAX_EXCERPT_CHARS else line[: MAX_EXCERPT_CHARS - 1] + "…"


def _unpacked(body: Any, depth: int) -> Complaint:
    """Follows errors inside errors, and JSON inside texts, to the innermost one."""
    if depth < MAX_DEPTH:
        if isinstance(body, list) and body:
            return _unpacked(body[0], depth + 1)
        if isinstance(body, dict):
            return _of_object(body, depth)
        if isinstance(body, str) and body.lstrip()[:1] in ("{", "["):
            try:
                return _unpacked(json.loads(body), depth + 1)
            except (ValueError, RecursionError):
                pass  # it only looks like JSON: taken as text
    return _with_counts(Complaint(excerpt(body if isinstance(body, str) else json.dumps(body)) or "an empty message"))


def _of_object(body: dict[str, Any], depth: int) -> Complaint:
    """Returns what an object says: its innermost message, with the code and the counts found on the way."""
    for key in MESSAGE_KEYS:
        if body.get(key):
            inner = _unpacked(body[key], depth + 1)
            break
    else:
        inner = Complaint(excerpt(json.dumps(body)))
    codes = [value for value in (body.get("code"), body.get("type")) if isinstance(value, str) and value]
    return Complaint(
        inner.message,
        inner.code or (codes[0] if codes else ""),
        inner.prompt_token_count if inner.prompt_token_count is not None else _count(body.get("n_prompt_tokens")),
        inner.context_tokens if inner.context_tokens is not None else _count(body.get("n_ctx")),
    )


def _with_counts(complaint: Complaint) -> Complaint:
    """Adds the token counts that a message tells in words."""
    context, prompt = CONTEXT_WORDS.search(complaint.message), PROMPT_WORDS.search(complaint.message)
    return Complaint(
        complaint.message,
        complaint.code,
        int(prompt["prompt"]) if context and prompt else None,
        int(context["context"]) if context and context["context"] else None,
    )


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _visible(page: str) -> str:
    """Returns a page's text: without what is no text, tags dropped, entities read."""
    page = re.sub(r"(?is)<(script|style)\b.*?</\1>", " ", page[:20_000])
    return html.unescape(re.sub(r"<[^>]*>", " ", page))
