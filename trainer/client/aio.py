"""The asyncio client."""

from __future__ import annotations

import asyncio
import os
from types import TracebackType
from typing import Any, Self, TypeVar, Unpack, cast

import grpc

from trainer.client.base import ClientBase
from trainer.client.batch import Batch, BatchFields
from trainer.client.catalog import Catalog, Health
from trainer.client.channel import channel_options, credentials
from trainer.client.connection import CLOSED, MAX_RPCS_AT_ONCE, READ_ANSWER, Endpoint, client_closed
from trainer.client.failures import Failure
from trainer.client.options import ClientOptions
from trainer.client.steps import Diagnose, Pause, Rpc, Send, Step, Steps
from trainer.client.verdicts import ScoreResult

T = TypeVar("T")


class AioRewardClient(ClientBase):
    """Asks a reward server from asyncio. It may be made anywhere, and connects in the event loop in which it is used.

    Used in several loops, it has a connection in each; `close` closes the running loop's.
    """

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def score(self, **batch: Unpack[BatchFields]) -> ScoreResult:
        """Returns the verdicts on a batch; `BatchFields` says what it takes. Cancelling it cancels it on the server.

        Raises:
            RewardError: See the tree in `trainer.errors`. A sample that could not be scored is no error but a verdict.
        """
        return await self._carry_out(self._dialogue.score(Batch(**batch)))

    def submit(self, **batch: Unpack[BatchFields]) -> AioPendingScore:
        """Sends a batch in the background of the running loop; takes what `score` takes."""
        return AioPendingScore(asyncio.create_task(self.score(**batch)))

    async def list_rewards(self) -> Catalog:
        """Returns what the server offers, asked anew."""
        return await self._carry_out(self._dialogue.list_rewards())

    async def health(self, reward: str = "") -> Health:
        """Returns whether the server, or one reward of it, can serve now. A server that is away is an error at once."""
        return await self._carry_out(self._dialogue.health(reward))

    async def close(self) -> None:
        """Closes the running loop's connection, and lets go of the server process of a `local:` target.

        Calls that other tasks of the loop wait for end with `ClientClosed`.
        """
        connection = self._connections.setdefault(_here(), CLOSED)
        if connection is not CLOSED:
            self._connections[_here()] = CLOSED
            await connection.close()

    async def _carry_out(self, steps: Steps[T]) -> T:
        news: Any = None
        try:
            while True:
                news = await self._perform(steps.send(news))
        except StopIteration as done:
            return cast("T", done.value)

    async def _perform(self, step: Step) -> Any:
        match step:
            case Send(rpcs):
                connection, turn = await self._connected(), asyncio.Semaphore(MAX_RPCS_AT_ONCE)
                return await asyncio.gather(*(connection.call(rpc, turn) for rpc in rpcs))
            case Pause(seconds):
                return await asyncio.sleep(seconds)
            case Diagnose(failure):
                return await asyncio.to_thread((await self._connected()).endpoint.diagnosed, failure)

    async def _connected(self) -> _Connection:
        here = _here()
        known = self._connections.get(here)
        if known is None:
            for pid, loop in list(self._connections):
                if pid == here[0] and loop.is_closed():  # `asyncio.run` leaves them behind
                    del self._connections[pid, loop]
            fresh = _Connection(self._options, await asyncio.to_thread(Endpoint, self._options))
            known = self._connections.setdefault(here, fresh)
            if known is not fresh:  # another task was faster
                await fresh.close()
        if known is CLOSED:
            raise client_closed(self._options)
        return cast("_Connection", known)


class AioPendingScore:
    """A batch on its way."""

    def __init__(self, task: asyncio.Task[ScoreResult]) -> None:
        self._task = task

    async def collect(self) -> ScoreResult:
        """Waits for the verdicts and returns them; raises what `score` raises."""
        return await self._task


class _Connection:
    """A channel of the running event loop."""

    def __init__(self, options: ClientOptions, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self._options = options
        self._closed = False
        tls, settings = credentials(options), channel_options(options)
        self._channel = (
            grpc.aio.insecure_channel(endpoint.address, settings)
            if tls is None
            else grpc.aio.secure_channel(endpoint.address, tls, settings)
        )
        self._calls = {
            method: self._channel.unary_unary(method.value, request_serializer=None, response_deserializer=read)
            for method, read in READ_ANSWER.items()
        }

    async def call(self, rpc: Rpc, turn: asyncio.Semaphore) -> Any:
        """Returns the answer, or a `Failure`."""
        async with turn:
            try:
                return await self._calls[rpc.method](rpc.request, timeout=rpc.timeout_s, metadata=rpc.metadata)
            except grpc.RpcError as error:
                return Failure.of(error, rpc.timeout_s)
            except (asyncio.CancelledError, grpc.aio.UsageError):  # the task was cancelled, or the channel closed
                if self._closed and not _cancelled():
                    raise client_closed(self._options) from None
                raise

    async def close(self) -> None:
        """Closes the channel and lets go of the endpoint, whose server process may take a while to end."""
        self._closed = True
        await self._channel.close(grace=None)
        await asyncio.to_thread(self.endpoint.close)


def _cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _here() -> tuple[int, asyncio.AbstractEventLoop]:
    return os.getpid(), asyncio.get_running_loop()
