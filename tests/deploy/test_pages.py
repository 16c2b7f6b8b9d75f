"""What the pages say against what is there: links, paths, commands, and the snippets of configuration and code."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_lines import PROGRAMS, complaint

import reward_server.config
import trainer.config

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [
    *(REPOSITORY / name for name in ("README.md", "deploy/README.md", "examples/reasoning/README.md")),
    *sorted((REPOSITORY / "docs").glob("*.md")),
]
README = PAGES[0]
METRIC = re.compile(r"reward_server/(\w+_s|attempts|missing)")
"""Of a trainer's log: named like a file of the package, and none."""


def blocks(page: Path, language: str) -> list[str]:
    """Returns the fenced blocks of one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Returns the words of every command of the page's bash blocks, lines continued, comments dropped."""
    lines = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    words = [shlex.split(part, comments=True) for line in lines for part in line.split(" && ")]
    return [each for each in words if each]


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as they are made of Markdown headings on the web."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.fixture(params=PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))
def page(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_links_lead_somewhere(page: Path):
    for link in re.findall(r"\]\(((?!https?:)[^)\s]+)\)", page.read_text()):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_paths_that_are_named_exist(page: Path):
    roots = "protos|trainer|reward_server|tests|benchmarks|examples|deploy|docs|constraints"
    named = re.findall(rf"`((?:{roots})/[\w./@-]*)`", page.read_text())
    named = [path for path in named if not METRIC.fullmatch(path)]
    for path in named + [word for words in commands(page) for word in words if re.match(rf"({roots})/", word)]:
        made_by_hand = path.startswith("deploy/keys")
        assert made_by_hand or (REPOSITORY / path).exists(), path


def test_commands_of_ours_exist_with_their_flags(page: Path):
    for words in commands(page):
        program = Path(words[0]).name
        if program in PROGRAMS:
            assert complaint([program, *words[1:]]) is None, " ".join(words)


def test_make_has_the_verbs_that_are_named(page: Path):
    verbs = set(re.findall(r"^(\w+):", (REPOSITORY / "Makefile").read_text(), flags=re.MULTILINE))
    named = [words[1] for words in commands(page) if words[0] == "make"]
    named += re.findall(r"`make (\w+)", page.read_text())
    assert set(named) <= verbs


def test_what_the_code_imports_can_be_imported(page: Path):
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                assert all(hasattr(import_module(node.module), alias.name) for alias in node.names), block


def test_the_readmes_snippets_make_one_configuration_of_a_server(tmp_path: Path):
    functions = "\n".join(block for block in blocks(README, "python") if "def " in block)
    (tmp_path / "rewards.py").write_text(functions)
    merged = _merged([block for block in _yaml_blocks(README) if "use" not in block.get("rewards", {})])
    (tmp_path / "server.yaml").write_text(yaml.safe_dump(merged))
    _make_keys(tmp_path / "keys")
    config = reward_server.config.load(tmp_path / "server.yaml")
    assert {"brevity", "style", "relevance", "overall"} <= set(config.rewards)
    assert config.tls is not None
    assert config.auth is not None


def test_the_readmes_snippet_of_a_trainer_is_one(tmp_path: Path):
    (snippet,) = [block for block in _yaml_blocks(README) if "use" in block.get("rewards", {})]
    whole = {"model": {"name": "some/model"}, "data": {"prompts": ["Say it."]}, **snippet}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(whole))
    _make_keys(tmp_path / "keys")
    assert trainer.config.load(tmp_path / "train.yaml").rewards.names == ["brevity", "relevance"]


def test_the_trainers_page_has_every_key_of_its_configuration():
    page = (REPOSITORY / "docs/train-config.md").read_text()
    sections = {
        "model": trainer.config.ModelSettings,
        "data": trainer.config.DataSettings,
        "rewards": trainer.config.RewardSettings,
        "run": trainer.config.RunSettings,
    }
    for name, settings in sections.items():
        text = page.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        documented = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\|([^|]*)\|", text, flags=re.MULTILINE))))
        assert documented == set(settings.model_fields), name


def test_the_trainers_page_begins_with_a_whole_configuration(tmp_path: Path):
    (tmp_path / "train.yaml").write_text(blocks(REPOSITORY / "docs/train-config.md", "yaml")[0])
    assert trainer.config.load(tmp_path / "train.yaml").rewards.names == ["brevity"]


def test_the_package_that_the_page_on_scorers_shows_is_the_one_in_examples():
    plugin = REPOSITORY / "examples" / "plugin"
    page = (REPOSITORY / "docs/own-scorer.md").read_text()
    (block,) = [block for block in blocks(REPOSITORY / "docs/own-scorer.md", "python") if "ScorerContract" in block]
    test = (plugin / "tests" / "test_readability.py").read_text()
    assert block.partition("class ")[2] == test.partition("class ")[2]
    for line in re.findall(r"^([\w/.]+)  +\w", page.partition("## A scorer as a package")[2], flags=re.MULTILINE):
        assert (plugin / line).is_file(), line


def _yaml_blocks(page: Path) -> list[dict[str, Any]]:
    return [yaml.safe_load(block) for block in blocks(page, "yaml")]


def _merged(documents: list[dict[str, Any]]) -> dict[str, Any]:
    """Puts top-level sections together; of a section that comes twice both parts are kept."""
    merged: dict[str, Any] = {}
    for document in documents:
        for key, value in document.items():
            merged[key] = {**merged[key], **value} if key in merged and isinstance(value, dict) else value
    return merged


def _make_keys(folder: Path) -> None:
    subprocess.run([REPOSITORY / "deploy/make-keys.sh", folder, "localhost"], check=True, capture_output=True)
