"""Functions of people and programs of policies keep the contract that strangers' scorers are asked to keep."""

import asyncio
from pathlib import Path

import pytest

from reward_server.domain import Sample
from reward_server.sandbox.bubblewrap import Bubblewrap
from reward_server.scorers.code.scorer import Code
from reward_server.scorers.python.scorer import PythonScorer
from reward_server.testing import ScorerContract

REWARDS = """
def near(completions, answer, **kwargs):
    return [1.0 / (1.0 + abs(len(text) - len(gold))) for text, gold in zip(completions, answer)]


def ranked(completions, **kwargs):
    return [sorted(completions).index(text) for text in completions]


def turns(completions, hint=None):
    return [len(completion) for completion in completions]
"""


async def sandbox_trouble():
    sandbox = Bubblewrap()
    await sandbox.start()
    try:
        return sandbox.health().reason
    finally:
        await sandbox.close()


class InAFile(ScorerContract):
    """The contract, with a file of functions in the configuration's folder."""

    scorer = PythonScorer
    samples = [Sample("yes", columns={"answer": "yes"}), Sample("perhaps", columns={"answer": "no"})]

    @pytest.fixture(scope="class")
    @classmethod
    def folder(cls, tmp_path_factory) -> Path:
        folder = tmp_path_factory.mktemp("functions")
        (folder / "rewards.py").write_text(REWARDS)
        return folder


class TestFunction(InAFile):
    options = {"function": "rewards.py:near", "timeout_s": 1}


class TestFunctionThatCompares(InAFile):
    options = {"function": "rewards.py:ranked", "calls": "group"}
    compares = True


class TestFunctionOfMessages(InAFile):
    options = {"function": "rewards.py:turns"}
    beside = {"view": "messages"}


class TestCode(ScorerContract):
    scorer = Code
    options = {"timeout_s": 1.0, "memory_mb": 256}
    samples = [
        Sample(f"```python\ndef add(a, b):\n    return a {sign} b\n```", columns={"tests": ["assert add(1, 2) == 3"]})
        for sign in "+-"
    ]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def sandbox(cls):
        if reason := asyncio.run(sandbox_trouble()):
            pytest.skip(reason)
