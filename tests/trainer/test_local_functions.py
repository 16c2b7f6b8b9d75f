"""Reward functions of a person's own, called as TRL calls them."""

import inspect
from pathlib import Path
from typing import Any

import pytest

from trainer.config import ConfigError
from trainer.functions import for_trl, load_function, missing_columns

AS_TRL: dict[str, Any] = {
    "prompts": ["p"],
    "completions": ["c"],
    "completion_ids": [[1]],
    "answer": ["a"],
    "trainer_state": object(),
    "log_extra": print,
    "log_metric": print,
}


def test_a_classic_function_gets_what_its_signature_takes():
    def classic(completions, prompts=None):
        return [(completions, prompts)]

    assert for_trl("mine", classic)(**AS_TRL) == [(["c"], ["p"])]


def test_a_function_with_keywords_gets_all_of_them():
    def greedy(completions, **kwargs):
        return sorted(kwargs)

    assert for_trl("mine", greedy)(**AS_TRL) == sorted(AS_TRL.keys() - {"completions"})


def test_a_function_may_ask_for_what_only_the_trainer_has():
    def stateful(completions, trainer_state, answer):
        return [trainer_state, answer]

    assert for_trl("mine", stateful)(**AS_TRL) == [AS_TRL["trainer_state"], ["a"]]


def test_the_configured_name_is_what_the_metrics_are_called():
    def reward(completions):
        return [1.0]

    wrapped = for_trl("brevity", reward)
    assert wrapped.__name__ == "brevity"
    assert reward.__name__ == "reward"


async def test_an_async_function_stays_async():
    async def later(completions):
        return [float(len(text)) for text in completions]

    wrapped = for_trl("mine", later)
    assert inspect.iscoroutinefunction(wrapped.__call__)  # where TRL looks
    assert await wrapped(**AS_TRL) == [1.0]


async def test_an_object_with_an_async_call_is_known_as_async():
    class Later:
        async def __call__(self, completions):
            return [float(len(text)) for text in completions]

    wrapped = for_trl("mine", Later())
    assert inspect.iscoroutinefunction(wrapped.__call__)  # where TRL looks
    assert await wrapped(**AS_TRL) == [1.0]


def test_columns_that_a_function_needs_and_the_data_lacks_are_told():
    def needy(completions, answer, level, hint=None, **kwargs):
        return []

    assert missing_columns(needy, ["prompt", "answer"]) == ["level"]


def test_a_file_may_import_its_neighbours_when_it_is_called(tmp_path: Path):
    (tmp_path / "neighbour_of_rewards.py").write_text("VALUE = 3.0\n")
    (tmp_path / "r.py").write_text(
        "def late(completions):\n    from neighbour_of_rewards import VALUE\n    return [VALUE for _ in completions]\n"
    )
    assert load_function("r.py:late", tmp_path)(["a"]) == [3.0]


def test_one_file_is_imported_once_for_all_its_functions(tmp_path: Path):
    (tmp_path / "once.py").write_text(
        "state = []\ndef f(completions): return state\ndef g(completions): return state\n"
    )
    assert load_function("once.py:f", tmp_path)([]) is load_function("once.py:g", tmp_path)([])


def test_a_module_is_found_from_the_configurations_folder(tmp_path: Path):
    (tmp_path / "rewards_module_here.py").write_text("def f(completions): return [7.0]\n")
    assert load_function("rewards_module_here:f", tmp_path)(["a"]) == [7.0]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("none.py:f", r"none\.py: there is no such file \(rewards\.local\)"),
        ("broken.py:f", r"broken\.py cannot be imported: ZeroDivisionError: division by zero"),
        ("fine.py:g", r"fine\.py has no function 'g'; its functions: f"),
        ("fine.py:VALUE", r"fine\.py has no function 'VALUE'"),
        ("no_such_module_at_all:f", "no_such_module_at_all cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_function_that_cannot_be_had_is_named(tmp_path: Path, reference: str, message: str):
    (tmp_path / "broken.py").write_text("1 / 0\n")
    (tmp_path / "fine.py").write_text("VALUE = 1\ndef f(completions): return []\n")
    with pytest.raises(ConfigError, match=message):
        load_function(reference, tmp_path)
