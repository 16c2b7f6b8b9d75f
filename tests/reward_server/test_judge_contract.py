"""Judges and juries, at a host that answers by a script, keep the contract that strangers' scorers are asked to keep."""

import pytest
from fake_ollama import MODEL, FakeOllama
from scripted_judges import by_length

from reward_server.domain import Sample
from reward_server.scorers.judge import JudgeScorer
from reward_server.scorers.jury import Jury
from reward_server.testing import ScorerContract


class AtAHost(ScorerContract):
    """The contract, with a host whose model likes length."""

    samples = [Sample("Paris.", "Which is the capital of France?"), Sample("It is Paris, of course.", "And of Gaul?")]
    judges = {}

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def host(cls):
        with FakeOllama(by_length(100)) as host:
            cls.elsewhere = {
                "engines": {"box": {"ollama": {"model": MODEL, "url": host.url}}},
                "judges": {name: {"engine": "box", **judge} for name, judge in cls.judges.items()},
            }
            yield host


class TestJudge(AtAHost):
    scorer = JudgeScorer
    options = {"judge": "alice"}
    judges = {"alice": {"rubric": "It answers the question."}}


class TestJudgeThatRanks(AtAHost):
    scorer = JudgeScorer
    options = {"judge": "alice"}
    judges = {"alice": {"method": "listwise", "rubric": "It answers the question."}}
    compares = True


class TestJury(AtAHost):
    scorer = Jury
    options = {"judges": ["alice", "bob"]}
    judges = {"alice": {"rubric": "It answers the question."}, "bob": {"method": "rating", "rubric": "It is short."}}
