"""All rewards of a run, those of the server and local ones, under one roof: for TRL, for samples, for the record."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from trainer import functions
from trainer.client import Catalog, RewardClient
from trainer.client.options import LOCAL
from trainer.config import ConfigError, TrainConfig
from trainer.rewards import RemoteReward, remote_reward
from trainer.runs import RewardRecord
from trainer.samples import Note
from trainer.thinking import with_opening


def client_options(config: TrainConfig) -> dict[str, Any]:
    """Returns the options of a client of the configured server; paths are absolute. Raises `ConfigError`."""
    rewards = config.rewards
    options: dict[str, Any] = {
        "tls": rewards.tls,
        "server_name": rewards.server_name,
        "insecure": rewards.insecure,
        "experiment": rewards.experiment,
        "deadline_s": rewards.deadline_s,
        "on_outage": rewards.on_outage,
        "outage_limit_s": rewards.outage_limit_s,
    }
    for name in ("token_file", "ca_file", "certificate_file", "key_file"):
        path = getattr(rewards, name)
        options[name] = None if path is None else str(config.at(path))
    if rewards.token_env is not None:
        if rewards.token_env not in os.environ:
            raise ConfigError(f"rewards.token_env: the environment variable {rewards.token_env} is not set")
        options["token"] = os.environ[rewards.token_env]
    return options


def target(config: TrainConfig) -> str:
    """Returns the server's address; the configuration file of a `local:` one as an absolute path."""
    server = config.rewards.server or ""
    if server.startswith(LOCAL):
        return LOCAL + str(config.at(server.removeprefix(LOCAL)))
    return server


def local_server(config: TrainConfig) -> str | None:
    """Returns the configuration file of the server that the run starts for itself, None if it starts none."""
    address = target(config)
    return address.removeprefix(LOCAL) if config.rewards.use and address.startswith(LOCAL) else None


class RewardSet:
    """The rewards of one run. Close it at the end: a server of its own ends with it."""

    def __init__(
        self, config: TrainConfig, run_id: str, progress: Callable[[str], object], *, address: str | None = None
    ) -> None:
        """Connects nowhere yet, but imports the local functions.

        Args:
            config: The run's configuration.
            run_id: What the server calls the run.
            progress: Is told, in words, what takes long.
            address: Where the server is, in place of the configured target: another process has started it.

        Raises:
            ConfigError, BadOptions: The configuration is wrong.
        """
        self.names = config.rewards.names
        self._remote = tuple(config.rewards.use)
        self._weights = dict(zip(self.names, config.rewards.weights, strict=True))
        self._references = {name: each.python for name, each in config.rewards.local.items()}
        self._local = {name: load_local(config, name) for name in config.rewards.local}
        self._target = target(config)
        self._client: RewardClient | None = None
        self._thought_opening = ""
        self.functions: list[functions.RewardFunction] = []
        if self._remote:
            options = client_options(config)
            self._client = RewardClient(address or self._target, run_id=run_id, progress=progress, **options)
            # One by one they are made for the same client, so they still share one call per batch. What is missing
            # stays missing: the run's trainer has a policy for it, for all rewards alike.
            for name in self._remote:
                self.functions.append(remote_reward(self._client, name, missing="none"))
        self.functions += self._local.values()

    def know_end_tokens(self, token_ids: Collection[int]) -> None:
        """Takes the tokens that end a completion: with them the server hears which ones were cut off."""
        for function in self.functions:
            if isinstance(function, RemoteReward):
                function.end_token_ids = frozenset(token_ids)

    def know_thought_opening(self, opening: str) -> None:
        """Takes what the chat template opens of a completion's thinking block: the server is shown it too."""
        self._thought_opening = opening
        for function in self.functions:
            if isinstance(function, RemoteReward):
                function.thought_opening = opening

    def score(
        self, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Sequence[Any]]
    ) -> dict[str, list[Note]]:
        """Returns the verdicts of every reward on (N) completions, with what the scorers say about each."""
        notes: dict[str, list[Note]] = {}
        if self._client is not None:
            result = self._client.score(
                rewards=self._remote,
                prompts=prompts,
                completions=with_opening(completions, self._thought_opening),
                columns=dict(columns),
            )
            for name, scores in result.rewards.items():
                verdicts = zip(scores.scores, scores.reasons, scores.explanations, strict=True)
                notes[name] = [
                    Note(*verdict, tuple(scores.flags_of(sample))) for sample, verdict in enumerate(verdicts)
                ]
        for name, function in self._local.items():
            notes[name] = _local_notes(function, prompts, completions, columns)
        return notes

    def records(self) -> list[RewardRecord]:
        """Returns what each reward is, the server's with the versions they have now."""
        catalog: Catalog | None = None if self._client is None else self._client.list_rewards()
        return [self._record(name, catalog) for name in self.names]

    def versions(self) -> dict[str, str]:
        """Returns, by reward of the server, the version that gave the last scores."""
        known = (each for each in self.functions if isinstance(each, RemoteReward) and each.version)
        return {each.reward: each.version for each in known}

    def close(self) -> None:
        """Closes the connection, and ends the server of a `local:` target."""
        if self._client is not None:
            self._client.close()

    def _record(self, name: str, catalog: Catalog | None) -> RewardRecord:
        if name in self._local or catalog is None:
            return RewardRecord(name, self._weights[name], self._references[name], kind="local function")
        info = catalog.rewards[name]
        return RewardRecord(name, self._weights[name], self._target, info.version, info.kind, info.description)


async def _wait(scores: Awaitable[list[float | None]]) -> list[float | None]:
    return await scores


def load_local(config: TrainConfig, name: str) -> functions.RewardFunction:
    """Returns a configured local function as TRL calls it. Raises `ConfigError`."""
    reference = config.rewards.local[name].python
    return functions.load_for_trl(name, reference, config.path.parent)


def _local_notes(
    function: functions.RewardFunction, prompts: Sequence[Any], completions: Sequence[Any], columns: Mapping[str, Any]
) -> list[Note]:
    """Returns a local function's scores outside of training, where some of what TRL passes is not there."""
    helpers = {"trainer_state": None, "log_extra": lambda *_: None, "log_metric": lambda *_: None}
    try:
        scores = function(prompts=list(prompts), completions=list(completions), **columns, **helpers)
        if inspect.isawaitable(scores):
            with ThreadPoolExecutor(1) as thread:  # in a notebook a loop is running in this one
                scores = thread.submit(asyncio.run, _wait(scores)).result()
        found = [Note(None if score is None else float(score)) for score in scores]
    except Exception as error:  # noqa: BLE001  # a person's own function, which may need what only training has
        return [Note(None, f"{type(error).__name__}: {error}") for _ in completions]
    if len(found) != len(completions):
        return [Note(None, f"it returned {len(found)} scores for {len(completions)} completions") for _ in completions]
    return found
