"""A configuration reduced to what one reward needs, so that nothing else is started, loaded or asked."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

from reward_server.config import RewardConfig, ServerConfig
from reward_server.config.checks import judges_used, rewards_used
from reward_server.errors import ConfigError, UnknownReward
from reward_server.scorers.judge import JudgeScorer, JudgeScorerOptions

JUDGE_KIND: Final = JudgeScorer.kind


def narrowed(config: ServerConfig, reward: str) -> ServerConfig:
    """Returns the configuration with that reward, its parts, their judges and those judges' engines only.

    Raises:
        UnknownReward: there is no reward of that name.
    """
    if reward not in config.rewards:
        known = ", ".join(config.rewards)
        raise UnknownReward(
            f"{config.path}: there is no reward {reward!r}{_guess(reward, config.rewards)}; it has: {known}"
        )
    kept: dict[str, RewardConfig] = {}
    waiting = [reward]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = config.rewards[name]
            waiting += rewards_used(kept[name].options)
    used = {judge for each in kept.values() for judge in judges_used(each.options)}
    judges = {name: options for name, options in config.judges.items() if name in used}
    engines = {options.engine for options in judges.values()}
    changes = {
        "rewards": kept,
        "judges": judges,
        "engines": {name: engine for name, engine in config.engines.items() if name in engines},
    }
    return config.model_copy(update=changes)


def with_judge_alone(config: ServerConfig, judge: str) -> ServerConfig:
    """Returns the configuration with one reward, of the judge's name: what the judge says and nothing else.

    Raises:
        ConfigError: there is no judge of that name.
    """
    if judge not in config.judges:
        known = ", ".join(config.judges) or "none"
        raise ConfigError(f"{config.path}: there is no judge {judge!r}{_guess(judge, config.judges)}; it has: {known}")
    reward = RewardConfig(name=judge, kind=JUDGE_KIND, options=JudgeScorerOptions(judge=judge))
    return narrowed(config.model_copy(update={"rewards": {judge: reward}}), judge)


def _guess(name: str, names: Iterable[str]) -> str:
    close = get_close_matches(name, list(names), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""
