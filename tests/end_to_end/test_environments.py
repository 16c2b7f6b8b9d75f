"""The two sides apart: each in an environment with its own extra only, from the same wheel, as real processes.

Proves three things at once: that neither side needs the other's libraries, that the wheel is whole, and that they work
together although nothing but the contract is shared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGES = ("protos", "reward_server", "trainer")
CONSTRAINTS = REPOSITORY / "constraints/newest.txt"
TRAINING_STACK = ("torch", "transformers", "trl", "peft", "datasets", "accelerate")
SERVER_PARTS = ("ollama", "xllamacpp", "structlog", "grpc_reflection")

pytestmark = [pytest.mark.network_install, pytest.mark.end_to_end, pytest.mark.timeout(1200)]

IMPORT_EVERYTHING = """
import importlib, pkgutil, sys
package, *allowed = sys.argv[1:]
missing = set()
for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
    if module.name.rpartition(".")[2] == "__main__":
        continue
    try:
        importlib.import_module(module.name)
    except ModuleNotFoundError as error:
        missing.add(error.name)
print("missing:", *sorted(missing - set(allowed)))
"""

FIND = """
import importlib.util, sys
print("found:", *[name for name in sys.argv[1:] if importlib.util.find_spec(name)])
"""

MAKE_TINY_MODEL = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from tiny_policy import save_tiny_policy
save_tiny_policy(Path("model"))
"""

SCORE = """
import json, sys
from trainer.client import RewardClient

with RewardClient(sys.argv[1]) as client:
    result = client.score(rewards=["brevity"], prompts=["Say it."] * 2, completions=["one two three", "one"])
print("scores:", json.dumps(list(result.rewards["brevity"].scores)))
"""

SERVER_YAML = """
rewards:
  brevity: {length: {unit: words, target: 3, width: 4}}
"""

TRAIN_YAML = """
model: {{name: model, lora: null, precision: fp32}}
data: {{prompts: ["Say something.", "Say it again."]}}
rewards: {{server: "{target}", use: {{brevity: 1.0}}}}
grpo:
  max_steps: 2
  num_generations: 2
  per_device_train_batch_size: 4
  max_completion_length: 8
  logging_steps: 1
  use_cpu: true
run: {{folder: run, samples_before_after: 0}}
"""


@dataclass(frozen=True)
class Environment:
    """A virtual environment with one side installed, and a folder to work in that is not the repository."""

    name: str
    folder: Path

    def program(self, name: str) -> str:
        return str(self.folder / "bin" / name)

    def run(self, program: str, *arguments: str, cwd: Path) -> str:
        """Runs a program of this environment and returns what it printed; fails with that where it failed."""
        done = subprocess.run(
            [self.program(program), *arguments],
            cwd=cwd,
            env=outside_the_repository(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{program} {' '.join(arguments)}\n{done.stdout[-6000:]}"
        return done.stdout


def outside_the_repository() -> dict[str, str]:
    """Returns an environment in which nothing of the repository is on a path, and no model hub is asked."""
    kept = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    return {**kept, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Builds the wheel from a copy, so that what earlier builds left in the tree cannot help."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in PACKAGES:
        copytree(REPOSITORY / name, source / name, ignore=ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        (source / name).write_bytes((REPOSITORY / name).read_bytes())
    pip(sys.executable, "wheel", "--no-deps", "--wheel-dir", str(target), str(source))
    (built,) = target.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environments(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Environment]:
    """Installs each side into an environment of its own."""
    made = {}
    for side in ("server", "trainer"):
        folder = tmp_path_factory.mktemp(side) / "venv"
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=120)
        made[side] = Environment(side, folder)
        pip(made[side].program("python"), "install", "--constraint", str(CONSTRAINTS), f"{wheel}[{side}]")
    return made


@pytest.fixture
def server_side(environments: dict[str, Environment]) -> Environment:
    return environments["server"]


@pytest.fixture
def trainer_side(environments: dict[str, Environment]) -> Environment:
    return environments["trainer"]


def pip(python: str, *arguments: str) -> None:
    """Runs pip with this machine's own settings, its cache included."""
    done = subprocess.run(
        [python, "-m", "pip", *arguments], capture_output=True, text=True, timeout=1000, check=False, cwd="/"
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@contextmanager
def serving(side: Environment, folder: Path) -> Iterator[str]:
    """Serves folder/server.yaml from an environment, yields the target, then drains by closing its stdin."""
    ready, log = folder / "ready.json", folder / "server.log"
    command = [side.program("reward-server"), "serve", "--config", "server.yaml", "--listen", "127.0.0.1:0"]
    command += ["--ready-file", str(ready), "--until-stdin-closes"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=outside_the_repository(), stdin=subprocess.PIPE, stdout=output, stderr=output
        )
    try:
        until = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < until, log.read_text()
            time.sleep(0.05)
        yield json.loads(ready.read_text())["target"]
        process.stdin.close()
        assert process.wait(timeout=60) == 0, log.read_text()
    finally:
        process.kill()
        process.wait(timeout=20)


@pytest.fixture
def workplace(tmp_path: Path) -> Path:
    (tmp_path / "server.yaml").write_text(SERVER_YAML)
    return tmp_path


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    files = [path for name in PACKAGES for path in (REPOSITORY / name).rglob("*") if path.is_file()]
    kept = {str(path.relative_to(REPOSITORY)) for path in files if "__pycache__" not in path.parts}
    assert kept - packed == set()


@pytest.mark.parametrize(("side", "foreign"), [("server", TRAINING_STACK), ("trainer", SERVER_PARTS)])
def test_a_side_does_not_bring_the_others_libraries(
    side: str, foreign: tuple[str, ...], environments: dict[str, Environment], tmp_path: Path
):
    assert environments[side].run("python", "-I", "-c", FIND, *foreign, cwd=tmp_path) == "found:\n"


def test_every_module_of_the_server_imports_without_the_training_stack(server_side: Environment, tmp_path: Path):
    # llama.cpp and Reasoning Gym are extras of their own; the suite for scorers needs pytest.
    others = ("xllamacpp", "reasoning_gym", "pytest")
    said = server_side.run("python", "-I", "-c", IMPORT_EVERYTHING, "reward_server", *others, cwd=tmp_path)
    assert said == "missing:\n"


def test_every_module_of_the_trainer_imports_without_the_server_parts(trainer_side: Environment, tmp_path: Path):
    said = trainer_side.run("python", "-I", "-c", IMPORT_EVERYTHING, "trainer", cwd=tmp_path)
    assert said.splitlines()[-1] == "missing:"


def test_the_server_alone_checks_its_configuration(server_side: Environment, workplace: Path):
    assert "brevity" in server_side.run("reward-server", "check", "--config", "server.yaml", cwd=workplace)


def test_a_client_in_the_one_environment_is_answered_by_a_server_in_the_other(
    server_side: Environment, trainer_side: Environment, workplace: Path
):
    with serving(server_side, workplace) as target:
        said = trainer_side.run("python", "-I", "-c", SCORE, target, cwd=workplace)
    assert said.splitlines()[-1] == "scores: [1.0, 0.5]"


def test_a_model_is_trained_in_the_one_against_a_server_in_the_other(
    server_side: Environment, trainer_side: Environment, workplace: Path
):
    trainer_side.run("python", "-I", "-c", MAKE_TINY_MODEL, str(REPOSITORY / "tests/support"), cwd=workplace)
    with serving(server_side, workplace) as target:
        (workplace / "train.yaml").write_text(TRAIN_YAML.format(target=target))
        trainer_side.run("grpo-train", "train", "--config", "train.yaml", cwd=workplace)
    metrics = [json.loads(line) for line in (workplace / "run/metrics.jsonl").read_text().splitlines()]
    scored = [each["rewards/brevity/mean"] for each in metrics if "rewards/brevity/mean" in each]
    assert len(scored) == 2
    assert all(0.0 <= score <= 1.0 for score in scored)
