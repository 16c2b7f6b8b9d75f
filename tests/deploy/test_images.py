"""The Dockerfiles, as far as they can be checked without a Docker engine."""

from __future__ import annotations

import json
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
from command_lines import complaint

REPOSITORY = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted((REPOSITORY / "deploy").glob("Dockerfile.*"))
SCRIPTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """Returns (instruction, arguments), continued lines joined, comments dropped."""
    lines = [line for line in dockerfile.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in joined.splitlines() if line.strip()]


def arguments_of(dockerfile: Path, name: str) -> list[str]:
    """Returns the arguments of every instruction of one name."""
    return [text for instruction, text in instructions(dockerfile) if instruction == name]


def is_sent_to_the_engine(path: str) -> bool:
    """Tells whether .dockerignore lets a path of the repository into the build."""
    sent = True
    for rule in (REPOSITORY / ".dockerignore").read_text().splitlines():
        pattern = rule.lstrip("!")
        if rule and not rule.startswith("#") and (fnmatch(path, pattern) or fnmatch(path, f"{pattern}/*")):
            sent = rule.startswith("!")
    return sent


@pytest.fixture(params=DOCKERFILES, ids=lambda path: path.name)
def dockerfile(request: pytest.FixtureRequest) -> Path:
    return request.param


def test_there_is_one_for_each_side():
    assert [path.name for path in DOCKERFILES] == ["Dockerfile.server", "Dockerfile.trainer"]


def test_what_is_copied_exists_and_is_sent_to_the_engine(dockerfile: Path):
    sources = [text.split() for text in arguments_of(dockerfile, "COPY")]
    copied = [
        word
        for words in sources
        if not any(word.startswith("--from=") for word in words)
        for word in words[:-1]
        if not word.startswith("--") and word != "."
    ]
    for source in copied:
        assert (REPOSITORY / source).exists(), source
        assert is_sent_to_the_engine(source), f"{source} is kept back by .dockerignore"


@pytest.mark.parametrize(
    "needed",
    ["pyproject.toml", "README.md", "LICENSE", "constraints/newest.txt", "protos/reward/v1/reward.proto"],
)
def test_what_the_package_is_built_from_is_sent_to_the_engine(needed: str):
    assert (REPOSITORY / needed).exists()
    assert is_sent_to_the_engine(needed)


@pytest.mark.parametrize("secret", ["deploy/keys/server/server.key", ".git/config", ".venv/bin/python", "runs/x"])
def test_secrets_and_ballast_are_not_sent_to_the_engine(secret: str):
    assert not is_sent_to_the_engine(secret)


def test_stages_that_are_copied_from_are_built_before(dockerfile: Path):
    stages: list[str] = []
    for instruction, text in instructions(dockerfile):
        if instruction == "FROM" and " AS " in text:
            stages.append(text.split(" AS ")[1].strip())
        if instruction == "COPY" and "--from=" in text:
            assert text.split("--from=")[1].split()[0] in stages


def test_it_does_not_run_as_root(dockerfile: Path):
    assert arguments_of(dockerfile, "USER")[-1] not in {"root", "0"}


def test_both_sides_run_as_the_same_user_so_that_they_can_read_the_same_keys():
    made = {word for path in DOCKERFILES for text in arguments_of(path, "RUN") for word in text.split("--uid ")[1:]}
    assert len({word.split()[0] for word in made}) == 1


def test_versions_are_constrained(dockerfile: Path):
    installs = [text for text in arguments_of(dockerfile, "RUN") if "pip install" in text]
    assert installs
    assert all("--constraint constraints/newest.txt" in text for text in installs)


def test_what_it_starts_is_a_command_of_this_project_with_flags_that_exist(dockerfile: Path):
    entrypoint = json.loads(arguments_of(dockerfile, "ENTRYPOINT")[-1])
    command = json.loads(arguments_of(dockerfile, "CMD")[-1])
    assert entrypoint[0] in SCRIPTS
    assert complaint([*entrypoint, *command]) is None


def test_the_server_image_has_a_health_check_of_what_it_copies():
    (check,) = arguments_of(REPOSITORY / "deploy/Dockerfile.server", "HEALTHCHECK")
    words = json.loads(check.split("CMD", 1)[1])
    targets = [text.split()[-1] for text in arguments_of(REPOSITORY / "deploy/Dockerfile.server", "COPY")]
    assert words[1] in targets
