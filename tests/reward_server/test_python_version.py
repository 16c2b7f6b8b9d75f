"""The identity of a person's function, from which its version is made, covers the code that it runs."""

import platform
from importlib import metadata

import pytest
from python_rewards import unstarted, verdicts

from reward_server.domain import Sample, Status
from reward_server.workers.pool import WorkerPool


@pytest.fixture
async def pool():
    async with WorkerPool(1) as pool:
        yield pool


def write(folder, files):
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)


async def identity(pool, folder, function="rewards.py:reward"):
    scorer = unstarted(pool, folder, function)
    await scorer.start()
    return scorer.identity()


REWARD = "def reward(completions): return [1.0] * len(completions)\n"


@pytest.mark.parametrize(
    ("files", "modules"),
    [
        ({"rewards.py": REWARD, "other.py": ""}, []),
        ({"rewards.py": "import utils\n" + REWARD, "utils.py": ""}, ["utils.py"]),
        (
            {"rewards.py": "import one\n" + REWARD, "one.py": "from two import N", "two.py": "N = 1"},
            ["one.py", "two.py"],
        ),
        (
            {
                "rewards.py": "from helpers.deep import words\n" + REWARD,
                "helpers/__init__.py": "",
                "helpers/deep/__init__.py": "",
                "helpers/deep/words.py": "from .. import table\nfrom . import lists",
                "helpers/deep/lists.py": "",
                "helpers/table.py": "",
                "helpers/unused.py": "",
            },
            [
                "helpers/__init__.py",
                "helpers/deep/__init__.py",
                "helpers/deep/lists.py",
                "helpers/deep/words.py",
                "helpers/table.py",
            ],
        ),
        ({"rewards.py": "from spread import part\n" + REWARD, "spread/part.py": ""}, ["spread/part.py"]),
        ({"rewards.py": "import one\n" + REWARD, "one.py": "import rewards"}, ["one.py"]),
        ({"rewards.py": "def reward(completions):\n    import late", "late.py": ""}, ["late.py"]),
    ],
    ids=["none", "beside", "through another", "package", "namespace package", "circle", "inside the function"],
)
async def test_it_names_the_modules_that_are_imported_from_beside_the_file(pool, tmp_path, files, modules):
    write(tmp_path, files)
    assert list((await identity(pool, tmp_path))["modules_sha256"]) == modules


async def test_it_does_not_depend_on_what_the_worker_has_loaded_before(pool, tmp_path):
    write(tmp_path, {"a.py": "import utils\n" + REWARD, "b.py": REWARD, "utils.py": ""})
    await identity(pool, tmp_path, "a.py:reward")
    assert (await identity(pool, tmp_path, "b.py:reward"))["modules_sha256"] == {}


async def test_of_a_module_in_a_package_it_covers_the_package(pool, tmp_path):
    write(
        tmp_path, {"own/__init__.py": "import shared", "own/rewards.py": REWARD, "own/unused.py": "", "shared.py": ""}
    )
    modules = (await identity(pool, tmp_path, "own.rewards:reward"))["modules_sha256"]
    assert list(modules) == ["own/__init__.py", "shared.py"]


async def test_of_an_installed_package_it_covers_that_one_alone_and_its_version(tmp_path, monkeypatch):
    installed = tmp_path / "site-packages"
    files = {
        "ours/__init__.py": "",
        "ours/rewards.py": "import neighbour\nfrom ours import parts\n" + REWARD,
        "ours/parts.py": "",
        "neighbour.py": "",
        "our_rewards-1.2.dist-info/METADATA": "Metadata-Version: 2.1\nName: our-rewards\nVersion: 1.2\n",
        "our_rewards-1.2.dist-info/top_level.txt": "ours\n",
    }
    write(installed, files)
    monkeypatch.syspath_prepend(installed)
    monkeypatch.setattr(
        "reward_server.scorers.python.finding._providers", metadata.packages_distributions
    )  # not known before
    async with WorkerPool(1) as pool:
        got = await identity(pool, tmp_path, "ours.rewards:reward")
    assert list(got["modules_sha256"]) == ["ours/__init__.py", "ours/parts.py"]
    assert got["packages"] == {"our-rewards": "1.2"}


async def test_it_tells_the_versions_of_python_and_of_installed_packages_that_are_imported(pool, tmp_path):
    write(tmp_path, {"rewards.py": "import structlog.testing, json\nfrom yaml import safe_load\n" + REWARD})
    got = await identity(pool, tmp_path)
    assert got["modules_sha256"] == {}
    assert got["packages"] == {name: metadata.version(name) for name in ("PyYAML", "structlog")}
    assert got["python"] == platform.python_version()


async def test_it_changes_with_a_module_that_is_imported(tmp_path):
    write(tmp_path, {"rewards.py": "import utils\n" + REWARD, "utils.py": "N = 1"})
    seen = []
    for text in ("N = 1", "N = 1", "N = 2"):
        write(tmp_path, {"utils.py": text})
        async with WorkerPool(1) as pool:
            seen.append(await identity(pool, tmp_path))
    assert seen[0] == seen[1] != seen[2]


@pytest.mark.parametrize("form", ["rewards.py:reward", "rewards:reward"])
@pytest.mark.parametrize("becomes", ["N = 2", None])
async def test_a_module_that_changes_later_is_refused_by_new_workers_and_not_run(tmp_path, form, becomes):
    text = (
        "import os, utils\ndef reward(completions):\n    os._exit(3) if 'die' in completions else None\n    return [1]"
    )
    write(tmp_path, {"rewards.py": text, "utils.py": "N = 1"})
    async with WorkerPool(1) as pool:
        scorer = unstarted(pool, tmp_path, form)
        await scorer.start()
        (tmp_path / "utils.py").unlink() if becomes is None else (tmp_path / "utils.py").write_text(becomes)
        (before,) = await verdicts(scorer, [Sample("")])
        await verdicts(scorer, [Sample("die")])
        (after,) = await verdicts(scorer, [Sample("")])
    assert before.score == 1.0
    assert after.status is Status.FAILED
    assert not scorer.health().serving
    assert "restart the server" in scorer.health().reason
    assert f"{tmp_path / 'utils.py'} has changed since the server read it: restart the server" in after.status_reason
