"""A real reward server on a loopback port, inside the test's own event loop, and requests for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc.aio
from small_rewards import config_of, rewards_of

from protos.reward.v1 import reward_pb2 as pb
from protos.reward.v1.reward_pb2_grpc import RewardServiceStub
from reward_server.server import RewardServer

UNLIMITED = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


class Served:
    """A server and a client of it."""

    def __init__(self, server: RewardServer, channel: grpc.aio.Channel) -> None:
        self.server = server
        self.channel = channel
        self.stub = RewardServiceStub(channel)

    async def score(
        self, *rewards: str, texts: Any = ("a", "bb"), metadata: Any = (), timeout_s: float = 10, **batch: Any
    ) -> Any:
        """Returns the answer to a batch of texts."""
        return await self.stub.Score(request(*rewards, texts=texts, **batch), timeout=timeout_s, metadata=metadata)


def request(*rewards: str, texts: Any = ("a", "bb"), **batch: Any) -> pb.ScoreRequest:
    """Returns a request for a batch of texts."""
    column = pb.TextColumn(texts=[text.encode() for text in texts])
    return pb.ScoreRequest(
        rewards=[pb.RewardSelector(name=name) for name in rewards], batch=pb.Batch(completions=column, **batch)
    )


@asynccontextmanager
async def serving(scorers: Mapping[str, type[Any]], *, insecure: bool = False, **parts: Any) -> AsyncIterator[Served]:
    """Yields a server that serves these scorers as rewards of the same names."""
    config = config_of(scorers, **parts)
    async with (
        RewardServer(config, insecure=insecure, rewards=rewards_of(scorers, **parts)) as server,
        grpc.aio.insecure_channel(server.target, options=UNLIMITED) as channel,
    ):
        yield Served(server, channel)
