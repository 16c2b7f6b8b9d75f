"""What an Ollama complains of before it asks the model, in its words and with its status codes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from fake_host import Request, Response, json_response

MAX_ALTERNATIVES: Final = 20
INTEGERS: Final = ("num_ctx", "num_batch", "num_gpu", "num_thread", "num_keep", "num_predict", "seed", "top_k")
FLOATS: Final = ("temperature", "top_p", "min_p", "repeat_penalty", "presence_penalty", "frequency_penalty")
DURATION: Final = re.compile(r"-?(?:\d+(?:\.\d+)?(ms|s|m|h))+")
UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
DEFAULT_KEEP_S: Final = 300.0
TYPES: Final = {"object", "array", "string", "integer", "number", "boolean", "null"}


class Complaint(Exception):
    """The request is refused like this."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.response = json_response({"error": error}, status)


def question_in(request: Request) -> dict[str, Any]:
    """Returns a chat request's JSON, or raises a `Complaint`. Bytes and escapes that are no text become U+FFFD."""
    text = request.body.decode("utf-8", "replace")
    if not text:
        raise Complaint(400, "missing request body")
    try:
        question = json.loads(text)
    except json.JSONDecodeError as error:
        found = text[error.pos : error.pos + 1]
        wanted = "object key string" if "property name" in error.msg else "value"
        raise Complaint(400, f"invalid character {found!r} looking for beginning of {wanted}") from error
    keep_s(question)
    if not question.get("model"):
        raise Complaint(400, "model is required")
    if not 0 <= question.get("top_logprobs", 0) <= MAX_ALTERNATIVES:
        raise Complaint(400, "top_logprobs must be between 0 and 20")
    return question


def check(question: Mapping[str, Any], model: str, capabilities: tuple[str, ...]) -> None:
    """Raises a `Complaint` of a question to a model that is there."""
    if question.get("think") and "thinking" not in capabilities:
        raise Complaint(400, f'"{model}" does not support thinking')
    if question.get("tools") and "tools" not in capabilities:
        raise Complaint(400, f"<registry>/library/{model} does not support tools")
    for name, value in question.get("options", {}).items():
        if name in INTEGERS + FLOATS and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Complaint(500, f'option "{name}" must be of type {"integer" if name in INTEGERS else "float32"}')
    _check_format(question.get("format"))
    if any(message.get("images") for message in question["messages"]):
        raise Complaint(400, nested("Multimodal data provided, but model does not support multimodal requests."))


def keep_s(question: Mapping[str, Any]) -> float:
    """Returns how many seconds the model is to stay in memory after this, or raises a `Complaint`."""
    value = question.get("keep_alive", DEFAULT_KEEP_S)
    if isinstance(value, str):
        if DURATION.fullmatch(value) is None:
            raise Complaint(400, f'time: invalid duration "{value}"')
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h)", value)
        seconds = sum(float(number) * UNITS_S[unit] for number, unit in parts)
        value = -1.0 if value.startswith("-") else seconds
    return float("inf") if value < 0 else float(value)


def nested(message: str, kind: str = "invalid_request_error", **more: Any) -> str:
    """Returns an error of llama.cpp's, which Ollama hands on as JSON inside the text of its own."""
    return json.dumps({"error": {"code": 400, "message": message, "type": kind} | more}, separators=(",", ":"))


def too_long(tokens: int, context: int) -> Complaint:
    """Returns the complaint of a prompt that does not fit."""
    message = f"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it"
    return Complaint(400, nested(message, "exceed_context_size_error", n_prompt_tokens=tokens, n_ctx=context))


def missing(model: str) -> Response:
    """Returns the answer to a question for a model that is not there."""
    return json_response({"error": f"model '{model}' not found"}, 404)


def _check_format(wanted: Any) -> None:
    if wanted is None or wanted == "json":
        return
    written = json.dumps(wanted, separators=(",", ":"))
    if not isinstance(wanted, Mapping):
        raise Complaint(
            500, f'invalid format: "{json.dumps(written)[1:-1]}"; expected "json" or a valid JSON Schema object'
        )
    failure = "Field 'json_schema': \"json_schema\": JSON schema conversion failed:\n"
    if "$ref" in wanted and "$defs" not in wanted:
        raise Complaint(400, nested(f"{failure}Error resolving ref {wanted['$ref']}: $defs not in {written}"))
    if wanted.get("type", "object") not in TYPES:
        raise Complaint(400, nested(f"{failure}Unrecognized schema: {written}"))
