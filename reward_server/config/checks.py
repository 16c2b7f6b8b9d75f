"""What must fit together: names that refer to one another, and what options name outside the file."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

from pydantic import BaseModel

from protos.configfile import Document, Place, unknown
from reward_server.config.edge import existing_file, token_in_environment
from reward_server.config.models import RewardConfig
from reward_server.judge.options import JudgeOptions
from reward_server.options import Options
from reward_server.views import View

MAX_SUM_DEPTH: Final = 16
"""Rewards made of rewards made of rewards: each level waits inside the one above it."""


def references(judges: Mapping[str, JudgeOptions], rewards: Mapping[str, RewardConfig], document: Document) -> None:
    """Complains of names that nothing has, and of rewards that are made of themselves."""
    for name, judge in judges.items():
        _known("engine", judge.engine, _names("engines", document), ("judges", name, "engine"), document)
    for name, reward in rewards.items():
        place = ("rewards", name, reward.kind)
        for used in judges_used(reward.options):
            _known("judge", used, _names("judges", document), document.find(place, used), document)
        for used in rewards_used(reward.options):
            _known("reward", used, _names("rewards", document), document.find(place, used), document)
    circles = _circles(rewards)
    for circle in circles:
        place = ("rewards", circle[0], rewards[circle[0]].kind)
        words = f"is made of itself: {' -> '.join([*circle, circle[0]])}"
        document.complain(document.find(place, circle[1 % len(circle)]), words)
    for name in [] if circles else _too_deep(rewards):
        words = f"is made of rewards made of others over {MAX_SUM_DEPTH} levels: make it of the lowest ones directly"
        document.complain(("rewards", name, rewards[name].kind), words)


def judges_used(options: BaseModel) -> Collection[str]:
    """Returns the judges that a scorer's options name; those of a plug-in may be any model, and then name none."""
    return options.judges_used() if isinstance(options, Options) else ()


def rewards_used(options: BaseModel) -> Collection[str]:
    """Returns the other rewards that a scorer's options name; see `judges_used`."""
    return options.rewards_used() if isinstance(options, Options) else ()


def view_refused(options: BaseModel, view: View) -> str:
    """Returns why these options do not go with that view; see `judges_used`."""
    return options.view_refused(view) if isinstance(options, Options) else ""


def outside(options: BaseModel, place: Place, folder: Path, document: Document) -> None:
    """Complains of files and environment variables that options name and that are not there; see `Options`."""
    for key, value in options:
        try:
            if isinstance(value, Path):
                existing_file(value, folder)
            elif key.endswith("_env") and isinstance(value, str):
                token_in_environment(value)
            elif isinstance(value, BaseModel):
                outside(value, (*place, key), folder, document)
        except ValueError as error:
            document.complain((*place, key), str(error))


def _names(section: str, document: Document) -> Iterable[str]:
    """Returns the names in a section, those of broken entries too: what is there is not to be called unknown."""
    entries = document.value.get(section)
    return list(entries) if isinstance(entries, dict) else []


def _known(what: str, name: str, names: Iterable[str], place: Place, document: Document) -> None:
    if name not in names:
        document.complain(place, f"{unknown(what, name, names)} (see '{what}s')")


def _circles(rewards: Mapping[str, RewardConfig]) -> list[list[str]]:
    """Returns circles of rewards made of one another, as many as must be broken until there is none."""
    uses = {name: set(rewards_used(reward.options)) for name, reward in rewards.items()}
    circles: list[list[str]] = []
    while True:
        try:
            TopologicalSorter(uses).prepare()
        except CycleError as error:
            circle: list[str] = error.args[1][:0:-1]  # from user to used; the last repeats the first
            circles.append(circle)
            uses[circle[0]].discard(circle[1 % len(circle)])
        else:
            return circles


def _too_deep(rewards: Mapping[str, RewardConfig]) -> list[str]:
    """Returns the rewards that are one level too deep, not those above them; there must be no circles."""
    uses = {name: set(rewards_used(reward.options)) for name, reward in rewards.items()}
    depths: dict[str, int] = {}
    for name in TopologicalSorter(uses).static_order():
        depths[name] = max((1 + depths[used] for used in uses.get(name, ())), default=0)
    return [name for name, depth in depths.items() if depth == MAX_SUM_DEPTH + 1]
