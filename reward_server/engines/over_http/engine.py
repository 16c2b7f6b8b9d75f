"""What the engines share whose hosts are somewhere else: one credential for all of them, read before anything starts."""

from __future__ import annotations

from collections.abc import Sequence

from reward_server.engines.model_host import ModelHost
from reward_server.engines.over_http.options import HostedOptions
from reward_server.engines.pool.pool import EnginePool
from reward_server.http.credentials import Secret


class HostedEngine(EnginePool):
    """A pool of hosts that are reached by URL.

    Args:
        name: the engine's name in the configuration.
        hosts: one for each URL.
        options: how much is at each at a time, and what a change of the model means.
        secret: the token or key that all of them want.
        context_tokens: see `Engine.context_tokens`.
    """

    def __init__(
        self,
        name: str,
        hosts: Sequence[ModelHost],
        options: HostedOptions,
        secret: Secret,
        *,
        context_tokens: int | None,
    ) -> None:
        self._secret = secret
        super().__init__(
            name,
            hosts,
            context_tokens=context_tokens,
            in_flight=options.slots,
            max_in_flight=options.max_in_flight,
            on_model_change=options.on_model_change,
        )

    async def start(self) -> None:
        """Gets the hosts ready, see `EnginePool.start`. Raises `ConfigError` where the token or key can't be read."""
        self._secret.bearer_header()
        await super().start()
