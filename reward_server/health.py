"""Health as gRPC's standard service tells it, and reflection: what orchestrators and people with grpcurl ask first.

Health needs no token: those who ask it (Kubernetes, load balancers, gRPC channels) can't bring one, and it tells no
more than whether a name serves. Reflection gives away what the server is, so it wants the token like everything else.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from typing import Any, Final

import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from reward_server.caller import authenticate, metadata_of
from reward_server.domain import HEALTHY, Health
from reward_server.errors import Unauthenticated
from reward_server.refusals import STATUS_OF
from reward_server.rewards import Rewards
from reward_server.servicer import SERVICE, Context
from reward_server.telemetry.logs import about

SHOW_EVERY_S: Final = 2.0
SHUTDOWN_TIMEOUT_S: Final = 1.0

_STATUS: Final = {
    True: health_pb2.HealthCheckResponse.SERVING,
    False: health_pb2.HealthCheckResponse.NOT_SERVING,
}

log = structlog.get_logger(__name__)


class HealthBoard:
    """Keeps gRPC's health service up to date: "" and the service's name for the server, "rewards/<name>" for each.

    Args:
        rewards: whose health is shown. They know it from what they do; nobody is asked here.
        every_s: how long a change may take to be shown.
    """

    def __init__(self, rewards: Rewards, every_s: float = SHOW_EVERY_S) -> None:
        self._rewards = rewards
        self._every_s = every_s
        self._servicer = health.aio.HealthServicer()  # type: ignore[attr-defined]  # its stubs lack `aio`
        self._shown: dict[str, Health] = {}

    def add_to(self, server: grpc.aio.Server) -> None:
        """Adds the health service to a server."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def show(self) -> None:
        """Shows what is known now, and logs what has changed."""
        await self._servicer.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        for name, now in self._rewards.health().items():
            before = self._shown.get(name, HEALTHY)
            if now.serving != before.serving or now.reason != before.reason:
                level = logging.INFO if now.serving else logging.WARNING
                log.log(
                    level, "reward serves" if now.serving else "reward does not serve", reward=name, reason=now.reason
                )
            self._shown[name] = now
            await self._servicer.set(f"rewards/{name}", _STATUS[now.serving])

    async def keep_showing(self) -> None:
        """Shows it every few seconds, until it is cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self.show()
            except Exception as error:  # noqa: BLE001  # a scorer's bug must not freeze the others' health
                log.warning("health not shown", **about(error))

    async def end(self) -> None:
        """Shows for good that nothing serves any more."""
        with suppress(TimeoutError):  # a watcher that does not read holds up the library's update
            async with asyncio.timeout(SHUTDOWN_TIMEOUT_S):
                await self._servicer.enter_graceful_shutdown()


class GuardedReflection(reflection.aio.ReflectionServicer):  # type: ignore[name-defined,misc]  # its stubs lack `aio`
    """Reflection for those who bring the token."""

    def __init__(self, services: Iterable[str], token: str | None) -> None:
        super().__init__(services)
        self._token = None if token is None else token.encode()

    async def ServerReflectionInfo(self, request_iterator: Any, context: Context) -> AsyncIterator[Any]:  # noqa: N802  # the library's name
        """Answers what the services and their messages are."""
        if self._token is not None:
            try:
                authenticate(metadata_of(context), self._token)
            except Unauthenticated as error:
                await context.abort(STATUS_OF[Unauthenticated], str(error))
        async for answer in super().ServerReflectionInfo(request_iterator, context):
            yield answer


def add_reflection(server: grpc.aio.Server, token: str | None) -> None:
    """Adds reflection to a server."""
    services = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(GuardedReflection(services, token), server)
