"""A reward server for tests of the client: real gRPC on a loopback port, behaviour scripted call by call."""

from __future__ import annotations

import json
import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from protos.reward.v1 import reward_pb2 as pb
from protos.reward.v1 import reward_pb2_grpc

Behaviour = Callable[[pb.ScoreRequest, grpc.ServicerContext], pb.ScoreResponse | None]


def decoded(column: pb.TextColumn) -> list[Any]:
    """Reads a text column the straightforward way the contract describes."""
    texts, extras, roles = list(column.texts), list(column.message_extras_json), list(column.roles)
    items: list[Any] = []
    text_at = message_at = 0
    for count in list(column.message_counts) or [-1] * len(texts):
        if count < 0:
            items.append(texts[text_at].decode())
            text_at += 1
            continue
        messages = []
        for _ in range(count):
            extra = extras[message_at] if extras else b""
            message = {"role": roles[message_at], "content": texts[text_at].decode()}
            messages.append({**message, **(json.loads(extra) if extra else {})})
            text_at += 1
            message_at += 1
        items.append(messages)
    assert text_at == len(texts)
    assert message_at == len(roles)
    return items


class FakeServer(reward_pb2_grpc.RewardServiceServicer):
    """Scores a text by its length, a conversation by its number of messages, unless the script says otherwise."""

    def __init__(self) -> None:
        self.rewards = [pb.Reward(name=name, version=f"{name}-1", kind="length") for name in ("a", "b")]
        self.max_request_bytes = 64 << 20
        self.max_completion_bytes = 1 << 20
        self.script: deque[Callable[[pb.ScoreRequest, grpc.ServicerContext], pb.ScoreResponse | None]] = deque()
        self.requests: list[pb.ScoreRequest] = []
        self.metadata: list[dict[str, str]] = []
        self.list_count = 0
        self.away: dict[str, str] = {}  # rewards that it cannot serve now, and why
        self.before_listing: Callable[[grpc.ServicerContext], object] = lambda _: None
        self.port = 0
        self.credentials: grpc.ServerCredentials | None = None
        self._server: grpc.Server | None = None
        self._lock = threading.Lock()

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> FakeServer:
        self._server = grpc.server(
            futures.ThreadPoolExecutor(16),
            options=[("grpc.max_receive_message_length", -1), ("grpc.so_reuseport", 0)],
        )
        reward_pb2_grpc.add_RewardServiceServicer_to_server(self, self._server)
        self.health = health.HealthServicer()
        self.health.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        address = f"127.0.0.1:{self.port}"
        if self.credentials is None:
            self.port = self._server.add_insecure_port(address)
        else:
            self.port = self._server.add_secure_port(address, self.credentials)
        self._server.start()
        return self

    def stop(self, grace_s: float | None = None) -> None:
        if self._server is not None:
            self._server.stop(grace_s).wait(10)
            self._server = None

    def reward(self, name: str, **fields: Any) -> None:
        """Adds a reward to the offer, or replaces the one of that name."""
        self.rewards = [reward for reward in self.rewards if reward.name != name]
        self.rewards.append(pb.Reward(**{"name": name, "version": f"{name}-1", "kind": "length", **fields}))

    def ListRewards(self, request: Any, context: Any) -> pb.ListRewardsResponse:  # noqa: N802  # the contract's name
        self.list_count += 1
        self.before_listing(context)
        return pb.ListRewardsResponse(
            rewards=map(self._listed, self.rewards),
            max_request_bytes=self.max_request_bytes,
            max_completion_bytes=self.max_completion_bytes,
            server_version="0",
        )

    def _listed(self, reward: pb.Reward) -> pb.Reward:
        listed = pb.Reward()
        listed.CopyFrom(reward)
        if reward.name in self.away:
            listed.health, listed.health_reason = pb.HEALTH_NOT_SERVING, self.away[reward.name]
        return listed

    def Score(self, request: pb.ScoreRequest, context: Any) -> pb.ScoreResponse:  # noqa: N802  # the contract's name
        with self._lock:
            self.requests.append(request)
            self.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
            behave = self.script.popleft() if self.script else None
        answer = behave(request, context) if behave else None
        return answer or self.answer(request)

    def answer(self, request: pb.ScoreRequest) -> pb.ScoreResponse:
        versions = {reward.name: reward.version for reward in self.rewards}
        scores = [float(len(item)) for item in decoded(request.batch.completions)]
        results = [
            unserved(selector.name, len(scores), self.away[selector.name])
            if selector.name in self.away
            else pb.RewardVerdicts(
                name=selector.name,
                version=versions[selector.name],
                scores=scores,
                statuses=[pb.STATUS_SCORED] * len(scores),
            )
            for selector in request.rewards
        ]
        attempt = int(self.metadata[-1].get("reward-attempt", 0))
        return pb.ScoreResponse(results=results, attempt_count=attempt + 1, server_ms=1.5)


def fails(code: grpc.StatusCode, details: str = "as scripted") -> Callable[..., None]:
    """A behaviour that ends the call with that status."""

    def behave(request: pb.ScoreRequest, context: grpc.ServicerContext) -> None:
        context.abort(code, details)

    return behave


def verdicts(name: str, scores: list[float | None], reasons: list[str], **fields: Any) -> pb.RewardVerdicts:
    """Verdicts of which those without a score failed, each with its reason."""
    return pb.RewardVerdicts(
        name=name,
        version=f"{name}-1",
        scores=[math.nan if score is None else score for score in scores],
        statuses=[pb.STATUS_FAILED if score is None else pb.STATUS_SCORED for score in scores],
        status_reasons=list(dict.fromkeys(filter(None, reasons))),
        status_reason_indexes=[1 + list(dict.fromkeys(filter(None, reasons))).index(r) if r else 0 for r in reasons],
        **fields,
    )


def unserved(name: str, count: int, reason: str) -> pb.RewardVerdicts:
    """Verdicts that are all missing, since what would score them is away."""
    return verdicts(name, [None] * count, [reason] * count, blames=[pb.BLAME_OUTAGE] * count)
