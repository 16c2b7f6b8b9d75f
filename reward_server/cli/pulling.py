"""`reward-server judge pull`: the models of the configured judges, fetched to their hosts."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TransferSpeedColumn
from rich.text import Text

from reward_server.cli.terminal import console
from reward_server.config import EngineConfig, ServerConfig, load
from reward_server.engines.base import Puller
from reward_server.errors import ConfigError, EngineError
from reward_server.registry import ENGINES
from reward_server.telemetry import logs


def pull(path: Path, judges: Sequence[str]) -> int:
    """Fetches the models of the named judges, or of all; returns 1 if one could not be fetched. Raises `ConfigError`."""
    logs.configure(level="error")
    config = load(path)
    engines = _engines_of(config, judges)
    return asyncio.run(_pull_all(config, engines))


def _engines_of(config: ServerConfig, judges: Sequence[str]) -> dict[str, EngineConfig]:
    """Returns the engines of the named judges, each once."""
    for name in judges:
        if name not in config.judges:
            known = ", ".join(config.judges) or "none"
            raise ConfigError(f"{config.path}: there is no judge {name!r}; there is: {known}")
    if not config.judges:
        raise ConfigError(f"{config.path}: there is no judge in it: add one under 'judges'")
    used = [config.judges[name].engine for name in judges or config.judges]
    return {name: config.engines[name] for name in dict.fromkeys(used)}


async def _pull_all(config: ServerConfig, engines: dict[str, EngineConfig]) -> int:
    out, err = console(), console(stderr=True)
    failed = 0
    for name, engine_config in engines.items():
        engine = ENGINES[engine_config.kind](name, engine_config.options, config.folder)
        if not isinstance(engine, Puller):
            out.print(Text(f"engines.{name}: nothing to fetch for an engine of kind {engine_config.kind}"))
            continue
        try:
            await _pull(engine, name)
        except (EngineError, ConfigError) as error:
            failed += 1
            err.print(Text(config.located(f"engines.{name}: {error}"), style="red"), soft_wrap=True)
        else:
            out.print(Text(f"engines.{name}: the model is there", style="green"))
    return 1 if failed else 0


async def _pull(engine: Puller, name: str) -> None:
    """Fetches one model, with one bar for each part of it that has a size; without a terminal, one line for each."""
    err, on_terminal = console(stderr=True), sys.stderr.isatty()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=err, disable=not on_terminal) as progress:
        async with aclosing(engine.pull()) as steps:
            async for step in steps:
                words = f"{f'{name} ({step.host})' if step.host else name}: {step.status}"
                if words not in bars:
                    bars[words] = progress.add_task(words, total=step.total_bytes)
                    if not on_terminal:
                        err.print(Text(f"engines.{words}"), soft_wrap=True)
                progress.update(bars[words], completed=step.completed_bytes or 0, total=step.total_bytes)
