"""Finds the files that a function's own code consists of, by the import statements in them.

What is loaded cannot be asked for them: a worker holds the modules of other functions too, and a version must not
depend on which worker was asked. Modules that are imported in another way (`importlib`, a changed `sys.path`) are not
found.

Standard library only: worker processes import this.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import all_suffixes
from pathlib import Path

SUFFIXES = tuple(all_suffixes())


@dataclass(frozen=True, slots=True)
class Sources:
    """The code that one module of a person's runs."""

    files: dict[str, str]  # those that it imports, and those that these import: relative path -> SHA-256
    foreign: list[str]  # names of the modules from elsewhere that they import, without Python's own


def collect(module: Path, root: Path, package: str = "") -> Sources:
    """Returns what a module imports that lies under the folder `root`; if `package` is given, in that one only."""
    files: dict[str, str] = {}
    foreign: set[str] = set()
    around = [folder / "__init__.py" for folder in module.parents if folder != root and folder.is_relative_to(root)]
    waiting = [module, *(file for file in around if file.is_file())]
    while waiting:
        file = waiting.pop()
        relative = file.relative_to(root)
        if relative.as_posix() in files:
            continue
        files[relative.as_posix()] = sha256(file)
        for name in _imported(file, relative.parent.parts):
            top = name.partition(".")[0]
            found = list(_files(root, name)) if package in ("", top) else []
            waiting += found
            if not found:
                foreign.add(top)
    del files[module.relative_to(root).as_posix()]
    return Sources(dict(sorted(files.items())), sorted(foreign - sys.stdlib_module_names))


@functools.cache  # a worker keeps the modules as they were when it first imported them
def sha256(file: Path) -> str:
    """Returns the hash of a file's content; an empty text if it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return ""


def _imported(file: Path, package: tuple[str, ...]) -> Iterator[str]:
    """Yields the full names of what a file of that package imports; the last part may also be a name in a module."""
    if file.suffix != ".py":
        return
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError):  # whoever imports it is told
        return
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = package[: len(package) - level + 1] if level else ()
                place = [*base, *([module] if module else [])]
                yield from (".".join([*place, alias.name]) for alias in names)


def _files(root: Path, name: str) -> Iterator[Path]:
    """Yields the files under the folder that importing this name runs: of the module and of the packages around it."""
    place = root
    for part in name.split("."):
        place /= part
        for file in (place.with_name(part + suffix) for suffix in SUFFIXES):
            if file.is_file():
                yield file
        if (file := place / "__init__.py").is_file():
            yield file
