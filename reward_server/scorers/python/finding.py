"""Finds a person's function: where it lies, what a worker tells of it, and the versions of what it imports."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from reward_server.errors import WorkerDied, WorkRaised, WorkTimedOut
from reward_server.workers import loading
from reward_server.workers.pool import WorkerPool
from reward_server.workers.tasks import Task


async def describe(pool: WorkerPool, target: loading.Target, name: str, timeout_s: float) -> dict[str, Any]:
    """Returns what a worker tells of a function, see `loading.describe`. Raises `ValueError` with why it cannot."""
    try:
        done = await pool.run(Task(loading.describe, (target,), name=name), timeout_s)
    except WorkTimedOut:
        problem = (
            f"importing {target.source} took more than {timeout_s:g} s and was stopped. Does it wait "
            "for something, or train on import? If it needs that long, raise load_timeout_s"
        )
    except WorkerDied as error:
        problem = f"importing {target.source} ended the process: {error}"
    except WorkRaised as error:
        problem = str(error)
    else:
        described: dict[str, Any] = done.value
        return described
    raise ValueError(problem)


def target_of(function: str, folder: Path) -> loading.Target:
    """Returns what `path/to/file.py:function` or `module:function` names; the module may lie in the folder."""
    source, _, name = function.rpartition(":")
    if source.endswith(".py") or "/" in source or "\\" in source:
        path = (folder / Path(source).expanduser()).resolve()
        return loading.Target(str(path), is_file=True, name=name, folder=str(path.parent))
    return loading.Target(source, is_file=False, name=name, folder=str(folder.resolve()))


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """Returns the versions of the installed distributions that these modules come from, by name."""
    if not modules:
        return {}
    providers = _providers()
    names = {name for module in modules for name in providers.get(module, ())}
    return {name: metadata.version(name) for name in sorted(names)}


@functools.cache  # it reads the records of all that is installed
def _providers() -> Mapping[str, Sequence[str]]:
    return metadata.packages_distributions()
