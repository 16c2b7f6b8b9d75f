"""The table at the top of docs/rewards.md: every kind once, under its heading."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from reward_server.registry import BUILT_IN_SCORERS

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "rewards.md").read_text()
TABLE = PAGE.partition("\n## Which kind for which need\n")[2].partition("\n## ")[0]
HEADINGS = re.findall(r"^## (.*)$", PAGE, flags=re.MULTILINE)


def linked() -> list[tuple[str, str]]:
    """Returns (heading, kind) for each kind that the table links, in its order."""
    found, heading = [], ""
    for line in TABLE.splitlines():
        if group := re.match(r"\| \*\*\[(.*?)\]", line):
            heading = group[1]
        found += [(heading, kind) for kind in re.findall(r"\[`(\w+)`\]\(#reward-\1\)", line)]
    return found


def described() -> list[tuple[str, str]]:
    """Returns (heading, kind) for each kind that the page describes."""
    found, heading = [], ""
    for line in PAGE.splitlines():
        if line.startswith("## "):
            heading = line.removeprefix("## ")
        if line.startswith("### reward "):
            found.append((heading, line.removeprefix("### reward ")))
    return found


@pytest.mark.parametrize("kind", BUILT_IN_SCORERS)
def test_every_registered_kind_is_linked_once(kind: str):
    assert [name for _, name in linked()].count(kind) == 1, f"link [`{kind}`](#reward-{kind}) once in the table"


def test_each_stands_under_the_heading_under_which_it_is_described():
    assert sorted(linked()) == sorted(described())


def test_the_headings_are_those_of_the_page_in_its_order():
    shown = re.findall(r"^\| \*\*\[(.*?)\]", TABLE, flags=re.MULTILINE)
    assert shown == [heading for heading in HEADINGS if heading in {each for each, _ in described()}]
