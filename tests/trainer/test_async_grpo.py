"""Reward functions in TRL's `async_grpo`, which pickles them and scores in a process of its own."""

import pickle
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

import pytest
from async_worker import later, scored_by_worker
from fake_reward_server import FakeServer

from trainer.functions import for_trl, load_for_trl
from trainer.rewards import remote_reward

COMPLETIONS = ["one", "two words", "and three words"]


@pytest.mark.skipif(
    metadata.version("trl").startswith("1.14.") and find_spec("aiohttp") is None,
    reason="TRL 1.14's worker needs aiohttp",
)
def test_the_worker_gets_the_rewards_that_are_got_here(server: FakeServer, tmp_path: Path):
    (tmp_path / "of_mine.py").write_text("def words(completions):\n    return [len(c.split()) for c in completions]\n")
    functions = [
        remote_reward(server.target, "a"),
        load_for_trl("words", "of_mine.py:words", tmp_path),
        for_trl("right", later),
    ]
    columns = {"reference": ["one", "one", "three"]}

    found = scored_by_worker(functions, "Say something.", COMPLETIONS, **columns)

    here = functions[0](prompts=["Say something."] * 3, completions=COMPLETIONS, **columns)
    assert found["rewards/a"] == here
    assert found["rewards/words"] == [1, 2, 3]
    assert found["rewards/right"] == [1.0, 0.0, 1.0]
    assert found["reward"] == [sum(each) for each in zip(here, [1, 2, 3], [1, 0, 1], strict=True)]


@pytest.mark.parametrize("name", ["words", "another name"])
def test_a_function_of_a_file_is_pickled_by_its_place(tmp_path: Path, name: str):
    (tmp_path / "mine.py").write_text("def words(completions):\n    return [len(c.split()) for c in completions]\n")
    function = load_for_trl(name, "mine.py:words", tmp_path)

    again = pickle.loads(pickle.dumps(function))  # noqa: S301  # pickled here

    assert again.__name__ == name
    assert again(completions=COMPLETIONS, prompts=["p"] * 3, trainer_state=None) == [1, 2, 3]


def test_a_function_that_cannot_travel_is_named():
    def inside(completions):
        return []

    with pytest.raises((AttributeError, pickle.PicklingError), match="inside"):
        pickle.dumps(for_trl("mine", inside))
