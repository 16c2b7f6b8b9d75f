"""The one table that says how the server's errors reach a caller."""

from __future__ import annotations

from typing import Final

import grpc

from reward_server.errors import (
    Busy,
    ConfigError,
    MalformedRequest,
    MissingColumn,
    NotServable,
    PoolClosed,
    RewardServerError,
    TooLarge,
    Unauthenticated,
    UnknownReward,
    VersionMismatch,
)

STATUS_OF: Final[dict[type[RewardServerError], grpc.StatusCode]] = {
    ConfigError: grpc.StatusCode.FAILED_PRECONDITION,
    MalformedRequest: grpc.StatusCode.INVALID_ARGUMENT,
    MissingColumn: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownReward: grpc.StatusCode.NOT_FOUND,
    VersionMismatch: grpc.StatusCode.FAILED_PRECONDITION,
    NotServable: grpc.StatusCode.FAILED_PRECONDITION,
    TooLarge: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Busy: grpc.StatusCode.UNAVAILABLE,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    PoolClosed: grpc.StatusCode.UNAVAILABLE,
}
"""What reaches a caller as a status of the call. Other errors are verdicts of single samples and never get there."""
