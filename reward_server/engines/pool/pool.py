"""A pool of hosts of one model: what all engines do alike."""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Literal

import structlog

from reward_server.domain import Health
from reward_server.engines.base import ChatMessage, T, Work
from reward_server.engines.model_host import ModelHost
from reward_server.engines.pool.dispatch import Dispatch, Errand
from reward_server.engines.pool.errands import Errands
from reward_server.engines.pool.parallelism import Parallelism
from reward_server.engines.pool.pooled_host import PooledHost
from reward_server.errors import EngineError, ModelChanged

START_TIMEOUT_S: Final = 30.0
"""A start waits so long for its hosts; they go on getting ready in the background."""

OnModelChange = Literal["refuse", "new_version"]

log = structlog.get_logger(__name__)


class EnginePool(abc.ABC):
    """An `Engine` over hosts of one model. A kind of engine gives it the hosts, `kind`, `Options` and `identity`.

    Args:
        name: the engine's name in the configuration.
        hosts: at least one, all for the same model and options.
        context_tokens: see `Engine.context_tokens`.
        in_flight: works at each host at a time; None = found by measuring.
        max_in_flight: what is found is never more than this.
        on_model_change: what happens when another model is found behind the name: its host is held out (`refuse`), or
            it is taken once no host with the one before is left (`new_version`; `digest` and the identity change).
    """

    kind: ClassVar[str]

    def __init__(
        self,
        name: str,
        hosts: Sequence[ModelHost],
        *,
        context_tokens: int | None,
        in_flight: int | None = None,
        max_in_flight: int = 64,
        on_model_change: OnModelChange = "refuse",
    ) -> None:
        self.name = name
        self._context_tokens = context_tokens
        self._on_model_change = on_model_change
        self._digest: str | None = None
        self._digest_host = ""  # where it was seen
        self._beginnings: list[Sequence[ChatMessage]] = []
        most = in_flight or max_in_flight
        self._hosts = tuple(
            PooledHost(host, Parallelism(most, in_flight or host.slots, fixed=in_flight is not None), self, most)
            for host in hosts
        )
        self._dispatch = Dispatch(self._hosts)
        self._errands = Errands(name, self._dispatch, lambda digest: digest == self._digest)

    @property
    def context_tokens(self) -> int | None:
        """Returns how many tokens prompt and answer may have together, None where the host decides."""
        return self._context_tokens

    @property
    def digest(self) -> str | None:
        """Returns the digest of the model that is served; None until a host has told it, or where none can."""
        return self._digest

    @property
    def gives_logprobs(self) -> bool | None:
        """Returns whether its hosts tell log-probabilities: any that was asked; None until one was.

        What a host without them answers is of no use to who needs them, and is asked again at another.
        """
        known = [host.gives_logprobs for host in self._hosts if host.gives_logprobs is not None]
        return any(known) if known else None

    @abc.abstractmethod
    def identity(self) -> Mapping[str, Any]:
        """Returns, as JSON-able data, what shapes an answer."""

    def keep_warm(self, messages: Sequence[ChatMessage]) -> None:
        """Names a beginning that many prompts share. Before `start`."""
        if tuple(messages) not in self._beginnings:
            self._beginnings.append(tuple(messages))

    async def start(self) -> None:
        """Begins to get all hosts ready, and returns when they are, or have failed to be, or take long."""
        self._errands.open()
        for host in self._hosts:
            host.keep(self._beginnings)
        await asyncio.wait([asyncio.ensure_future(host.bring_up()) for host in self._hosts], timeout=START_TIMEOUT_S)

    async def close(self) -> None:
        """Ends all work, which fails, and closes the hosts. Nothing is left running."""
        await self._errands.close()
        await asyncio.gather(*(host.close() for host in self._hosts))
        self._dispatch.close()

    async def check(self) -> Health:
        """Has every host looked at anew, and proven where it is not ready; returns what is known then."""
        await asyncio.gather(*(host.bring_up() for host in self._hosts))
        return self.health()

    def health(self) -> Health:
        """Returns whether any host is ready, and what is wrong with the others."""
        troubles = [str(host.trouble) for host in self._hosts if host.trouble is not None]
        ready = [host for host in self._hosts if host.trouble is None]
        cautions = [host.caution for host in ready if host.caution]
        if self.gives_logprobs:
            without = [host.label for host in ready if host.gives_logprobs is False]
            cautions += [f"{label}: it tells no log-probabilities, as other hosts do: update it" for label in without]
        return Health(serving=len(troubles) < len(self._hosts), reason="; ".join(troubles + cautions))

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int | None:
        """Returns how many tokens a prompt has, as the first host that is ready counts them; None where it can't."""
        for host in self._hosts:
            if host.trouble is None:
                return await host.host.count_tokens(messages)
        return None

    # ------------------------------------------------------------------ work

    async def run(
        self,
        work: Work[T],
        *,
        affinity: str,
        deadline: Callable[[], float],
        patience_s: float,
        attempts: int,
    ) -> T:
        """Returns what the work returns, done at one host that was the same model before and after it.

        See `Engine.run`. Where the served model changes for good while the work waits, it raises `ModelChanged`: its
        result would not be what `identity` promised when it was asked for.
        """
        now_s = asyncio.get_running_loop().time()
        errand = Errand(affinity, deadline, patience_s, entered_s=now_s, digest=self._digest)
        return await self._errands.run(work, errand, attempts)

    # ------------------------------------------------------------------ what hosts ask

    def objection(self, host: PooledHost, digest: str | None) -> EngineError | None:
        """Returns why a host with this digest must not serve; None if it may. The first host seen decides."""
        if digest in (None, self._digest):
            return None
        if self._digest is None or self._takes_new_version(host):
            self._serve_digest(host, digest)
            return None
        return ModelChanged(
            f"{host.label}: its model has the digest {digest}, and engine `{self.name}` serves {self._digest} (seen at "
            f"{self._digest_host}). Pull the same model at all hosts, or restart the server to serve the new one, or "
            f"set engines.{self.name}.on_model_change to new_version"
        )

    def work_waits(self) -> bool:
        """Tells whether any work waits for a place."""
        return len(self._dispatch.line) > 0

    def changed(self) -> None:
        """Serves the line by what is known of the hosts now."""
        self._dispatch.serve()

    def answered(self) -> None:
        """Notes that a host has answered: patience begins anew."""
        self._dispatch.out_since_s = None

    def _takes_new_version(self, seen_at: PooledHost) -> bool:
        """Tells whether another digest is taken over: as configured, and once no host can serve the present one."""
        others = (host for host in self._hosts if host is not seen_at)
        return self._on_model_change == "new_version" and not any(host.can_serve(self._digest) for host in others)

    def _serve_digest(self, host: PooledHost, digest: str | None) -> None:
        """Makes a digest the one that is served. Work meant for the one before fails: its results are not wanted."""
        before, self._digest, self._digest_host = self._digest, digest, host.label
        if before is None:
            return
        log.warning("engine serves another model now", engine=self.name, host=host.label, before=before, now=digest)
        changed = f"engine `{self.name}`: its model changed from {before} to {digest}"
        self._dispatch.fail_all(lambda ticket: ModelChanged(changed) if ticket.errand.digest == before else None)
        for other in self._hosts:
            if other is not host:
                other.hurry()
