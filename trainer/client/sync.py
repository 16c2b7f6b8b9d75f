"""The blocking client."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
from trainer.client.steps import Diagnose, Method, Pause, Rpc, Send, Step, Steps
from trainer.client.verdicts import ScoreResult

T = TypeVar("T")


class RewardClient(ClientBase):
    """Asks a reward server. Threads may share one; a pickled copy connects anew.

    ```python
    with RewardClient("gpu-box:8470", token_file="token.txt", tls=True) as client:
        result = client.score(rewards=["brevity"], prompts=["Say hello."], completions=["Hello."])
        print(result.rewards["brevity"].scores)
    ```
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def score(self, **batch: Unpack[BatchFields]) -> ScoreResult:
        """Returns the verdicts on a batch; `BatchFields` says what it takes.

        Raises:
            RewardError: See the tree in `trainer.errors`. A sample that could not be scored is no error but a verdict.
        """
        return self._carry_out(self._dialogue.score(Batch(**batch)))

    def submit(self, **batch: Unpack[BatchFields]) -> PendingScore:
        """Sends a batch and returns, so that scoring and other work overlap; takes what `score` takes.

        The first call asks the server what it offers before that. After an outage, `collect` sends the batch again.
        """
        steps = self._dialogue.score(Batch(**batch))
        try:
            step = next(steps)
            while not _sends_scores(step):
                step = steps.send(self._perform(step))
        except StopIteration as done:  # nothing to send: an empty batch, or missing verdicts from a server that is away
            result = done.value
            return PendingScore(lambda: result)
        flight = _Flight(self._connected(), cast("Send", step).rpcs)
        return PendingScore(lambda: self._carry_out(steps, flight.land()))

    def list_rewards(self) -> Catalog:
        """Returns what the server offers, asked anew."""
        return self._carry_out(self._dialogue.list_rewards())

    def health(self, reward: str = "") -> Health:
        """Returns whether the server, or one reward of it, can serve now. A server that is away is an error at once."""
        return self._carry_out(self._dialogue.health(reward))

    def close(self) -> None:
        """Closes the connection, and ends the server process of a `local:` target unless another client uses it.

        Calls that other threads wait for end with `ClientClosed`.
        """
        connection = self._connections.setdefault(os.getpid(), CLOSED)
        if connection is not CLOSED:
            self._connections[os.getpid()] = CLOSED
            connection.close()

    def _carry_out(self, steps: Steps[T], news: Any = None) -> T:
        try:
            while True:
                news = self._perform(steps.send(news))
        except StopIteration as done:
            return cast("T", done.value)

    def _perform(self, step: Step) -> Any:
        match step:
            case Send((rpc,)):
                return [self._connected().call(rpc)]
            case Send(rpcs):
                return _Flight(self._connected(), rpcs).land()
            case Pause(seconds):
                time.sleep(seconds)
                return None
            case Diagnose(failure):
                return self._connected().endpoint.diagnosed(failure)

    def _connected(self) -> _Connection:
        pid = os.getpid()
        known = self._connections.get(pid)
        if known is None:
            fresh = _Connection(self._options)
            known = self._connections.setdefault(pid, fresh)
            if known is not fresh:  # another thread was faster
                fresh.close()
        if known is CLOSED:
            raise client_closed(self._options)
        return cast("_Connection", known)


class PendingScore:
    """A batch on its way."""

    def __init__(self, finish: Callable[[], ScoreResult]) -> None:
        self._finish = finish
        self._result: ScoreResult | None = None

    def collect(self) -> ScoreResult:
        """Waits for the verdicts and returns them; raises what `score` raises."""
        if self._result is None:
            self._result = self._finish()
        return self._result


class _Connection:
    """A channel."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._closed = False
        self.endpoint = Endpoint(options)
        tls, settings = credentials(options), channel_options(options)
        self._channel = (
            grpc.insecure_channel(self.endpoint.address, settings)
            if tls is None
            else grpc.secure_channel(self.endpoint.address, tls, settings)
        )
        self._calls = {
            method: self._channel.unary_unary(method.value, request_serializer=None, response_deserializer=read)
            for method, read in READ_ANSWER.items()
        }

    def call(self, rpc: Rpc) -> Any:
        """Returns the answer, or a `Failure`."""
        try:
            with self._told_when_closed():
                return self._calls[rpc.method](rpc.request, timeout=rpc.timeout_s, metadata=rpc.metadata)
        except grpc.RpcError as error:
            return Failure.of(error, rpc.timeout_s)

    def start(self, rpc: Rpc) -> Any:
        """Sends an RPC without waiting for its answer."""
        with self._told_when_closed():
            return self._calls[rpc.method].future(rpc.request, timeout=rpc.timeout_s, metadata=rpc.metadata)

    def close(self) -> None:
        """Closes the channel and lets go of the endpoint."""
        self._closed = True
        self._channel.close()
        self.endpoint.close()

    @contextmanager
    def _told_when_closed(self) -> Iterator[None]:
        try:
            yield
        except ValueError:  # of gRPC, for a closed channel
            if self._closed:
                raise client_closed(self._options) from None
            raise


class _Flight:
    """Several RPCs on their way, a few of them side by side."""

    def __init__(self, connection: _Connection, rpcs: Sequence[Rpc]) -> None:
        self._connection = connection
        self._rpcs = rpcs
        self._sent = [connection.start(rpc) for rpc in rpcs[:MAX_RPCS_AT_ONCE]]

    def land(self) -> list[Any]:
        """Waits for all answers and returns each, or its `Failure`, in order."""
        answers = []
        try:
            for index, rpc in enumerate(self._rpcs):
                try:
                    answers.append(self._sent[index].result())
                except grpc.RpcError as error:
                    answers.append(Failure.of(error, rpc.timeout_s))
                self._sent += [self._connection.start(rpc) for rpc in self._rpcs[len(self._sent) :][:1]]
        except BaseException:
            for call in self._sent:
                call.cancel()
            raise
        return answers


def _sends_scores(step: Step) -> bool:
    return isinstance(step, Send) and any(rpc.method is Method.SCORE for rpc in step.rpcs)
