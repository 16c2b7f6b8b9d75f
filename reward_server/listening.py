"""The address that a server listens on: TCP or a Unix socket, with or without TLS."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import Final

import grpc
import grpc.aio

from reward_server.config import Limits, ServerConfig, Tls
from reward_server.errors import ConfigError

UNIX: Final = "unix:"
MAX_MESSAGE_BYTES: Final = 2**31 - 1  # gRPC counts them in 32 bits

KEEPALIVE_MS: Final = 60_000
KEEPALIVE_TIMEOUT_MS: Final = 20_000
MIN_CLIENT_PING_MS: Final = 30_000
"""Clients may ping every 60 s, half of that is allowed for; who pings more often is sent away by gRPC."""


def options_of(limits: Limits) -> list[tuple[str, int]]:
    """Returns gRPC's settings for a server."""
    return [
        # One port, one server: with SO_REUSEPORT a second one would start silently and take half of the calls.
        ("grpc.so_reuseport", 0),
        # Larger requests than the limit still come in, up to this, to be told what the limit is and where to raise it.
        ("grpc.max_receive_message_length", min(2 * limits.max_request_bytes, MAX_MESSAGE_BYTES)),
        ("grpc.max_send_message_length", -1),
        # By default gRPC drops calls with a bare CANCELLED when about a thousand wait.
        ("grpc.server.max_pending_requests", limits.max_pending_calls),
        ("grpc.server.max_pending_requests_hard_limit", 2 * limits.max_pending_calls),
        # A client that is gone without a word is noticed, and its calls are cancelled.
        ("grpc.keepalive_time_ms", KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", MIN_CLIENT_PING_MS),
    ]


def check_free(config: ServerConfig) -> None:
    """Raises `ConfigError` if nobody can listen on the address, so that it is known before models are loaded."""
    try:
        if config.listen.startswith(UNIX):
            _clear_socket(Path(config.listen.removeprefix(UNIX)))
        else:
            _try_port(config.listen)
    except OSError as error:
        raise ConfigError(_complaint(config, error)) from error


def listen(server: grpc.aio.Server, config: ServerConfig) -> str:
    """Lets the server listen on the configured address and returns it, with the port that was chosen for port 0."""
    unix = config.listen.startswith(UNIX)
    mask = os.umask(0o177) if unix else None  # so that a socket is from its first moment its owner's alone
    try:
        port = (
            server.add_insecure_port(config.listen)
            if config.tls is None
            else server.add_secure_port(config.listen, _credentials(config.tls))
        )
    except RuntimeError as error:  # gRPC says no more than that it could not
        check_free(config)
        raise ConfigError(f"{config.path}: listen: {config.listen}: {error}") from error
    finally:
        if mask is not None:
            os.umask(mask)
    return config.listen if unix else f"{config.listen.rpartition(':')[0]}:{port}"


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    client_ca = tls.client_ca.read_bytes() if tls.client_ca else None
    pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    return grpc.ssl_server_credentials([pair], client_ca, require_client_auth=client_ca is not None)


def _try_port(address: str) -> None:
    host, _, port = address.rpartition(":")
    resolved = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, place = resolved[0]
    socket.create_server(place[:2], family=family).close()


def _clear_socket(path: Path) -> None:
    """Removes a socket that a server left behind when it was killed. Raises `OSError` if somebody uses the path."""
    try:
        is_socket = stat.S_ISSOCK(path.stat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise OSError(errno.EEXIST, "there is a file of that name, which is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        if probe.connect_ex(str(path)) == 0:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    path.unlink()


def _complaint(config: ServerConfig, error: OSError) -> str:
    remedies = {
        errno.EADDRINUSE: "another server listens there: stop it, or choose another address",
        errno.EACCES: "this user may not listen there: choose a port above 1023, or another folder for the socket",
        errno.EADDRNOTAVAIL: "this machine has no such address: 0.0.0.0 stands for all that it has",
    }
    number = error.errno or 0
    # The interpreter adds the address to its words; a host that can't be resolved has a number below 0.
    fault = os.strerror(number) if number in remedies else error.strerror or str(error)
    remedy = remedies.get(number, "choose another address")
    return f"{config.path}: can't listen on {config.listen} ({fault}): {remedy} (`listen:`, --listen)"
