"""`reward-server check` and `reward-server list`: what a configuration would serve."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import BaseModel
from rich.table import Table
from rich.text import Text

from reward_server.cli.terminal import console, located
from reward_server.config import ServerConfig, check_exposure, load
from reward_server.config.checks import judges_used, rewards_used
from reward_server.domain import HEALTHY, CostClass, Health, Needs
from reward_server.errors import HostUnreachable
from reward_server.registry import ENGINES
from reward_server.reward import RewardInfo
from reward_server.rewards import Rewards
from reward_server.telemetry import logs

UNKNOWN: Final = "-"


class UnaskedEngine:
    """Takes an engine's place where its host is not to be asked nor its model loaded."""

    kind = "unasked"
    context_tokens = None
    gives_logprobs = None

    def __init__(self, name: str, options: BaseModel, folder: Path) -> None:
        """Ignores all of it."""

    def keep_warm(self, messages: object) -> None:
        """Warms nothing."""

    async def start(self) -> None:
        """Starts nothing."""

    async def close(self) -> None:
        """Closes nothing."""

    async def run(self, work: object, **how: object) -> NoReturn:  # noqa: ARG002  # asked like any engine
        """Refuses: only a judge's canaries could ask, and they take it for a host that is away."""
        raise HostUnreachable("its host is not asked here")

    async def count_tokens(self, messages: object) -> None:
        """Asks nobody."""

    async def check(self) -> Health:
        """Asks nobody."""
        return HEALTHY

    def health(self) -> Health:
        """Returns that nothing is known against it."""
        return HEALTHY

    def identity(self) -> Mapping[str, Any]:
        """Returns nothing: a version made of it would be wrong, and is not shown."""
        return {}


def check(path: Path, *, deep: bool, insecure: bool) -> int:
    """Prints what a configuration would serve; returns 1 if some of it can't be. Raises `ConfigError`."""
    config = load(path)
    check_exposure(config, insecure=insecure)
    infos, mute = _described(config, deep=deep, tries=deep)
    out = console()
    out.print(_table(config, infos, deep=deep))
    for note in _notes(config):
        out.print(Text(config.located(note), style="yellow"))
    sick = [info for info in infos if not info.health.serving]
    for info in sick:
        words = config.located(f"rewards.{info.name}: {info.health.reason}")
        console(stderr=True).print(Text(words, style="red"), soft_wrap=True)
    for judge, reason in mute.items():
        words = config.located(f"judges.{judge}: gives no verdict on a plain question: {reason}")
        console(stderr=True).print(Text(words, style="red"), soft_wrap=True)
    if not sick and not mute:
        unasked = "" if deep else _unasked(config, infos)
        asked = f"; {unasked} were not asked (--deep does)" if unasked else ""
        out.print(
            Text(f"{path}: {len(infos)} reward{'s' if len(infos) > 1 else ''}, nothing wrong{asked}", style="green")
        )
    return 1 if sick or mute else 0


def list_rewards(path: Path, *, deep: bool, as_json: bool) -> None:
    """Prints the rewards of a configuration. Raises `ConfigError`."""
    config = load(path)
    infos, _ = _described(config, deep=deep)
    if as_json:
        print(json.dumps([_as_json(info, config, deep=deep) for info in infos], indent=2))  # noqa: T201  # its output
    else:
        console().print(_table(config, infos, deep=deep))
        if not deep and (unasked := _unasked(config, infos)):
            words = f"{unasked} were not asked, on which versions hang: --deep asks them"
            console(stderr=True).print(Text(words, style="dim"))


def _described(
    config: ServerConfig, *, deep: bool, tries: bool = False
) -> tuple[Sequence[RewardInfo], Mapping[str, str]]:
    """Starts the rewards, asks them, and stops them. Raises `ConfigError`.

    Returns what the rewards are, and of judges that were tried and gave no verdict why not, by name.
    """
    logs.configure(level="error")
    with located(config):
        return asyncio.run(_ask(config, deep=deep, tries=tries))


async def _ask(config: ServerConfig, *, deep: bool, tries: bool) -> tuple[Sequence[RewardInfo], Mapping[str, str]]:
    engines = ENGINES if deep else dict.fromkeys(ENGINES, UnaskedEngine)
    async with Rewards(config, engines=engines, asks_hosts=deep) as rewards:
        if deep:
            await rewards.check()
        reasons = await rewards.try_judges() if tries else {}
        return rewards.describe(), {judge: reason for judge, reason in reasons.items() if reason}


def _unasked(config: ServerConfig, infos: Sequence[RewardInfo]) -> str:
    """Names the hosts that only `--deep` asks; empty where there are none."""
    if any(info.cost_class is CostClass.JUDGE and not _judges(config, info.name) for info in infos):
        return "the servers of rewards" + (" and the judges' hosts" if config.judges else "")
    return "the judges' hosts" if config.judges else ""


def _judges(config: ServerConfig, name: str) -> bool:
    """Returns whether judges are asked for a reward or for one of its parts."""
    options = config.rewards[name].options
    return bool(judges_used(options)) or any(_judges(config, part) for part in rewards_used(options))


def _table(config: ServerConfig, infos: Sequence[RewardInfo], *, deep: bool) -> Table:
    table = Table("reward", "kind", "view", "needs", "range", "version", *(["health"] if deep else []))
    for info in infos:
        row = [info.name, info.kind, _view(config, info.name) or UNKNOWN, _needs(info.needs), _range(info)]
        row.append(_version(info, deep=deep) or UNKNOWN)
        row += [("serving" if info.health.serving else "not serving")] if deep else []
        table.add_row(*map(Text, row))
    return table


def _as_json(info: RewardInfo, config: ServerConfig, *, deep: bool) -> dict[str, Any]:
    needs = info.needs
    return {
        "name": info.name,
        "kind": info.kind,
        "view": _view(config, info.name),
        "description": info.description,
        "required_columns": sorted(needs.required_columns),
        "optional_columns": sorted(needs.optional_columns),
        "reads_all_columns": needs.all_columns,
        "reads_prompts": needs.prompts,
        "score_range": info.score_range,
        "cost_class": info.cost_class.value,
        "version": _version(info, deep=deep),
        "health": ("serving" if info.health.serving else "not serving") if deep else None,
        "health_reason": info.health.reason,
    }


def _view(config: ServerConfig, name: str) -> str | None:
    """Returns a reward's view, or None where it is made of others, which have their own."""
    reward = config.rewards[name]
    return None if rewards_used(reward.options) else reward.view.value


def _version(info: RewardInfo, *, deep: bool) -> str | None:
    """Returns the version, or None where it hangs on a judge's model that was not asked."""
    return info.version if deep or info.cost_class is not CostClass.JUDGE else None


def _needs(needs: Needs) -> str:
    """Returns what a reward reads besides completions, in words."""
    words = ["prompts"] if needs.prompts else []
    words += sorted(needs.required_columns)
    words += [f"[{column}]" for column in sorted(needs.optional_columns)]
    words += ["all columns"] if needs.all_columns else []
    return ", ".join(words) or UNKNOWN


def _range(info: RewardInfo) -> str:
    return f"{info.score_range[0]:g} to {info.score_range[1]:g}" if info.score_range else UNKNOWN


def _notes(config: ServerConfig) -> Iterator[str]:
    """Yields what is allowed but perhaps not meant."""
    used_judges = {name for reward in config.rewards.values() for name in judges_used(reward.options)}
    for name in (name for name in config.judges if name not in used_judges):
        yield f"judges.{name}: no reward uses it"
    used_engines = {judge.engine for judge in config.judges.values()}
    for name in (name for name in config.engines if name not in used_engines):
        yield f"engines.{name}: no judge uses it"
