"""How a connection is made: credentials, and the settings of a channel that both clients share."""

from __future__ import annotations

import json
from typing import Any

import grpc

from trainer import __version__
from trainer.client.options import ClientOptions, read_file

SERVICE = "reward.v1.RewardService"
RETRIED = ("UNAVAILABLE", "CANCELLED")
"""What gRPC itself tries again: the connection broke, or the server is going away. Nothing else is safe or useful."""

_KEEPALIVE_MS = 60_000
_KEEPALIVE_TIMEOUT_MS = 20_000
_CONNECT_TIMEOUT_MS = 5_000
_MAX_RECONNECT_BACKOFF_MS = 2_000
_DNS_MIN_INTERVAL_MS = 5_000
_RETRY_BUFFER_BYTES = 2**31 - 1


def service_config() -> str:
    """Returns the retry and load-balancing policy as gRPC's JSON. gRPC itself would check it at the first call only."""
    return json.dumps(
        {
            "loadBalancingConfig": [{"round_robin": {}}],
            "healthCheckConfig": {"serviceName": ""},
            "methodConfig": [
                {
                    "name": [{"service": SERVICE}],
                    "retryPolicy": {
                        "maxAttempts": 5,
                        "initialBackoff": "0.1s",
                        "maxBackoff": "2s",
                        "backoffMultiplier": 2,
                        "retryableStatusCodes": list(RETRIED),
                    },
                }
            ],
        }
    )


def channel_options(options: ClientOptions) -> list[tuple[str, Any]]:
    """Returns a channel's settings."""
    settings: list[tuple[str, Any]] = [
        ("grpc.service_config", service_config()),
        ("grpc.primary_user_agent", f"grpo-reward-service/{__version__}"),
        ("grpc.max_send_message_length", -1),  # the server's limit is in its catalogue
        ("grpc.max_receive_message_length", -1),
        # A request that does not fit this buffer is not retried; the default is 256 KiB.
        ("grpc.per_rpc_retry_buffer_size", _RETRY_BUFFER_BYTES),
        ("grpc.keepalive_time_ms", _KEEPALIVE_MS),
        ("grpc.keepalive_timeout_ms", _KEEPALIVE_TIMEOUT_MS),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.min_reconnect_backoff_ms", _CONNECT_TIMEOUT_MS),  # despite its name, the time a connection may take
        ("grpc.max_reconnect_backoff_ms", _MAX_RECONNECT_BACKOFF_MS),
        ("grpc.dns_min_time_between_resolutions_ms", _DNS_MIN_INTERVAL_MS),  # a restarted server may have moved
        ("grpc.use_local_subchannel_pool", 1),  # connections are no other channel's, nor a forked parent's
    ]
    if options.on_this_machine:
        settings.append(("grpc.enable_http_proxy", 0))  # a proxy from the environment does not lead to loopback
    if options.server_name is not None:
        settings.append(("grpc.ssl_target_name_override", options.server_name))
    return settings


def credentials(options: ClientOptions) -> grpc.ChannelCredentials | None:
    """Returns the TLS credentials, or None for an unencrypted connection."""
    if not options.tls:
        return None
    pem = {
        name: read_file(name, path)
        for name in ("ca_file", "certificate_file", "key_file")
        if (path := getattr(options, name)) is not None
    }
    return grpc.ssl_channel_credentials(pem.get("ca_file"), pem.get("key_file"), pem.get("certificate_file"))
