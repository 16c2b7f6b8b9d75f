"""Lets functions of several folders live in one worker: each sees the modules beside its own file, and no others'.

Two experiments may each have a `rewards.py` and a `utils.py`. Python knows one `utils` a process; without this the
second function would silently be computed with the first one's helper.

Standard library only: worker processes import this.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import ModuleType


class Folders:
    """One folder at a time stands first on `sys.path`, its modules in `sys.modules`; those of the others wait aside."""

    def __init__(self) -> None:
        self._current = ""
        self._aside: dict[str, dict[str, ModuleType]] = {}
        self._kept = {_top(name) for name in sys.modules}  # Python's, the worker's own, preloaded: for all folders

    def enter(self, folder: str) -> None:
        """Makes `folder` the current one."""
        if folder == self._current:
            return
        if self._current:
            self._leave()
        self._current = folder
        sys.path.insert(0, folder)
        sys.modules.update(self._aside.pop(folder, {}))
        importlib.invalidate_caches()

    def _leave(self) -> None:
        with suppress(ValueError):  # a function may have changed the path itself
            sys.path.remove(self._current)
        folder = Path(self._current)
        tops = {name for name, module in list(sys.modules.items()) if self._lies_in(name, module, folder)}
        self._aside[self._current] = {name: sys.modules.pop(name) for name in list(sys.modules) if _top(name) in tops}

    def _lies_in(self, name: str, module: ModuleType, folder: Path) -> bool:
        """Returns whether that is a module or package lying directly in the folder."""
        return "." not in name and name not in self._kept and folder in places(module)


def _top(name: str) -> str:
    return name.partition(".")[0]


def places(module: ModuleType) -> Iterator[Path]:
    """Yields the folders in which a top-level module or package lies; a namespace package has several."""
    packages = getattr(module, "__path__", None)
    if packages is not None:
        yield from (Path(package).parent for package in packages)
    elif file := getattr(module, "__file__", None):
        yield Path(file).parent
