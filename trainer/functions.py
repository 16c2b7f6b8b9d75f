"""Reward functions of one's own that run inside the trainer, beside those of a server.

TRL passes `completion_ids`, every column and three helpers to every reward function; the classic ones, with signatures
such as `(completions, prompts)`, crash on them. The wrapper here passes what a signature takes, and nothing else.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from trainer.config import ConfigError

RewardFunction = Callable[..., Any]

ALWAYS_GIVEN = frozenset({"prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric"})
"""What TRL passes besides the columns."""


def load_function(reference: str, folder: Path) -> RewardFunction:
    """Returns the function that `path/to/file.py:function` or `package.module:function` names.

    A file is looked for from `folder`, and modules may be imported from there too. Raises `ConfigError`.
    """
    place, _, name = reference.rpartition(":")
    try:
        module = _module_of_file(folder / place) if place.endswith(".py") else _module(place, folder)
    except ConfigError:
        raise
    except Exception as error:  # whatever a person's own module raises while it is imported
        raise ConfigError(f"{reference}: {place} cannot be imported: {type(error).__name__}: {error}") from error
    function = getattr(module, name, None)
    if not callable(function):
        names = [each for each, value in vars(module).items() if inspect.isfunction(value)]
        there = f"its functions: {', '.join(names)}" if names else "it has no function"
        raise ConfigError(f"{reference}: {place} has no function {name!r}; {there}")
    return cast("RewardFunction", function)


def for_trl(name: str, function: RewardFunction) -> RewardFunction:
    """Returns `function` as TRL calls one: given what its signature takes, and known to the metrics as `name`."""
    accepted = _accepted(function)

    def arguments(given: dict[str, Any]) -> dict[str, Any]:
        return given if accepted is None else {key: value for key, value in given.items() if key in accepted}

    # TRL awaits only what is a coroutine function; an object with an `async __call__` is none.
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):

        @functools.wraps(function)
        async def call_async(**given: Any) -> Any:
            return await function(**arguments(given))

        call_async.__name__ = name
        return call_async

    @functools.wraps(function)
    def call(**given: Any) -> Any:
        return function(**arguments(given))

    call.__name__ = name
    return call


def missing_columns(function: RewardFunction, columns: Iterable[str]) -> list[str]:
    """Returns the columns without which `function` cannot be called and which are not among `columns`."""
    given = ALWAYS_GIVEN | set(columns)
    return [
        name
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is parameter.empty
        and parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
        and name not in given
    ]


def _accepted(function: RewardFunction) -> frozenset[str] | None:
    """Returns the keywords a function takes; None = any."""
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return None
    return frozenset(parameters)


def _module_of_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise ConfigError(f"{path}: there is no such file (rewards.local)")
    name = f"_rewards_of_{path.stem}_{abs(hash(path.resolve()))}"
    if name in sys.modules:
        return sys.modules[name]
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise ConfigError(f"{path}: is no Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # before it runs: dataclasses look their module up
    _importable_from(path.parent)
    try:
        specification.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module(name: str, folder: Path) -> ModuleType:
    _importable_from(folder)
    return importlib.import_module(name)


def _importable_from(folder: Path) -> None:
    """Lets modules be imported from `folder` from now on: functions import their neighbours when they are called, too."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
