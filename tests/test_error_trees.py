"""The trees in the docstrings of the error modules show their classes, all of them, in their places."""

from __future__ import annotations

import re
from types import ModuleType

import pytest

import reward_server.errors
import trainer.errors

_LINE = re.compile(r"(?P<branches>[| `-]*)(?P<name>[A-Z][A-Za-z]+)(?:  .*)?")


def drawn(module: ModuleType) -> dict[str, str]:
    """Returns the parent of each error of the docstring's tree."""
    parents: dict[str, str] = {}
    above: list[str] = []  # the line's ancestors
    tree = str(module.__doc__).split("\n\n", 1)[1]
    for line in tree.strip().splitlines():
        match = _LINE.fullmatch(line)
        assert match, line
        depth = len(match["branches"]) // 3
        del above[depth:]
        parents[match["name"]] = above[-1] if above else "Exception"
        above.append(match["name"])
    return parents


def defined(module: ModuleType) -> dict[str, str]:
    """Returns the parent of each error that the module defines."""
    return {
        name: value.__base__.__name__
        for name, value in vars(module).items()
        if isinstance(value, type) and issubclass(value, Exception) and value.__module__ == module.__name__
    }


@pytest.mark.parametrize("module", [trainer.errors, reward_server.errors], ids=lambda module: module.__name__)
def test_the_tree_shows_every_error_under_its_parent(module):
    assert drawn(module) == defined(module)
