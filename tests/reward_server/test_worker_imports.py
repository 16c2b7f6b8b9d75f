"""Functions of several folders live in one worker without taking each other's modules."""

from pathlib import Path

import pytest
from python_rewards import unstarted

import reward_server
from reward_server.domain import Call, Sample
from reward_server.workers.pool import WorkerPool
from reward_server.workers.tasks import Task


@pytest.fixture
async def pool():
    async with WorkerPool(1) as pool:
        yield pool


async def ready(pool, folder, function="rewards.py:reward"):
    """Returns a function that awaits the score that the function of that folder gives."""
    scorer = unstarted(pool, folder, function)
    await scorer.start()

    async def score():
        ((_, verdict),) = [item async for item in scorer.score([Sample("")], Call())]
        return verdict.score if verdict.score is not None else verdict.status_reason

    return score


def write(folder, **texts):
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        (folder / f"{name}.py").write_text(text)
    return folder


async def test_a_function_finds_the_modules_beside_its_file(pool, tmp_path):
    write(tmp_path, rewards="import utils\ndef reward(completions): return [utils.N]", utils="N = 1")
    assert await (await ready(pool, tmp_path))() == 1.0


async def test_modules_of_one_name_in_two_folders_stay_apart(pool, tmp_path):
    text = "import utils\ndef reward(completions): return [utils.N]"
    first = await ready(pool, write(tmp_path / "a", rewards=text, utils="N = 1"))
    second = await ready(pool, write(tmp_path / "b", rewards=text, utils="N = 2"))
    assert [await one() for one in (first, second, first, second)] == [1.0, 2.0, 1.0, 2.0]


async def test_modules_imported_only_when_called_stay_apart_too(pool, tmp_path):
    text = "def reward(completions):\n    from helpers import deep\n    return [deep.N]"
    folders = [write(tmp_path / name, rewards=text) for name in "ab"]
    for number, folder in enumerate(folders):
        write(folder / "helpers", deep=f"N = {number}")
    first, second = [await ready(pool, folder) for folder in folders]
    assert [await one() for one in (first, second, first, second)] == [0.0, 1.0, 0.0, 1.0]


async def test_a_modules_state_outlives_a_visit_to_another_folder(pool, tmp_path):
    counter = "import state\ndef reward(completions):\n    state.n += 1\n    return [state.n]"
    first = await ready(pool, write(tmp_path / "a", rewards=counter, state="n = 0"))
    second = await ready(pool, write(tmp_path / "b", rewards=counter, state="n = 100"))
    assert [await one() for one in (first, second, first, second)] == [1.0, 101.0, 2.0, 102.0]


async def test_a_folder_that_holds_the_server_itself_harms_nothing(pool, tmp_path):
    checkout = Path(reward_server.__file__).parents[1]  # a configuration may lie in one
    text = f"""
import sys
from reward_server.workers.imports import Folders
folders = Folders()
folders.enter({str(checkout)!r})
import reward_server.domain
folders.enter({str(tmp_path)!r})
assert {{"reward_server", "reward_server.domain"}} <= sys.modules.keys()
"""
    await pool.run(Task(exec, (text, {})), 30)


async def test_a_file_with_the_name_of_an_installed_module_hides_it_from_nobody(pool, tmp_path):
    one = await ready(
        pool,
        write(tmp_path, json="def reward(completions):\n    import json\n    return [json.loads('1')]"),
        "json.py:reward",
    )
    assert await one() == 1.0
