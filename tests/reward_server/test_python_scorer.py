"""A person's TRL-style function gives through the scorer what it gives when TRL calls it."""

import functools
import math
import random

import pytest
from python_rewards import scores, started, unstarted, verdicts

from reward_server.domain import Needs, Sample, Status
from reward_server.workers.pool import WorkerPool


@pytest.fixture
async def pool():
    async with WorkerPool(2) as pool:
        yield pool


@pytest.fixture
async def start(pool, tmp_path):
    """Returns a function that starts the scorer of the function `reward` in a file of that text."""
    return functools.partial(started, pool, tmp_path)


async def test_a_function_is_called_once_with_the_whole_batch(start):
    scorer = await start("def reward(completions, **kwargs): return [len(completions)] * len(completions)")
    assert await scores(scorer, "a", "b", "c") == [3.0, 3.0, 3.0]


async def test_an_empty_batch_calls_nothing(start):
    scorer = await start("def reward(completions): raise ValueError")
    assert await scores(scorer) == []


@pytest.mark.parametrize(
    ("signature", "needs"),
    [
        ("completions", Needs()),
        ("completions, prompts", Needs(prompts=True)),
        ("completions, prompts=None", Needs(prompts=True, prompts_optional=True)),
        ("prompts, completions, answer", Needs(frozenset({"answer"}), prompts=True)),
        ("completions, answer=None", Needs(optional_columns=frozenset({"answer"}))),
        ("*, completions, answer", Needs(frozenset({"answer"}))),
        ("completions, **kwargs", Needs(all_columns=True, prompts=True, prompts_optional=True)),
        ("completion_ids", Needs(frozenset({"completion_ids"}))),
        ("completions, log_extra=None, log_metric=None", Needs()),
        ("completions, *args", Needs()),
        (
            "completions, answer, **kwargs",
            Needs(frozenset({"answer"}), all_columns=True, prompts=True, prompts_optional=True),
        ),
    ],
)
async def test_what_it_needs_is_read_from_its_signature(start, signature, needs):
    assert (await start(f"def reward({signature}): return []")).needs == needs


async def test_it_gets_the_keywords_that_it_takes_and_no_others(start):
    scorer = await start(
        "def reward(completions, prompts, answer, level=7, log_extra=None):\n"
        "    assert (prompts, answer, level, log_extra) == (['p', 'q'], [1, {'k': [2]}], 7, None), locals()\n"
        "    return [1, 2]"
    )
    samples = [
        Sample("a", "p", {"answer": 1, "other": 0}),
        Sample("b", "q", {"answer": {"k": [2]}, "other": 0}),
    ]
    assert [verdict.score for verdict in await verdicts(scorer, samples)] == [1.0, 2.0]


async def test_kwargs_get_prompts_and_every_column_but_never_the_trainers_own(start):
    scorer = await start(
        "def reward(**kwargs):\n"
        "    assert sorted(kwargs) == ['answer', 'completion_ids', 'completions', 'prompts'], sorted(kwargs)\n"
        "    return [1]"
    )
    columns = {"answer": 1, "completion_ids": [5], "trainer_state": 0, "log_extra": 0, "environments": 0, "prompt": "p"}
    (verdict,) = await verdicts(scorer, [Sample("a", "p", columns)])
    assert verdict.score == 1.0


async def test_columns_narrow_what_kwargs_get_and_become_required(start):
    scorer = await start(
        "def reward(completions, level=0, **kwargs):\n"
        "    assert set(kwargs) == {'answer', 'prompts'}, kwargs\n"
        "    return [level[0]]",
        columns=["answer"],
    )
    assert scorer.needs == Needs(frozenset({"answer"}), frozenset({"level"}), prompts=True, prompts_optional=True)
    (verdict,) = await verdicts(scorer, [Sample("a", "p", {"answer": 1, "other": 2, "level": 3})])
    assert verdict.score == 3.0


async def test_optional_prompts_that_were_not_sent_are_left_at_their_default(start):
    scorer = await start("def reward(completions, prompts='none'): return [0.5 if prompts == 'none' else 0]")
    assert await scores(scorer, "a") == [0.5]


async def test_conversations_reach_it_as_lists_of_dicts(start):
    scorer = await start(
        "def reward(completions, prompts):\n"
        "    assert type(completions[0]) is list and type(completions[0][0]) is dict\n"
        "    return [len(c[0]['content']) + len(p[-1]['content']) for c, p in zip(completions, prompts)]"
    )
    sample = Sample([{"role": "assistant", "content": "four"}], [{"role": "user", "content": "two"}])
    assert [verdict.score for verdict in await verdicts(scorer, [sample])] == [7.0]


@pytest.mark.parametrize(
    "returned",
    [
        "[0.25, 1, True]",
        "(0.25, 1, True)",
        "(x for x in [0.25, 1, True])",
        "numpy.array([0.25, 1, 1])",
        "[numpy.float32(0.25), numpy.int64(1), numpy.bool_(True)]",
        "torch.tensor([0.25, 1, 1], dtype=torch.bfloat16)",
        "[torch.tensor(0.25), torch.tensor([1]), torch.tensor(True)]",
        "[decimal.Decimal('0.25'), fractions.Fraction(1), 1]",
        "collections.deque([0.25, 1, True])",
        "map(float, [0.25, 1, True])",
    ],
)
async def test_any_sequence_of_any_numbers_is_taken(start, returned):
    if "torch" in returned:
        pytest.importorskip("torch")
    module = next((word for word in ("numpy", "torch") if word in returned), "json")
    scorer = await start(
        f"import collections, decimal, fractions, {module}\ndef reward(completions): return {returned}"
    )
    assert await scores(scorer, "a", "b", "c") == [0.25, 1.0, 1.0]


async def test_floats_come_back_exactly(start):
    scorer = await start(
        "import random\ndef reward(completions, seed):\n"
        "    return [random.Random(s).uniform(-1, 1) * 10 ** random.Random(-s).randint(-300, 300) for s in seed]"
    )
    got = await verdicts(scorer, [Sample("", None, {"seed": seed}) for seed in range(500)])
    for seed, verdict in enumerate(got):
        expected = random.Random(seed).uniform(-1, 1) * 10 ** random.Random(-seed).randint(-300, 300)
        assert verdict.score.hex() == expected.hex()


async def test_none_abstains_and_what_is_no_number_fails_and_the_others_are_scored(start):
    scorer = await start(
        "def reward(completions): return [1, None, float('nan'), float('-inf'), 'good', [1], 10**400, 1j, 2.0]"
    )
    got = await verdicts(scorer, [Sample("")] * 9)
    assert [verdict.status for verdict in got] == [
        Status.SCORED, Status.ABSTAINED, *[Status.FAILED] * 6, Status.SCORED,
    ]  # fmt: skip
    assert got[1].status_reason == "the function returned None"
    assert "nan" in got[2].status_reason
    assert "-inf" in got[3].status_reason
    assert got[4].status_reason == "reward returned 'good' (of type str), which is not a number"
    assert "too large" in got[6].status_reason
    assert [got[0].score, got[-1].score] == [1.0, 2.0]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        ("[1.0]", "reward returned 1 rewards for 3 completions"),
        ("(1.0 for _ in iter(int, 1))", "reward returned more than 3 rewards for 3 completions"),
        ("0.5", "reward returned 0.5 (of type float), not a list of numbers"),
        ("None", "reward returned None (of type NoneType), not a list of numbers"),
        ("'abc'", "reward returned 'abc' (of type str), not a list of numbers"),
        ("{1: 1, 2: 2, 3: 3}", "of type dict), not a list of numbers"),
        ("{1, 2, 3}", "of type set), not a list of numbers"),
    ],
)
async def test_a_result_of_another_shape_fails_all_with_what_came_back(start, returned, told):
    got = await verdicts(await start(f"def reward(completions): return {returned}"), [Sample("")] * 3)
    assert all(verdict.status is Status.FAILED and told in verdict.status_reason for verdict in got)


async def test_async_functions_are_awaited_on_one_loop_that_lasts(start):
    scorer = await start(
        "import asyncio\nloops = set()\n"
        "async def reward(completions):\n"
        "    await asyncio.sleep(0)\n"
        "    loops.add(id(asyncio.get_running_loop()))\n"
        "    return [len(loops)] * len(completions)"
    )
    assert [await scores(scorer, "a") for _ in range(3)] == [[1.0]] * 3


DECORATED = """
import functools
def named(f):
    @functools.wraps(f)
    def g(*args, **keywords): return f(*args, **keywords)
    return g
@named
def reward(completions): return [1.0]
"""


@pytest.mark.parametrize(
    "text",
    [
        "class Judge:\n    def __call__(self, completions): return [1.0]\nreward = Judge()",
        "class Judge:\n    async def __call__(self, completions): return [1.0]\nreward = Judge()",
        "import functools\ndef f(weight, completions): return [weight]\nreward = functools.partial(f, 1.0)",
        DECORATED,
        "reward = lambda completions: [1.0]",
    ],
)
async def test_whatever_can_be_called_is_a_function(start, text):
    assert await scores(await start(text), "a") == [1.0]


async def test_a_method_of_an_object_is_a_function(pool, tmp_path):
    text = "class Judge:\n    def score(self, completions): return [2.0]\njudge = Judge()"
    (tmp_path / "rewards.py").write_text(text)
    scorer = unstarted(pool, tmp_path, "rewards.py:judge.score")
    await scorer.start()
    assert await scores(scorer, "a") == [2.0]


async def test_calls_by_group_pass_one_group_at_a_time(start):
    scorer = await start("def reward(completions): return [len(completions)] * len(completions)", calls="group")
    samples = [Sample("", group=group) for group in (5, 6, 5, 5, 6)]
    assert [verdict.score for verdict in await verdicts(scorer, samples)] == [3.0, 2.0, 3.0, 3.0, 2.0]


async def test_calls_by_sample_pass_one_sample_at_a_time(start):
    scorer = await start("def reward(completions): return [len(completions)] * len(completions)", calls="sample")
    assert await scores(scorer, *"abcde") == [1.0] * 5


async def test_functions_of_one_file_share_what_it_holds_within_a_worker(tmp_path):
    (tmp_path / "rewards.py").write_text("n = [0]\ndef a(completions):\n    n[0] += 1\n    return n\nb = a")
    async with WorkerPool(1) as pool:
        both = [unstarted(pool, tmp_path, f"rewards.py:{name}") for name in "ab"]
        for scorer in both:
            await scorer.start()
        assert [await scores(scorer, "") for scorer in both] == [[1.0], [2.0]]


async def test_the_identity_is_the_hash_of_the_whole_file(start):
    first = (await start("def reward(completions): return [1]")).identity()
    again = (await start("def reward(completions): return [1]")).identity()
    other = (await start("def reward(completions): return [1]\nHELPER = 1")).identity()
    assert first == again != other


async def test_a_module_is_found_beside_the_configuration_and_by_name(pool, tmp_path):
    (tmp_path / "my_rewards.py").write_text("def reward(completions): return [3.0]")
    scorer = unstarted(pool, tmp_path, "my_rewards:reward")
    await scorer.start()
    assert await scores(scorer, "") == [3.0]
    assert len(scorer.identity()["source_sha256"]) == 64


async def test_the_time_in_the_queue_is_part_of_the_cost(start):
    (verdict,) = await verdicts(await start("def reward(completions): return [1]"), [Sample("")])
    assert math.isfinite(verdict.cost.queue_ms)
    assert verdict.cost.queue_ms >= 0.0
