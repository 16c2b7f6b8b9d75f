"""The rewards of a configuration, started and ready to score."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from difflib import get_close_matches
from types import TracebackType
from typing import Any, Final, Self

import structlog
from pydantic import BaseModel

from reward_server.config import RewardConfig, ServerConfig
from reward_server.domain import Call, Health, Sample, Verdict
from reward_server.engines.base import Engine
from reward_server.errors import ConfigError, UnknownReward, VersionMismatch
from reward_server.fitness import check_needs, check_servable
from reward_server.judge.first_question import why_no_verdict
from reward_server.judge.judge import Judge
from reward_server.judge.secret import read_secret
from reward_server.registry import ENGINES, SCORERS, Kinds
from reward_server.reward import Part, Reward, RewardInfo
from reward_server.sandbox.sandboxes import Sandboxes
from reward_server.scorers.base import RewardPart, ScorerContext
from reward_server.scorers.pooled import PooledRule
from reward_server.scoring import Scoring, Selector
from reward_server.sharing.memory import VerdictMemory
from reward_server.telemetry.logs import about
from reward_server.workers.pool import WorkerPool

VERDICT_MEMORY_BYTES: Final = 64 << 20
"""What judges have read is remembered in so much memory: some hundred thousand answers of a label, less of words."""

CLOSE_TIMEOUT_S: Final = 5.0
"""What does not close in this time is left behind, so that a server that stops does stop."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Means:
    """What scorers share to do their work with."""

    pool: WorkerPool
    rule_pool: WorkerPool
    sandboxes: Sandboxes


class Rewards:
    """The compiled recipes of a configuration. An async context manager: what it opens is open inside it.

    Args:
        config: the checked configuration.
        scorers: classes of scorers by kind.
        engines: classes of engines by kind.
        asks_hosts: False = the configuration is only looked at: scorers ask no server elsewhere for anything.
    """

    def __init__(
        self,
        config: ServerConfig,
        *,
        scorers: Mapping[str, type[Any]] = SCORERS,
        engines: Mapping[str, type[Any]] = ENGINES,
        asks_hosts: bool = True,
    ) -> None:
        self._asks_hosts = asks_hosts
        self._config = config
        self._scorer_kinds = scorers
        self._engine_kinds = engines
        self._engines: dict[str, Engine] = {}
        self._judges: Mapping[str, Judge] = {}
        self._rewards: dict[str, Reward] = {}  # each after its parts
        self._tasks: set[asyncio.Task[None]] = set()
        self._open = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Opens workers, engines and scorers. Raises `ConfigError` with all problems that only show now."""
        async with AsyncExitStack() as stack:
            workers = self._config.workers
            hidden_env = _secrets_in_environment(self._config)
            pool = WorkerPool(workers.count, workers.preload, hidden_env=hidden_env)
            rule_pool = WorkerPool(workers.count, self._rule_modules(), hidden_env=hidden_env)
            for each in (pool, rule_pool):
                await stack.enter_async_context(each)
            sandboxes = Sandboxes(self._config.folder)
            stack.push_async_callback(_close, "sandboxes", sandboxes.close)
            self._make_engines()
            memory = VerdictMemory(VERDICT_MEMORY_BYTES)
            self._judges = self._made_judges(memory)
            self._compile(
                Means(pool, rule_pool, sandboxes)
            )  # before engines start: judges tell them what to have ready
            await self._start_engines(stack)
            stack.push_async_callback(memory.close)
            await self._start_scorers(stack)
            await self._start_judges(stack)
            stack.push_async_callback(self._end_tasks)  # runs first
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes all of it, in reverse order, whatever fails on the way."""
        await self._open.aclose()

    @property
    def names(self) -> list[str]:
        """Returns the rewards' names in the order of the configuration."""
        return list(self._config.rewards)

    def describe(self) -> list[RewardInfo]:
        """Returns what a trainer is told of each reward, in the order of the configuration."""
        return [self._rewards[name].info() for name in self._config.rewards]

    def health(self) -> dict[str, Health]:
        """Returns by name whether each reward can score now, from what is known; asks nobody."""
        return {name: self._rewards[name].health() for name in self._config.rewards}

    async def check(self) -> None:
        """Asks the hosts of all judges whether they can serve; `health` then knows."""
        await asyncio.gather(*(engine.check() for engine in self._engines.values()))

    async def try_judges(self) -> dict[str, str]:
        """Asks each judge that can serve a plain question; returns by name why it gave no verdict, empty where it did."""
        serving = {name: judge for name, judge in self._judges.items() if judge.health().serving}
        reasons = await asyncio.gather(*map(why_no_verdict, serving.values()))
        return dict(zip(serving, reasons, strict=True))

    def begin(self, selectors: Sequence[Selector], samples: Sequence[Sample], call: Call) -> Scoring:
        """Starts to score and returns at once. The caller closes what it gets.

        Raises:
            UnknownReward: there is no reward of such a name.
            VersionMismatch: a reward is not at the version expected.
            NotServable: a reward can give no verdict on this machine as it is.
            MissingColumn: a reward needs a column, or prompts, that the samples lack.
        """
        rewards = [self._selected(selector) for selector in selectors]
        for reward in rewards:
            check_servable(reward)
            check_needs(reward, samples)
        scoring = Scoring(samples, call, self._tasks, self._config.limits.max_completion_bytes)
        scoring.ask(rewards)
        return scoring

    async def run(
        self, selectors: Sequence[Selector], samples: Sequence[Sample], call: Call
    ) -> AsyncIterator[tuple[str, int, Verdict]]:
        """Yields (reward's name, position of the sample, verdict) for each of both, as they come, until the deadline.

        Raises what `begin` raises.
        """
        scoring = self.begin(selectors, samples, call)
        try:
            async for results in scoring.arriving():
                for result in results:
                    for index, verdict in zip(result.indexes or (), result.verdicts, strict=True):
                        yield result.name, index, verdict
        finally:
            scoring.close()

    def _selected(self, selector: Selector) -> Reward:
        reward = self._rewards.get(selector.name)
        if reward is None:
            close = get_close_matches(selector.name, self._rewards, n=1)
            guess = f" Did you mean {close[0]!r}?" if close else ""
            raise UnknownReward(
                f"there is no reward {selector.name!r}.{guess} This server has: {', '.join(self.names)}"
            )
        if selector.expected_version and selector.expected_version != reward.version():
            raise VersionMismatch(
                f"the reward {selector.name!r} is at version {reward.version()} and not at {selector.expected_version}: "
                "its recipe, a function's source or a judge's model has changed since. Ask ListRewards for the versions"
            )
        return reward

    def _make_engines(self) -> None:
        for name, config in self._config.engines.items():
            self._engines[name] = self._engine_kinds[config.kind](name, config.options, self._config.folder)

    async def _start_engines(self, stack: AsyncExitStack) -> None:
        """Starts all engines at once: each may wait for a host that is away. Raises `ConfigError` with all problems."""
        for name, engine in self._engines.items():
            stack.push_async_callback(_close, f"engine {name!r}", engine.close)
        starts = (engine.start() for engine in self._engines.values())
        outcomes = await asyncio.gather(
            *starts, return_exceptions=True
        )  # all end, so that none starts while others close
        problems = [problem for each in outcomes if isinstance(each, ConfigError) for problem in each.problems]
        for outcome in outcomes:
            if isinstance(outcome, BaseException) and not isinstance(outcome, ConfigError):
                raise outcome
        if problems:
            raise ConfigError(*problems)

    async def _start_judges(self, stack: AsyncExitStack) -> None:
        """Begins what judges do in the background: from now on they ask, and not before their engines have started."""
        for name, judge in self._judges.items():
            await judge.start()
            stack.push_async_callback(_close, f"judge {name!r}", judge.close)

    def _rule_modules(self) -> list[str]:
        """Returns the modules of the rules that run in workers, which each of these has imported from the start."""
        kinds = {self._scorer_kinds[config.kind] for config in self._config.rewards.values()}
        rules = [kind for kind in kinds if issubclass(kind, PooledRule)]
        return sorted({name for kind in rules for name in (kind.__module__, *getattr(kind, "preload", ()))})

    def _compile(self, means: Means) -> None:
        for config in self._config.rewards.values():
            self._compile_one(config, means)

    def _made_judges(self, memory: VerdictMemory) -> dict[str, Judge]:
        """Makes the judges; only where there are some a secret is needed. Raises `ConfigError` with all problems."""
        config = self._config
        if not config.judges:
            return {}
        secret = read_secret(config.secret_file)
        judges: dict[str, Judge] = {}
        problems: list[str] = []
        for name, options in config.judges.items():
            try:
                judges[name] = Judge(
                    name, options, self._engines[options.engine], config.folder, secret=secret, memory=memory
                )
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(*problems)
        return judges

    def _compile_one(self, config: RewardConfig, means: Means) -> Reward:
        """Makes a reward, and before it those that it is made of."""
        if config.name in self._rewards:
            return self._rewards[config.name]
        parts: set[str] = set()

        def part(name: str) -> RewardPart:
            parts.add(name)
            return Part(self._compile_one(self._config.rewards[name], means), self._tasks)

        context = ScorerContext(
            config.name,
            self._config.folder,
            means.pool,
            self._judges,
            part,
            config.floor,
            means.rule_pool,
            means.sandboxes,
            self._asks_hosts,
        )
        scorer = self._scorer_kinds[config.kind](config.options, context)
        origin = self._scorer_kinds.origin(config.kind) if isinstance(self._scorer_kinds, Kinds) else ""
        reward = self._rewards[config.name] = Reward(config, scorer, frozenset(parts), origin)
        return reward

    async def _start_scorers(self, stack: AsyncExitStack) -> None:
        problems: list[str] = []
        for name, reward in self._rewards.items():
            stack.push_async_callback(_close, f"reward {name!r}", reward.scorer.close)
            try:
                await reward.scorer.start()
                reward.check_floor()
                reward.version()
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(*dict.fromkeys(problems))  # a broken preload stops every reward in the same words

    async def _end_tasks(self) -> None:
        """Cancels what is still being computed and waits for its end."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            _, stubborn = await asyncio.wait(set(self._tasks), timeout=CLOSE_TIMEOUT_S)
            if stubborn:
                log.warning("scorers did not stop", count=len(stubborn), waited_s=CLOSE_TIMEOUT_S)


def _secrets_in_environment(config: ServerConfig) -> set[str]:
    """Returns the environment variables that hold what people's own functions need not find: tokens and keys."""
    options = [entry.options for entries in (config.engines, config.rewards) for entry in entries.values()]
    named = {name for each in options for name in _environment_named_by(each)}
    token = config.auth.token.get_secret_value() if config.auth else None
    return named | {name for name, value in os.environ.items() if value.strip() == token}


def _environment_named_by(options: BaseModel) -> Iterator[str]:
    """Yields the names of environment variables in options, and in options inside them."""
    for key, value in options:
        if isinstance(value, BaseModel):
            yield from _environment_named_by(value)
        elif key.endswith("_env") and isinstance(value, str):
            yield value


async def _close(what: str, close: Callable[[], Awaitable[None]]) -> None:
    """Closes one thing; that it fails or hangs must not keep the others open."""
    try:
        async with asyncio.timeout(CLOSE_TIMEOUT_S):
            await close()
    except Exception as error:  # noqa: BLE001  # whatever it is, the others must be closed too
        log.warning("not closed", what=what, **about(error))
