"""Where a client's target really is, and what each RPC answers with. Shared by both clients."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import Any, Final

from grpc_health.v1 import health_pb2

from protos.reward.v1 import reward_pb2 as pb
from trainer import local
from trainer.client.diagnose import ENDS_AT_ONCE, tls_mistake
from trainer.client.failures import CONNECTION_BROKE, Failure, in_words
from trainer.client.options import ClientOptions
from trainer.client.steps import Method
from trainer.errors import ClientClosed, ForkedProcess, LocalServerFailed, RewardError, WrongServer

CLOSED: Final = object()
"""Stands where a client's connection was until it was closed."""

MAX_RPCS_AT_ONCE = 4
"""Chunks of one batch that are on their way side by side."""

READ_ANSWER: dict[Method, Callable[[bytes], Any]] = {
    Method.SCORE: pb.ScoreResponse.FromString,
    Method.LIST_REWARDS: pb.ListRewardsResponse.FromString,
    Method.CHECK_HEALTH: health_pb2.HealthCheckResponse.FromString,
}


def client_closed(options: ClientOptions) -> ClientClosed:
    """Returns the error of a call whose client was closed before or meanwhile."""
    return ClientClosed(f"this client of reward server {options.target} was closed; make another one for further calls")


class Endpoint:
    """The address behind a target. For a `local:` target it holds the server process, until closed or forgotten."""

    def __init__(self, options: ClientOptions) -> None:
        """Starts the server process of a `local:` target, which takes seconds.

        Raises:
            LocalServerFailed: It did not start.
            ForkedProcess: A channel made here might crash this process, or hang.
        """
        _refuse_after_fork()
        self._options = options
        self._server: local.LocalServer | None = None
        self.address = options.target
        if options.local_config is not None:
            self._server = local.acquire(options.local_config, options.progress)
            self.address = self._server.address
            self._forgotten = weakref.finalize(self, local.forget, self._server)
            self._forgotten.atexit = False  # what is open then, `local` ends by itself

    def diagnosed(self, failure: Failure) -> RewardError | Failure:
        """Returns the error behind a failure that waiting does not mend, else the failure, perhaps in better words.

        May block for a few seconds.
        """
        if self._server is not None:
            last_words = self._server.last_words_if_ended()
            return failure if last_words is None else LocalServerFailed(last_words)
        if in_words(failure) != CONNECTION_BROKE:
            return failure
        mistake = tls_mistake(self._options, self.address)
        if mistake is None or mistake is ENDS_AT_ONCE:
            return failure if mistake is None else Failure(failure.code, mistake)
        return WrongServer(f"{self._options.target}: {mistake}")

    def close(self) -> None:
        """Lets go of the server process; the last one to do so ends it."""
        if self._server is not None and self._forgotten.detach() is not None:
            local.release(self._server)


_connected_in: set[int] = set()  # a forked child has its parent in it


def _refuse_after_fork() -> None:
    if _connected_in - {os.getpid()}:
        raise ForkedProcess(
            "this process was forked from one that already talks to a reward server, and gRPC does not survive a fork: "
            "start it with multiprocessing.get_context('spawn') (or 'forkserver'), or fork before the first call"
        )
    _connected_in.add(os.getpid())
