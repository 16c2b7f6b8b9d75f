"""What the scorer `reward_model` makes of the numbers that a server tells."""

import math

import pytest
from asking_servers import hurry, reward_model, samples_of, verdicts
from fake_reward_models import (
    FakeTei,
    FakeVllm,
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    hurry(monkeypatch)


async def test_a_class_is_read_by_its_name():
    with FakeTei() as host:
        host.labels = ("bad", "good")
        async with reward_model("tei", host.url, input="completion", label="good") as scorer:
            assert (await verdicts(scorer, samples_of("abc")))[0].score == 2.0
        async with reward_model("tei", host.url, input="completion", label="best") as scorer:
            assert "has no class 'best' (bad, good)" in (await verdicts(scorer, samples_of("abc")))[0].status_reason
        async with reward_model("tei", host.url, input="completion") as scorer:
            (verdict,) = await verdicts(scorer, samples_of("abc"))
    assert verdict.status_reason == "the model tells 2 classes (bad, good): say which by `label`"


@pytest.mark.parametrize(("label", "expected"), [(0, -1.0), (1, 4.0), (2, None), ("good", None)])
async def test_a_class_is_read_by_its_number(label, expected):
    with FakeVllm() as host:
        host.classes = lambda number: [-1.0, number]
        async with reward_model("vllm_classify", host.url, input="plain", label=label) as scorer:
            assert (await verdicts(scorer, samples_of("abc")))[0].score == expected


async def test_sigmoid_keeps_the_raw_number_as_a_part():
    with FakeVllm(worth=lambda text: -1000.0 if "low" in text else 1.5) as host:
        async with reward_model("vllm_score", host.url, activation="sigmoid") as scorer:
            assert scorer.score_range == (0.0, 1.0)
            good, low = await verdicts(scorer, samples_of("a", "low"))
    assert good.score == pytest.approx(1 / (1 + math.exp(-1.5)), abs=1e-15)
    assert dict(good.parts) == {"raw": 1.5}
    assert low.score == 0.0


async def test_softmax_is_over_the_classes():
    with FakeVllm() as host:
        host.classes = lambda number: [1000.0, 1000.0 + math.log(3)]
        async with reward_model("vllm_classify", host.url, input="plain", label=1, activation="softmax") as scorer:
            assert (await verdicts(scorer, samples_of("a")))[0].score == pytest.approx(0.75, abs=1e-12)


@pytest.mark.parametrize(
    ("calibrate", "expected", "score_range"),
    [
        ({"low": 0, "high": 10}, [0.5, 1.0], (0.0, 1.0)),
        ({"low": 0, "high": 10, "clip": False}, [0.5, 2.0], None),
        ({"low": 10, "high": 0}, [0.5, 0.0], (0.0, 1.0)),
        ({"low": 0, "high": 10, "to": [-1, 1]}, [0.0, 1.0], (-1.0, 1.0)),
    ],
)
async def test_numbers_are_mapped_to_a_range(calibrate, expected, score_range):
    with FakeVllm() as host:
        async with reward_model("vllm_classify", host.url, input="completion", calibrate=calibrate) as scorer:
            assert scorer.score_range == score_range
            got = await verdicts(scorer, samples_of("x" * 5, "x" * 20))
    assert [verdict.score for verdict in got] == expected
    assert [verdict.parts["raw"] for verdict in got] == [5.0, 20.0]


@pytest.mark.parametrize(("rows", "expected"), [("only", None), ("last", 2.0), ("min", 0.0), ("mean", 1.0)])
async def test_several_rows_for_a_text_are_refused_unless_it_is_said_what_counts(rows, expected):
    with FakeVllm() as host:
        host.rows = 3
        async with reward_model("vllm_pooling", host.url, input="plain", rows=rows, label=0) as scorer:
            (verdict,) = await verdicts(scorer, samples_of("a"))
    assert verdict.score == expected
    assert expected is not None or "say by `rows` what of them counts" in verdict.status_reason
