"""From a failed RPC to what it means for the caller."""

from __future__ import annotations

import re
from dataclasses import dataclass

import grpc

from trainer.client.options import ClientOptions
from trainer.errors import (
    DeadlineExceeded,
    NotAllowed,
    NotServed,
    RequestRefused,
    RewardError,
    ServerBroke,
    ServerUnreachable,
    TooLarge,
    UnknownReward,
    WrongServer,
)

Code = grpc.StatusCode


@dataclass(frozen=True, slots=True)
class Failure:
    """How an RPC failed."""

    code: grpc.StatusCode
    details: str

    @classmethod
    def of(cls, error: grpc.RpcError, timeout_s: float) -> Failure:
        """Returns how an RPC with that timeout failed."""
        code, details = error.code(), error.details() or ""
        if code is Code.DEADLINE_EXCEEDED and details in ("", "Deadline Exceeded"):
            details = f"no answer within {timeout_s:g} s"
        return cls(code, details)


ERROR_OF: dict[grpc.StatusCode, type[RewardError]] = {
    Code.CANCELLED: ServerUnreachable,
    Code.UNKNOWN: ServerBroke,
    Code.INVALID_ARGUMENT: RequestRefused,
    Code.DEADLINE_EXCEEDED: DeadlineExceeded,
    Code.NOT_FOUND: UnknownReward,
    Code.ALREADY_EXISTS: ServerBroke,
    Code.PERMISSION_DENIED: NotAllowed,
    Code.RESOURCE_EXHAUSTED: TooLarge,
    Code.FAILED_PRECONDITION: NotServed,
    Code.ABORTED: ServerBroke,
    Code.OUT_OF_RANGE: RequestRefused,
    Code.UNIMPLEMENTED: WrongServer,
    Code.INTERNAL: ServerBroke,
    Code.UNAVAILABLE: ServerUnreachable,
    Code.DATA_LOSS: ServerBroke,
    Code.UNAUTHENTICATED: NotAllowed,
}
"""What each status code is for a caller. Only OK is not in it."""

CONNECTION_BROKE = "the connection broke"

STALE_CODES = frozenset({Code.NOT_FOUND, Code.FAILED_PRECONDITION, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED})
"""What a server answers too when its configuration is no longer the one the client knows."""


def is_outage(failure: Failure) -> bool:
    """Returns whether nobody answered, so that a later try may succeed.

    Some failures that gRPC calls UNAVAILABLE are none: a certificate that is not accepted, or a port where something
    else answers, stays wrong however long one waits. They are told by gRPC's words; where those change, the failure is
    taken for an outage, which ends by itself too.
    """
    return ERROR_OF[failure.code] is ServerUnreachable and _mistake(failure) is None


def error_for(failure: Failure, options: ClientOptions) -> RewardError:
    """Returns the error for a failure, with the server's own words and the remedy."""
    mistake = _mistake(failure)
    if mistake is not None:
        return WrongServer(f"{options.target}: {mistake}")
    kind = ERROR_OF[failure.code]
    return kind("; ".join(filter(None, (f"reward server {options.target}: {in_words(failure)}", _REMEDIES.get(kind)))))


def in_words(failure: Failure) -> str:
    """Returns a failure's cause for a person: gRPC's words shortened where it is well known, else as they are."""
    for pattern, words in _CAUSES:
        if re.search(pattern, failure.details):
            return words
    return failure.details or failure.code.name


def _mistake(failure: Failure) -> str | None:
    """Returns what a person has to mend before any later try can succeed, or None."""
    if failure.code is Code.UNIMPLEMENTED:
        return (
            f"something answers there, but it is no reward server ({failure.details}); check the port, and that client "
            f"and server are of one release"
        )
    if ERROR_OF[failure.code] is not ServerUnreachable:
        return None
    return next((words for pattern, words in _MISTAKES if re.search(pattern, failure.details)), None)


_REMEDIES: dict[type[RewardError], str] = {
    DeadlineExceeded: "it lives, but is too slow: raise deadline_s, send fewer completions at once, or see its load",
    NotAllowed: "give the server's token as token= or token_file=",
    ServerBroke: "see the server's log",
    NotServed: "see what is served with list_rewards(), or `reward-server check` on the server's side",
}

_MISTAKES = (
    (
        r"Expected SETTINGS frame|http1\.x|HTTP/1|http1 ",
        "an HTTP server answers there, no gRPC server; check the port (a reward server's default is 8470)",
    ),
    (
        r"WRONG_VERSION_NUMBER",
        "the server there speaks no TLS; leave out tls=True, or give the server a certificate",
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "the server's certificate has expired, or no authority that this client trusts has signed it; give ca_file=",
    ),
    (
        r"Hostname Verification Check failed|not in peer certificate",
        "the server's certificate is for another host name; give that name as server_name=, or a target that is in it",
    ),
    (
        r"Failed to create security handshaker",
        "the TLS files cannot be used; check that ca_file, certificate_file and key_file hold what their names say",
    ),
)
"""gRPC's words for what no waiting mends, and what a person should hear."""

_CAUSES = (
    (r"Connection refused", "connection refused"),
    (r"before receiving SETTINGS|SETTINGS frame timeout", "it takes connections, but does not answer"),
    (r"attempt timed out|Connection timed out|Timeout occurred|FD Shutdown", "no answer to a connection"),
    (r"address lookup failed|DNS resolution failed|Name or service not known", "its name cannot be resolved"),
    (r"No route to host|Network is unreachable|Host is down", "no route to it"),
    (r"No such file or directory", "its socket file is not there"),
    (r"keepalive", "it stopped answering"),
    (r"health", "it says that it is not serving: starting, draining or stopped"),
    (r"Socket closed|reset by peer|Broken pipe|End of TCP stream|GOAWAY", CONNECTION_BROKE),
)
"""gRPC's words for a cause, and shorter ones; the first that is found counts."""
