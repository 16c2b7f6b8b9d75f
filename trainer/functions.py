"""Reward functions of one's own that run inside the trainer, beside those of a server.

TRL passes `completion_ids`, every column and three helpers to every reward function; the classic ones, with signatures
such as `(completions, prompts)`, crash on them. The wrapper here passes what a signature takes, and nothing else.
"""

from __future__ import annotations

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


class LocalFunction:
    """A function as TRL calls one: given what its signature takes, and known to the metrics by a name of its own.

    It can be pickled where its function can, and always where the function's place is known: TRL's `async_grpo` calls
    reward functions in a process of their own.
    """

    def __init__(self, name: str, function: RewardFunction, place: tuple[str, Path] | None = None) -> None:
        """Wraps `function`; `place` is where `load_function` has it from."""
        self.__name__ = name  # what TRL calls its metrics
        self.__wrapped__ = function  # `inspect.signature` looks here
        self._accepted = _accepted(function)
        self._place = place

    def __call__(self, **given: Any) -> Any:
        """Calls the function with those of TRL's keywords that it takes."""
        return self.__wrapped__(**self._arguments(given))

    def __reduce__(self) -> tuple[Any, ...]:
        if self._place is None:
            return for_trl, (self.__name__, self.__wrapped__)
        return load_for_trl, (self.__name__, *self._place)

    def _arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        return (
            given if self._accepted is None else {key: value for key, value in given.items() if key in self._accepted}
        )


class AsyncLocalFunction(LocalFunction):
    """A `LocalFunction` that is awaited. TRL knows it by its `__call__`."""

    async def __call__(self, **given: Any) -> Any:
        """Awaits the function with those of TRL's keywords that it takes."""
        return await self.__wrapped__(**self._arguments(given))


def for_trl(name: str, function: RewardFunction, place: tuple[str, Path] | None = None) -> LocalFunction:
    """Returns `function` as TRL calls one, known to the metrics as `name`; `place` is where `load_function` has it from."""
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)
    return (AsyncLocalFunction if is_async else LocalFunction)(name, function, place)


def load_for_trl(name: str, reference: str, folder: Path) -> LocalFunction:
    """Returns what `load_function` finds as TRL calls it, known to the metrics as `name`. Raises `ConfigError`."""
    return for_trl(name, load_function(reference, folder), (reference, folder))


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
