"""The scorers that ask other people's servers keep the contract of all scorers."""

import pytest
from fake_reward_models import FakeGetReward, FakeLlamaCpp, FakeTei, FakeVllm

from reward_server.domain import Sample
from reward_server.scorers.endpoints.get_reward import Endpoint
from reward_server.scorers.endpoints.reward_model import RewardModel
from reward_server.testing import ScorerContract

SAMPLES = [Sample("short", "What is it?", {"answer": "x"}), Sample("somewhat longer", "What is it?", {"answer": "y"})]


class AtAServer(ScorerContract):
    """The contract, with a server that says how long a text is."""

    samples = SAMPLES
    server = FakeGetReward
    asked = {}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def host(cls):
        with cls.server(most_chars=1 << 30) as host:
            cls.options = {"url": host.url, **cls.asked}
            yield host


class TestEndpoint(AtAServer):
    scorer = Endpoint
    asked = {"reference_column": "answer", "score_range": [0, 10_000_000]}


class TestVllm(AtAServer):
    scorer = RewardModel
    server = FakeVllm
    asked = {"protocol": "vllm_classify", "calibrate": {"low": 0, "high": 100}}


class TestTei(AtAServer):
    scorer = RewardModel
    server = FakeTei
    asked = {"protocol": "tei", "activation": "sigmoid"}


class TestLlamaCpp(AtAServer):
    scorer = RewardModel
    server = FakeLlamaCpp
    asked = {"protocol": "llamacpp"}


class TestOpenRlhf(AtAServer):
    scorer = RewardModel
    asked = {"protocol": "openrlhf", "max_chars": 100_000}
