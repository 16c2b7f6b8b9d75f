"""All that a question to an Ollama can come back as on a bad day, from the host itself, from what stands in front of it,
or from something else at its address."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from enum import Enum, auto
from typing import Any, Final

import fake_ollama_checks as checks
import recordings
from fake_host import HangUp, Response, json_response
from fake_ollama_bodies import Written, logprobs_of, message_of, ndjson, written
from fake_ollama_prompts import MAX_UNLIMITED_TOKENS, kept_of, limit_of
from fake_ollama_slots import tokens_of

HUGE_BYTES: Final = 256 * 1024 * 1024
PIECE_BYTES: Final = 64 * 1024
PAGE: Final = "<html><title>Sign in</title><body>Please sign in</body></html>"

Body = dict[str, Any]


class Fault(Enum):
    """What goes wrong with one question."""

    # No answer, or none that ends.
    HANG = auto()  # no answer at all
    DRIP = auto()  # an answer that never ends, a byte at a time
    HANG_UP = auto()  # the connection closes without an answer
    CUT_BODY = auto()  # it closes in the middle of the body
    HUGE = auto()  # 200 with a body of 256 MiB
    # The host says that it can't.
    CRASHED = auto()  # 500: the model's process died
    MID_STREAM_ERROR = auto()  # 200, some of the answer, and an error as the last line
    BUSY = auto()  # 503, as while the model loads
    MISSING_MODEL = auto()  # 404
    DELETED = auto()  # 404 from now on: the model was deleted while loaded, ps still shows it
    TOO_LONG = auto()  # 400, JSON inside a text inside JSON
    NESTED_400 = auto()  # the same, of a schema that llama.cpp can't make a grammar of
    # Something else answers.
    HTML = auto()  # 200 with a proxy's page
    HTML_502 = auto()  # a proxy's error page
    JSON_LIST = auto()  # 500 with a list as its body
    WRONG_TOKEN = auto()  # 401
    REDIRECT = auto()  # 302 to a page for signing in
    EMPTY = auto()  # 200 without a body
    GARBAGE = auto()  # 200, called gzip and none
    # An answer that is none.
    DONE_FALSE = auto()  # 200 with an answer that is not complete
    UNLOADED = auto()  # 200, done by "unload"
    UNKNOWN_REASON = auto()  # done by something unheard of
    NO_REASON = auto()  # done by nothing
    HALF_JSON = auto()  # the answer is cut off in the middle of its JSON
    NOT_JSON = auto()  # the model chats instead of grading
    OUT_OF_CONTEXT = auto()  # the answer is cut off where the context ends, before its limit of tokens
    WHITESPACE = auto()  # it writes blanks up to the limit of tokens
    ONLY_THINKING = auto()  # it thinks up to the limit, and has no text
    HALVED = auto()  # the prompt was cut in silence, as in a context half as long as it: a quarter of it was read
    CHANGED = auto()  # from now on, and while it answered: its name was given to another model; ps shows the old one
    # Counts that are none.
    ZERO_COUNT = auto()
    NEGATIVE_COUNT = auto()
    NO_COUNT = auto()
    TEXT_COUNT = auto()
    # Log-probabilities that are none. Only where some were asked for is it a fault.
    NO_LOGPROBS = auto()
    EMPTY_LOGPROBS = auto()
    NAN_LOGPROBS = auto()
    POSITIVE_LOGPROBS = auto()
    WRONG_LOGPROBS = auto()  # texts in place of objects
    BEYOND_TOP = auto()  # no label is among the likeliest 20


OF_LOGPROBS: Final = frozenset(
    {
        Fault.NO_LOGPROBS,
        Fault.EMPTY_LOGPROBS,
        Fault.NAN_LOGPROBS,
        Fault.POSITIVE_LOGPROBS,
        Fault.WRONG_LOGPROBS,
        Fault.BEYOND_TOP,
    }
)
"""Those that a question without log-probabilities does not notice."""


async def instead(fault: Fault, question: Mapping[str, Any]) -> Response | None:
    """Returns what comes in place of an answer, or None where an answer comes and `SPOILS` says what is wrong with it."""
    if fault is Fault.HANG:
        await asyncio.sleep(3600)
    if fault is Fault.HANG_UP:
        raise HangUp
    make = INSTEAD.get(fault)
    return None if make is None else make(str(question["model"]))


def _recorded(file: str, name: str) -> Any:
    return recordings.exchange(file, name)["response"]["json"]


def _mid_stream(model: str) -> Response:
    head = {"model": model, "created_at": "2026-11-22T19:09:23.42503033Z"}
    lines: list[Body] = [head | {"message": message_of(text), "done": False} for text in ("{", '"re', "ason")]
    lines.append(
        recordings.exchange("faults", "inference process killed during a streamed request")["response"]["ndjson_last"]
    )
    return Response(200, ndjson(lines), "application/x-ndjson")


def _html_502(_: str) -> Response:
    return Response(502, b"<html><body><h1>502 Bad Gateway</h1>nginx</body></html>", "text/html")


def _nested_400(_: str) -> Response:
    return json_response(_recorded("errors", "bad schema"), 400)


async def _drip() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.01)


async def _huge() -> AsyncIterator[bytes]:
    yield b'{"model": "'
    for _ in range(HUGE_BYTES // PIECE_BYTES):
        yield b"x" * PIECE_BYTES


INSTEAD: Final[Mapping[Fault, Callable[[str], Response]]] = {
    Fault.DRIP: lambda _: Response(200, pieces=_drip()),
    Fault.CUT_BODY: lambda _: Response(200, b'{"model":"smollm2:135m","mess', declared_length=300),
    Fault.HUGE: lambda _: Response(200, pieces=_huge()),
    Fault.CRASHED: lambda _: json_response(_recorded("faults", "inference process killed during a request"), 500),
    Fault.MID_STREAM_ERROR: _mid_stream,
    Fault.BUSY: lambda _: json_response(_recorded("faults", "queue full while a model loads"), 503),
    Fault.MISSING_MODEL: checks.missing,
    Fault.DELETED: checks.missing,
    Fault.TOO_LONG: lambda _: checks.too_long(910, 256).response,
    Fault.NESTED_400: _nested_400,
    Fault.HTML: lambda _: Response(200, PAGE.encode(), "text/html"),
    Fault.HTML_502: _html_502,
    Fault.JSON_LIST: lambda _: json_response([{"error": {"message": "upstream went away", "code": 500}}], 500),
    Fault.WRONG_TOKEN: lambda _: Response(401, b"Unauthorized", "text/plain"),
    Fault.REDIRECT: lambda _: Response(302, b"", "text/html", headers={"location": "https://login.invalid/"}),
    Fault.EMPTY: lambda _: Response(200),
    Fault.GARBAGE: lambda _: Response(200, b"\x1f\x8b\x08 is no gzip", headers={"content-encoding": "gzip"}),
    Fault.UNLOADED: lambda _: json_response(_recorded("life", "unload")),
}


def _not_done(body: Body, _: Mapping[str, Any]) -> Body:
    return {key: body[key] for key in ("model", "created_at", "message")} | {"done": False}


def _saying(text: str) -> Callable[[Body, Mapping[str, Any]], Body]:
    """Returns what makes an answer say this, as far as its limit of tokens allows."""

    def spoil(body: Body, question: Mapping[str, Any]) -> Body:
        said = written(text, limit_of(question))
        told = {"done_reason": said.done_reason, "eval_count": said.decoded_token_count()}
        return _with_logprobs_of(said, question, body | {"message": message_of(said.text)} | told)

    return spoil


def _out_of_context(body: Body, _: Mapping[str, Any]) -> Body:
    tokens = tokens_of(str(body["message"]["content"]))
    kept = tokens[: max(1, len(tokens) // 2)]
    body = body | {"message": message_of("".join(kept)), "done_reason": "length", "eval_count": len(kept)}
    return body | {"logprobs": body["logprobs"][: len(kept)]} if "logprobs" in body else body


def _only_thinking(body: Body, question: Mapping[str, Any]) -> Body:
    said = written("Let me see. The completion says " * MAX_UNLIMITED_TOKENS, limit_of(question))
    told = {"done_reason": "length", "eval_count": len(said.tokens)}
    return _with_logprobs_of(said, question, body | {"message": message_of("", said.text)} | told)


def _with_logprobs_of(said: Written, question: Mapping[str, Any], body: Body) -> Body:
    return body | {"logprobs": logprobs_of(said, question.get("top_logprobs", 0))} if "logprobs" in body else body


def _halved(body: Body, _: Mapping[str, Any]) -> Body:
    return body | {"prompt_eval_count": kept_of(int(body["prompt_eval_count"]) // 2)}


def _without(*keys: str) -> Callable[[Body, Mapping[str, Any]], Body]:
    return lambda body, _: {key: value for key, value in body.items() if key not in keys}


def _counting(value: Any) -> Callable[[Body, Mapping[str, Any]], Body]:
    return lambda body, _: body | {"prompt_eval_count": value, "eval_count": value}


def _with_logprobs(value: Any) -> Callable[[Body, Mapping[str, Any]], Body]:
    return lambda body, _: body | {"logprobs": value} if "logprobs" in body else body


def _each_logprob(number: float) -> Callable[[Body, Mapping[str, Any]], Body]:
    def put(entry: Body) -> Body:
        top = {"top_logprobs": [put(other) for other in entry["top_logprobs"]]} if "top_logprobs" in entry else {}
        return entry | {"logprob": number} | top

    return lambda body, _: (
        body | {"logprobs": [put(entry) for entry in body["logprobs"]]} if "logprobs" in body else body
    )


def _beyond_top(body: Body, _: Mapping[str, Any]) -> Body:
    if "logprobs" not in body:
        return body
    others = [{"token": f"word{number}", "logprob": -2.5 - number / 10, "bytes": [119]} for number in range(20)]
    return body | {"logprobs": [entry | {"logprob": -7.5, "top_logprobs": others} for entry in body["logprobs"]]}


SPOILS: Final[Mapping[Fault, Callable[[Body, Mapping[str, Any]], Body]]] = {
    Fault.DONE_FALSE: _not_done,
    Fault.UNKNOWN_REASON: lambda body, _: body | {"done_reason": "aborted"},
    Fault.NO_REASON: _without("done_reason"),
    Fault.HALF_JSON: _saying('{\n  "reason": "' + "It is what it is. " * MAX_UNLIMITED_TOKENS),
    Fault.NOT_JSON: _saying("Sure! I would give this a 9."),
    Fault.WHITESPACE: _saying(" \n" * MAX_UNLIMITED_TOKENS),
    Fault.OUT_OF_CONTEXT: _out_of_context,
    Fault.ONLY_THINKING: _only_thinking,
    Fault.HALVED: _halved,
    Fault.CHANGED: lambda body, _: body,
    Fault.ZERO_COUNT: _counting(0),
    Fault.NEGATIVE_COUNT: _counting(-1),
    Fault.NO_COUNT: _without("prompt_eval_count", "eval_count"),
    Fault.TEXT_COUNT: _counting("21"),
    Fault.NO_LOGPROBS: _without("logprobs"),
    Fault.EMPTY_LOGPROBS: _with_logprobs([]),
    Fault.NAN_LOGPROBS: _each_logprob(float("nan")),
    Fault.POSITIVE_LOGPROBS: _each_logprob(3.5),
    Fault.WRONG_LOGPROBS: _with_logprobs(["Yes"]),
    Fault.BEYOND_TOP: _beyond_top,
}
"""What is wrong with an answer that comes all the same."""
