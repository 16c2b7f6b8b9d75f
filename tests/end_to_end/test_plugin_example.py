"""The example of a scorer as a package: installed, it is a kind like those built in, and its own tests pass."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLUGIN = ROOT / "examples" / "plugin"

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Installs the package into a folder of its own, from nothing but this repository; returns the environment."""
    source = tmp_path_factory.mktemp("source") / "plugin"
    source.mkdir()
    for file in PLUGIN.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts and not any("egg-info" in part for part in file.parts):
            (source / file.relative_to(PLUGIN)).parent.mkdir(parents=True, exist_ok=True)
            (source / file.relative_to(PLUGIN)).write_bytes(file.read_bytes())
    site = tmp_path_factory.mktemp("site")
    options = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site))
    subprocess.run([sys.executable, "-m", "pip", "install", *options, str(source)], check=True)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}


def started(environment, *arguments, folder=ROOT):
    command = [sys.executable, *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def ran(environment, *arguments, folder=ROOT):
    done = started(environment, *arguments, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_kind_is_served_beside_those_built_in(environment, tmp_path):
    rows = [{"completion": "The cat sat on the mat."}, {"completion": "Notwithstanding considerable difficulties."}]
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    command = ("-m", "reward_server", "score", "--config", str(PLUGIN / "server.yaml"), "--reward", "easy")
    out = ran(environment, *command, "--data", str(tmp_path / "samples.jsonl"), "--json")
    easy, hard = (json.loads(line)["verdicts"]["easy"] for line in out.splitlines())
    assert easy["score"] == 1.0
    assert hard["score"] == 0.0


def test_without_it_the_kind_is_unknown():
    command = ("-m", "reward_server", "check", "--config", str(PLUGIN / "server.yaml"))
    done = started(None, *command)
    assert done.returncode != 0
    assert "readability" in done.stdout + done.stderr


@pytest.mark.parametrize("command", ["list", "check"])
def test_it_is_listed_and_checked_as_the_page_says(environment, command):
    out = ran(environment, "-m", "reward_server", command, "--config", "examples/plugin/server.yaml")
    assert "readability" in out
    assert "0 to 1" in out


def test_it_explains_itself(environment):
    out = ran(environment, "-m", "reward_server", "kinds", "readability")
    assert "Flesch's reading ease" in out
    assert "reading ease that scores 1" in out


def test_its_own_tests_pass_the_contract_among_them_and_nothing_warns(environment):
    options = ("-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio")
    out = ran(environment, "-m", "pytest", *options, folder=PLUGIN)
    assert " passed" in out
    assert "warning" not in out


BOASTS = """
from reward_server.domain import Sample, scored
from reward_server.options import Options
from reward_server.scorers.base import Rule
from reward_server.testing import ScorerContract


class Boasts(Rule):
    kind = "boasts"
    Options = Options
    score_range = (0.0, 0.5)

    def __init__(self, options, context):
        pass

    def judge_one(self, sample):
        return scored(1.0)


class TestBoasts(ScorerContract):
    scorer = Boasts
    samples = [Sample("one"), Sample("two")]
"""


def test_who_breaks_the_contract_reads_what_is_wrong_and_not_how_it_was_found(environment, tmp_path):
    (tmp_path / "test_boasts.py").write_text(BOASTS)
    done = started(environment, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, str(tmp_path))
    assert done.returncode == 1
    assert "E       AssertionError: The suite's samples are all scored. But:" in done.stdout
    assert "outside its range 0 to 0.5" in done.stdout
    assert "def no_complaints" not in done.stdout
