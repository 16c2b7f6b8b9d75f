"""Asks a server for its health again and again, in a thread, while a test does something to it."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Self

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

SERVING = "SERVING"


class HealthPings:
    """`answers` has what came: SERVING, another status, or the name of gRPC's error."""

    def __init__(self, target: str, *, every_s: float = 0.05, timeout_s: float = 5.0) -> None:
        self.answers: list[str] = []
        self._target = target
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _ask(self) -> None:
        with grpc.insecure_channel(self._target) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while not self._over.wait(self._every_s):
                self.answers.append(self._answer(health))

    def _answer(self, health: health_pb2_grpc.HealthStub) -> str:
        try:
            answer = health.Check(health_pb2.HealthCheckRequest(), timeout=self._timeout_s)
        except grpc.RpcError as error:
            return str(error.code().name)
        return str(health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status))
