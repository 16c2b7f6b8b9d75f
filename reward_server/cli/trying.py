"""`reward-server judge try`: one sample scored, and all that was asked and answered on the way."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from reward_server.audit.watching import Exchange, WatchedEngines
from reward_server.cli.narrowing import narrowed, with_judge_alone
from reward_server.cli.rows import read_rows, verdict_fields
from reward_server.cli.showing import labels_of, show
from reward_server.cli.terminal import console, located
from reward_server.config import ServerConfig, load
from reward_server.domain import Call, Sample, Status, Verdict
from reward_server.errors import ConfigError, MalformedRequest
from reward_server.judge.methods import METHODS
from reward_server.registry import ENGINES
from reward_server.reward import RewardInfo
from reward_server.rewards import Rewards
from reward_server.scoring import Selector
from reward_server.telemetry import logs


@dataclass(frozen=True, slots=True)
class Given:
    """The sample, as the command line has it."""

    prompt: str | None
    completions: Sequence[str]  # the one to try, and others of its group
    columns: Sequence[str]  # NAME=TEXT
    data: Path | None
    line: int  # of `data`, from 1
    truncated: bool

    def group(self) -> list[Sample]:
        """Returns the sample, and after it the others of its group. Raises `RewardServerError` for a wrong option."""
        if self.data is not None:
            return self._of_file(self.data)
        if not self.completions:
            raise ConfigError("--completion: give the completion to try, or a file of samples with --data and --line")
        columns = dict(map(_column, self.columns))
        prompt = None if self.prompt is None else _text("--prompt", self.prompt)
        texts = [_text("--completion", text) for text in self.completions]
        truncated = True if self.truncated else None
        return [Sample(text, prompt, columns, truncated=truncated if text is texts[0] else None) for text in texts]

    def _of_file(self, path: Path) -> list[Sample]:
        if self.completions or self.prompt is not None or self.columns:
            raise ConfigError(
                "--data: a line of a file has its own prompt, completion and columns: leave out the others"
            )
        rows = read_rows(path)
        row = next((row for row in rows if row.line == self.line), None)
        if row is None:
            raise MalformedRequest(f"{path}:{self.line}: there is no such line; the last one is {rows[-1].line}")
        others = [each.sample for each in rows if each.sample.group == row.sample.group and each is not row]
        return [row.sample, *others]


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of it."""

    info: RewardInfo
    verdicts: Sequence[Verdict]  # of the sample, then of the others that were compared with it
    exchanges: Sequence[Exchange]
    total_ms: float

    def as_json(self) -> dict[str, Any]:
        """Returns all of it as JSON-able data."""
        return {
            "reward": self.info.name,
            "version": self.info.version,
            "verdict": _verdict(self.verdicts[0]),
            "others": [_verdict(verdict) for verdict in self.verdicts[1:]],
            "total_ms": self.total_ms,
            "exchanges": [_exchange(exchange) for exchange in self.exchanges],
        }


@dataclass(frozen=True, slots=True)
class Trial:
    """What the command line asks for."""

    config: Path
    reward: str | None
    judge: str | None
    given: Given
    timeout_s: float

    def run(self, *, as_json: bool) -> int:
        """Scores the sample and prints what happened; returns 1 if the verdict failed.

        Raises:
            RewardServerError: the configuration, a name, the sample or a column is wrong.
        """
        logs.configure(level="error")
        group = self.given.group()
        config = self._narrowed(load(self.config))
        if not any(_compares(config, name) for name in config.judges):
            group = group[:1]  # nobody looks at the others, and each would be asked about
        with located(config):
            tried = asyncio.run(self._tried(config, group))
        if as_json:
            print(json.dumps(tried.as_json(), indent=2))  # noqa: T201  # its output
        else:
            show(console(), tried.info, tried.verdicts, tried.exchanges, tried.total_ms)
        return 1 if tried.verdicts[0].status is Status.FAILED else 0

    def _narrowed(self, config: ServerConfig) -> ServerConfig:
        if (self.reward is None) == (self.judge is None):
            rewards, judges = ", ".join(config.rewards), ", ".join(config.judges) or "none"
            raise ConfigError(f"--reward: name a reward ({rewards}), or with --judge a judge ({judges})")
        return narrowed(config, self.reward) if self.reward is not None else with_judge_alone(config, self.judge or "")

    async def _tried(self, config: ServerConfig, group: Sequence[Sample]) -> Tried:
        engines = WatchedEngines(ENGINES)
        name = self.reward or self.judge or ""
        async with Rewards(config, engines=engines) as rewards:
            began = time.monotonic()
            call = Call(deadline=began + self.timeout_s)
            found = {index: verdict async for _, index, verdict in rewards.run([Selector(name)], group, call)}
            total_ms = (time.monotonic() - began) * 1000
            info = next(info for info in rewards.describe() if info.name == name)
        return Tried(info, [found[index] for index in range(len(group))], engines.exchanges, total_ms)


def _compares(config: ServerConfig, judge: str) -> bool:
    options = config.judges[judge]
    return any(METHODS[method].compares for method in (options.method, options.if_no_logprobs) if method)


def _column(pair: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not name or not equals:
        raise ConfigError(f"--column: {pair!r} is no column: write NAME=TEXT, as in --column reference=42")
    return name, _text(f"--column {name}", value)


def _text(option: str, given: str) -> str:
    """Returns a text, read from its file where it is given as @FILE."""
    if not given.startswith("@"):
        return given
    path = Path(given[1:])
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{option}: {path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{option}: {path} is not UTF-8 (at byte {error.start})") from None


def _verdict(verdict: Verdict) -> dict[str, Any]:
    return {**verdict_fields(verdict), "blame": verdict.blame.value, "cost": asdict(verdict.cost)}


def _exchange(exchange: Exchange) -> Mapping[str, Any]:
    question, answer, labels = exchange.question, exchange.answer, labels_of(exchange)
    return {
        "engine": exchange.engine,
        "host": exchange.host,
        "attempt": exchange.attempt,
        "messages": [asdict(message) for message in question.messages],
        "max_tokens": question.max_tokens,
        "schema": question.schema,
        "temperature": question.temperature,
        "seed": question.seed,
        "answer": answer and answer.text,
        "finish": answer and answer.finish,
        "error": exchange.error,
        "labels": labels and {"probabilities": dict(labels.probabilities), "mass": labels.mass},
        "prompt_token_count": answer and answer.prompt_token_count,
        "decoded_token_count": answer and answer.decoded_token_count,
        "host_ms": answer and answer.host_ms,
        "queue_ms": exchange.queue_ms,
        "total_ms": exchange.total_ms,
    }
