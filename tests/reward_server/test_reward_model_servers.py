"""What servers of reward models say of themselves, and what the scorer makes of it: outages, versions."""

import pytest
from asking_servers import hurry, reward_model, samples_of, until, verdicts
from fake_host import json_response
from fake_reward_models import (
    FakeGetReward,
    FakeLlamaCpp,
    FakeTei,
    FakeVllm,
)

from reward_server.domain import Blame


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    hurry(monkeypatch)


async def test_a_batch_is_as_large_as_tei_says_that_it_takes():
    with FakeTei() as host:
        host.most_in_batch = 3
        async with reward_model("tei", host.url, batch=32) as scorer:
            got = await verdicts(scorer, samples_of(*"abcdefg"))
    assert all(verdict.score is not None for verdict in got)
    assert [len(body["inputs"]) for body in host.asked] == [3, 3, 1]


async def test_an_overloaded_tei_is_tried_again():
    with FakeTei() as host:
        host.faults = [json_response({"error": "Model is overloaded", "error_type": "Overloaded"}, 429)]
        async with reward_model("tei", host.url) as scorer:
            assert (await verdicts(scorer, samples_of("a")))[0].score is not None


async def test_a_llama_cpp_that_loads_its_model_is_an_outage():
    with FakeLlamaCpp() as host:
        host.loading = True
        async with reward_model("llamacpp", host.url) as scorer:
            assert "Loading model" in scorer.health().reason
            (verdict,) = await verdicts(scorer, samples_of("a"))
            assert verdict.blame is Blame.OUTAGE
            host.loading = False
            await until(lambda: scorer.health().serving)


async def test_a_llama_cpp_that_does_not_rank_says_how_it_would():
    with FakeLlamaCpp() as host:
        host.ranks = False
        async with reward_model("llamacpp", host.url) as scorer:
            (verdict,) = await verdicts(scorer, samples_of("a"))
            assert not scorer.health().serving
    assert "Start it with `--reranking`" in verdict.status_reason
    assert verdict.blame is Blame.UNKNOWN


async def test_a_model_that_the_server_has_not_is_told_with_those_it_has():
    with FakeVllm() as host:
        async with reward_model("vllm_classify", host.url, model="other") as scorer:
            assert "it has no model `other` (it has: org/reward-model)" in scorer.health().reason
            assert "Mend rewards.mine.reward_model.model" in scorer.health().reason


@pytest.mark.parametrize(
    ("protocol", "kind", "expected"),
    [
        ("vllm_score", FakeVllm, {"id": "org/reward-model", "root": "/models/org/reward-model", "max_model_len": 4096}),
        ("tei", FakeTei, {"model_id": "org/reward-model", "model_sha": "c0ffee", "model_dtype": "float16"}),
        ("llamacpp", FakeLlamaCpp, {"id": "org/reward-model", "n_params": 5, "size": 6, "n_vocab": 250002}),
        ("openrlhf", FakeGetReward, {}),
    ],
)
async def test_the_model_is_part_of_the_identity_as_far_as_it_is_told(protocol, kind, expected):
    with kind() as host:
        async with reward_model(protocol, host.url) as scorer:
            assert scorer.identity()["model"] == expected
            assert "guard" in scorer.identity()


async def test_another_model_is_another_identity():
    with FakeTei() as host:
        async with reward_model("tei", host.url) as scorer:
            before = scorer.identity()
            host.model = "org/other"
            await until(lambda: scorer.identity() != before)
            assert scorer.identity()["model"]["model_id"] == "org/other"
            assert (await verdicts(scorer, samples_of("a")))[0].score is not None


async def test_no_verdict_mixes_two_models():
    with FakeTei() as host:
        async with reward_model("tei", host.url, in_flight=1, batch=1) as scorer:
            honest = host.worth

            def change(text):
                if "third" in text:
                    host.model = "org/other"
                return honest(text)

            host.worth = change
            samples = samples_of("first", "second", "third", *(f"later {n}" for n in range(400)))
            got = await verdicts(scorer, samples)
    assert got[0].score is not None
    late = [verdict for verdict in got if verdict.score is None]
    assert late
    assert {verdict.blame for verdict in late} == {Blame.OUTAGE}
    assert "its model is another than when the call began" in late[0].status_reason


async def test_a_model_that_was_away_at_the_start_is_known_before_it_is_asked():
    with FakeTei() as host:
        host.stop()
        async with reward_model("tei", host.url) as scorer:
            assert scorer.identity()["model"] == {}
            host.start()
            got = await verdicts(scorer, samples_of("a"))
            assert scorer.identity()["model"]["model_id"] == "org/reward-model"
            assert got[0].blame is Blame.OUTAGE or got[0].score is not None
            assert (await verdicts(scorer, samples_of("a")))[0].score is not None
