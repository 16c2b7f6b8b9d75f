"""The life of a server: open, serve, drain, close."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from types import TracebackType
from typing import Final, Self

import grpc.aio
import structlog

from reward_server import __version__, listening
from reward_server.config import ServerConfig, check_exposure
from reward_server.health import HealthBoard, add_reflection
from reward_server.rewards import Rewards
from reward_server.servicer import RewardServicer
from reward_server.sharing.repeats import Repeats

FAREWELL_S: Final = 0.3
"""The last answers are on their way to the clients, and those who watch our health hear that it is over."""

UNWIND_S: Final = 2.0
"""A call that was cut off gets this long to clean up."""

log = structlog.get_logger(__name__)


class RewardServer:
    """Serves a configuration. An async context manager: inside it the server answers at `target`.

        async with RewardServer(config) as server:
            await server.serve_until(stop)  # an asyncio.Event

    Args:
        config: the checked configuration.
        insecure: serve other machines even without token and TLS.
        rewards: what is served, if it is not what the configuration says; it must not be open yet.
    """

    def __init__(self, config: ServerConfig, *, insecure: bool = False, rewards: Rewards | None = None) -> None:
        self.target = ""
        self._config = config
        self._insecure = insecure
        self._rewards = rewards or Rewards(config)
        self._token = config.auth.token.get_secret_value() if config.auth else None
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Starts to serve. Raises `ConfigError` for what the configuration or the address makes impossible."""
        check_exposure(self._config, insecure=self._insecure)
        listening.check_free(self._config)
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._rewards)
            repeats = Repeats()
            stack.callback(repeats.close)
            self._servicer = RewardServicer(self._rewards, repeats, self._config.limits, self._token)
            self._board = HealthBoard(self._rewards)
            await self._board.show()
            await self._listen(stack)
            stack.push_async_callback(_cancel, asyncio.create_task(self._board.keep_showing()))
            self._open = stack.pop_all()
        log.info("serving", target=self.target, rewards=self._rewards.names, version=__version__)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stops at once, unless it has drained before, and closes all that was opened."""
        await self._open.aclose()
        log.info("stopped")

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Serves until `stop` is set, then drains: calls that run may finish, none is turned away without notice."""
        await stop.wait()
        drain = self._config.drain
        log.info("draining", calls=self._servicer.call_count, notice_s=drain.notice_s, grace_s=drain.grace_s)
        await self._board.end()
        await asyncio.sleep(drain.notice_s)  # clients that watch our health go elsewhere meanwhile
        refusing = asyncio.create_task(self._server.stop(drain.grace_s))
        with suppress(TimeoutError):
            async with asyncio.timeout(drain.grace_s):
                await self._servicer.idle()
        # Those who watch our health never leave by themselves: without this they would use up the whole grace.
        await self._server.stop(FAREWELL_S)
        await refusing

    async def _listen(self, stack: AsyncExitStack) -> None:
        self._server = grpc.aio.server(options=listening.options_of(self._config.limits))
        self._server.add_generic_rpc_handlers((self._servicer.handlers(),))
        self._board.add_to(self._server)
        add_reflection(self._server, self._token)
        self.target = listening.listen(self._server, self._config)
        stack.push_async_callback(self._stop)
        await self._server.start()

    async def _stop(self) -> None:
        await self._server.stop(None)
        # gRPC tells a handler that it was cut off only after stop() has returned.
        with suppress(TimeoutError):
            async with asyncio.timeout(UNWIND_S):
                await self._servicer.idle()


async def _cancel(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task})
