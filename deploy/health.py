"""Asks a reward server for its health, for a container's health check: exit status 0 means that it serves.

    python health.py TARGET [CA_FILE]

With a CA file that exists the question goes over TLS, without one in plain text. The health service asks for no token.
"""

from __future__ import annotations

import sys
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

TIMEOUT_S = 4.0  # a little less than the HEALTHCHECK's own


def serves(target: str, ca_file: Path | None) -> bool:
    """Returns whether the server at `target` says SERVING. Raises `grpc.RpcError` where it says nothing."""
    if ca_file is not None and ca_file.exists():
        channel = grpc.secure_channel(target, grpc.ssl_channel_credentials(ca_file.read_bytes()))
    else:
        channel = grpc.insecure_channel(target)
    with channel:
        answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> None:
    """Reads the command line and exits with 0 or 1."""
    target, *rest = sys.argv[1:]
    try:
        healthy = serves(target, Path(rest[0]) if rest else None)
    except grpc.RpcError as error:
        raise SystemExit(f"{target}: {error.code().name}: {error.details()}") from None
    if not healthy:
        raise SystemExit(f"{target}: not serving")


if __name__ == "__main__":
    main()
