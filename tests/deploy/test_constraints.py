"""The constraints, so that today's installation is tomorrow's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = sorted((REPOSITORY / "constraints").glob("*.txt"))
NAMED_BY_TORCH = re.compile(r"(nvidia|cuda|triton)\b")


def pins(path: Path) -> dict[str, str]:
    """Returns version by name; fails on a line that is neither a comment nor an exact pin."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.]*", line) for line in lines)
    found = dict(line.split("==") for line in lines)
    assert len(found) == len(lines), "a name is pinned twice"
    return {canonicalize_name(name): version for name, version in found.items()}


def installed_for(requirement: Requirement, seen: set[tuple[str, frozenset[str]]]) -> Iterator[str]:
    """Yields the names of everything that a requirement brings into this environment, itself included."""
    name = canonicalize_name(requirement.name)
    key = (name, frozenset(requirement.extras))
    if key in seen:
        return
    seen.add(key)
    yield name
    for text in distribution(name).requires or []:
        needed = Requirement(text)
        extras = [*requirement.extras, ""]
        if needed.marker is None or any(needed.marker.evaluate({"extra": extra}) for extra in extras):
            yield from installed_for(needed, seen)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_line_is_an_exact_pin_without_a_local_version(path: Path):
    assert pins(path)


def test_everything_that_an_installation_brings_is_pinned_at_the_version_that_is_tested_here():
    try:
        distribution("grpo-reward-service")
    except PackageNotFoundError:
        pytest.skip("the project is not installed in this environment, only on its path")
    names = set(installed_for(Requirement("grpo-reward-service[dev]"), set())) - {"grpo-reward-service"}
    installed = {name: Version(distribution(name).version).public for name in names if not NAMED_BY_TORCH.match(name)}
    pinned = pins(REPOSITORY / "constraints/newest.txt")
    assert installed == {name: pinned.get(name, "not pinned") for name in installed}
