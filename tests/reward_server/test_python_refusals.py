"""A function that cannot be a reward is refused when the server starts, by name, with what would be right."""

import pytest
from python_rewards import unstarted, verdicts

from reward_server.domain import Sample, Status
from reward_server.errors import ConfigError
from reward_server.scorers.python.options import PythonOptions
from reward_server.workers.pool import WorkerPool


@pytest.fixture
async def pool():
    async with WorkerPool(1) as pool:
        yield pool


@pytest.fixture
async def refusal(pool, tmp_path):
    """Returns a function that starts a scorer and returns the message of its refusal."""

    async def refusal(text, function="rewards.py:reward", **options):
        if text is not None:
            (tmp_path / "rewards.py").write_text(text)
        with pytest.raises(ConfigError) as caught:
            await unstarted(pool, tmp_path, function, **options).start()
        message = str(caught.value)
        assert message.startswith("rewards.mine.python: ")
        return message

    return refusal


@pytest.mark.parametrize(
    ("signature", "told"),
    [
        (
            "completions, trainer_state",
            "it takes 'trainer_state', which only the trainer has: use it as a local reward",
        ),
        ("completions, trainer_state=None, **kwargs", "it takes 'trainer_state'"),
        ("completions, environments=None", "it takes 'environments'"),
        ("completions, log_extra", "it takes 'log_extra', which only the trainer has: give it the default None"),
        ("completions, *, log_metric", "it takes 'log_metric'"),
        ("completions, prompt", "it takes 'prompt', which TRL never passes: it passes the list 'prompts'"),
        ("completion, **kwargs", "it takes 'completion', which TRL never passes: it passes the list 'completions'"),
        ("completions, /", "its parameter 'completions' is positional only, and rewards are called by keyword"),
        ("texts, /, completions", "its parameter 'texts' is positional only"),
        ("texts", "it takes no 'completions', which is the name by which they are passed; is 'texts' meant for them?"),
        ("prompts, completons", "is 'completons' meant for them? Call it 'completions'"),
        ("prompts, responses, answer", "is 'responses' meant for them?"),
        ("prompts", "it takes no 'completions'"),
        ("", "it takes no 'completions'"),
    ],
)
async def test_a_signature_that_cannot_be_called(refusal, signature, told):
    message = await refusal(f"def reward({signature}): return []")
    assert "rewards.py:reward cannot be a reward: " in message
    assert told in message


async def test_a_column_that_it_could_not_take(refusal):
    message = await refusal("def reward(completions): return []", columns=["answer"])
    assert "columns: it takes no 'answer', and has no **kwargs" in message


async def test_a_name_that_is_not_there(refusal):
    message = await refusal("import json\ndef length_reward(completions): ...\nX = 1", "rewards.py:lenght_reward")
    assert "has no 'lenght_reward': did you mean 'length_reward'?" in message


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("reward = 3", "'reward' in {file} is of type int: it cannot be called"),
        (
            "class reward:\n    def __call__(self, completions): ...",
            "is a class: name a function, or an object made of it",
        ),
        (
            "import nltk_is_not_there",
            "{file} imports 'nltk_is_not_there', which is not there: install it in the server's",
        ),
        ("from . import other", "write `package.module:function` instead of the path"),
        ("def reward(completions:", "{file} cannot be imported: SyntaxError: "),
        (
            "x = 1\nx / 0",
            "{file} cannot be imported: ZeroDivisionError: division by zero (rewards.py, line 2, in <module>)",
        ),
        ("raise SystemExit('usage')", "{file} cannot be imported: SystemExit: usage"),
        ("import os; os._exit(5)", "importing {file} ended the process: exit status 5"),
    ],
)
async def test_a_file_that_does_not_give_a_function(refusal, tmp_path, text, told):
    assert told.format(file=tmp_path / "rewards.py") in await refusal(text)


async def test_a_file_that_hangs_on_import_is_stopped_and_named(refusal, pool, tmp_path):
    message = await refusal("while True: pass", load_timeout_s=0.3)
    assert f"importing {tmp_path / 'rewards.py'} took more than 0.3 s and was stopped" in message


async def test_a_file_that_is_not_there(refusal, tmp_path):
    assert f"there is no file {tmp_path / 'rewards.py'}" in await refusal(None)


async def test_a_module_that_is_not_there(refusal):
    message = await refusal(None, "no_such_package_here.rewards:reward")
    assert "there is no module 'no_such_package_here': install it in the server's environment" in message
    assert "beside the configuration file" in message


@pytest.mark.parametrize(
    "function", ["rewards.py", "reward", ":reward", "rewards.py:", "rewards.py:a b", "rewards.py:a."]
)
def test_an_address_without_both_halves(function):
    with pytest.raises(ValueError, match=r"write 'path/to/file\.py:function' or 'module:function'"):
        PythonOptions(function=function)


async def test_a_preload_that_fails_is_told_as_what_it_is(tmp_path):
    (tmp_path / "rewards.py").write_text("def reward(completions): return []")
    async with WorkerPool(1, preload=["not_there_at_all"]) as pool:
        scorer = unstarted(pool, tmp_path, "rewards.py:reward")
        with pytest.raises(ConfigError, match=r"^workers\.preload: cannot import 'not_there_at_all'"):
            await scorer.start()
        assert not scorer.health().serving
        assert "not_there_at_all" in scorer.health().reason


@pytest.mark.parametrize("form", ["rewards.py:reward", "rewards:reward"])
async def test_a_source_that_changes_later_is_refused_by_new_workers(tmp_path, form):
    (tmp_path / "rewards.py").write_text("import os\ndef reward(completions):\n    os._exit(completions[0] == 'die')")
    async with WorkerPool(1) as pool:
        scorer = unstarted(pool, tmp_path, form)
        await scorer.start()
        (tmp_path / "rewards.py").write_text("def reward(completions): return [1.0]")
        await verdicts(scorer, [Sample("die")])
        got = await verdicts(scorer, [Sample(""), Sample("")])
    assert all(verdict.status is Status.FAILED for verdict in got)
    assert all("has changed since the server read it: restart the server" in verdict.status_reason for verdict in got)
    assert all(verdict.status_reason.startswith("reward could not be loaded: ") for verdict in got)
