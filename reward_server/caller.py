"""Who asks, read from a call's metadata: token, experiment, run, step, attempt, deadline."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Mapping
from typing import Any, Final

import grpc.aio

from reward_server.domain import Call
from reward_server.errors import MalformedRequest, Unauthenticated

Metadata = Mapping[str, str | bytes]

MIN_MARGIN_S: Final = 0.1
MARGIN_SHARE: Final = 0.05
"""So much of the time given is kept for the way back of the answer: after the deadline gRPC hands a client nothing."""

MAX_NUMBER: Final = (1 << 31) - 1
"""Two of them and the call itself fit into the answer's 32 bits for attempts."""

MAX_NAME_CHARS: Final = 200
"""Names of experiments and runs are cut to this length: they end in every log line."""


def metadata_of(context: grpc.aio.ServicerContext[Any, Any]) -> Metadata:
    """Returns the metadata that came with a call."""
    return dict(context.invocation_metadata() or ())


def authenticate(metadata: Metadata, token: bytes) -> None:
    """Raises `Unauthenticated` unless the call brings the token. Takes as long for a nearly right one as for any."""
    sent = metadata.get("authorization", "")
    sent_bytes = sent if isinstance(sent, bytes) else sent.encode("utf-8", "surrogateescape")
    scheme, _, given = sent_bytes.partition(b" ")
    if not hmac.compare_digest(given, token) or scheme.lower() != b"bearer":
        fault = "the token is wrong" if given else "this server wants a token"
        raise Unauthenticated(f"{fault}: send the server's own as metadata `authorization: Bearer <token>`")


def call_of(context: grpc.aio.ServicerContext[Any, Any], metadata: Metadata) -> Call:
    """Returns who asks and until when the verdicts must be there: a little before the call's own deadline."""
    return Call(
        answer_by(context.time_remaining()),
        _text(metadata, "reward-experiment"),
        _text(metadata, "reward-run-id"),
        _number(metadata, "reward-step") if "reward-step" in metadata else None,
        _text(metadata, "reward-request-id"),
        1 + _number(metadata, "reward-attempt") + _number(metadata, "grpc-previous-rpc-attempts"),
        context.peer(),
    )


def answer_by(remaining_s: float | None) -> float:
    """Returns when an answer must be ready, on time.monotonic()'s clock, for a call with so much time left."""
    if remaining_s is None:
        return math.inf
    return time.monotonic() + remaining_s - max(MIN_MARGIN_S, MARGIN_SHARE * remaining_s)


def _text(metadata: Metadata, key: str) -> str:
    value = metadata.get(key, "")
    return (value if isinstance(value, str) else value.decode(errors="replace"))[:MAX_NAME_CHARS]


def _number(metadata: Metadata, key: str) -> int:
    text = _text(metadata, key) or "0"
    if not (text.isascii() and text.isdigit()):
        raise MalformedRequest(f"the metadata {key!r} is no decimal number: {text!r}")
    number = int(text)
    if number > MAX_NUMBER:
        raise MalformedRequest(f"the metadata {key!r} is over {MAX_NUMBER}: {text}")
    return number
