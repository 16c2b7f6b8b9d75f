"""Functions written for verl and for OpenRLHF are called as those call them, and what they return is read likewise."""

import math

import pytest
from python_rewards import unstarted, verdicts

from reward_server.domain import Blame, Sample, Status
from reward_server.errors import ConfigError
from reward_server.scorers.python.signature import Style, Wishes, style_of
from reward_server.scorers.python.styles import read_signature
from reward_server.workers.calling import MAX_PARTS, Graded, graded_from, listed_from
from reward_server.workers.pool import WorkerPool

VERL = """
def reward(data_source, solution_str, ground_truth, extra_info=None):
    return {"score": float(len(solution_str)), "acc": solution_str == ground_truth, "told": repr([data_source, ground_truth, extra_info])}
"""
OPENRLHF = """
def reward(queries, prompts, labels):
    return {"rewards": [len(q) for q in queries], "extra_logs": {"prompt": [len(p) for p in prompts]}, "scores": labels}
"""


def parameters(text):
    """Returns the parameters of a signature written as Python writes it, as a worker describes them."""
    import inspect

    scope = {}
    exec(f"def reward({text}): ...", scope)  # noqa: S102
    listed = inspect.signature(scope["reward"]).parameters.values()
    return [(one.name, one.kind.name, one.default is not one.empty) for one in listed]


@pytest.fixture
async def pool():
    async with WorkerPool(1) as pool:
        yield pool


@pytest.fixture
async def scored(pool, tmp_path):
    """Returns a function that gives the verdicts of a function's text on samples."""

    async def scored(text, samples, **options):
        (tmp_path / "rewards.py").write_text(text)
        scorer = unstarted(pool, tmp_path, "rewards.py:reward", **options)
        await scorer.start()
        return await verdicts(scorer, samples, within_s=30)

    return scored


# ------------------------------------------------------------------ whom a function was written for


@pytest.mark.parametrize(
    ("text", "style"),
    [
        ("completions", Style.TRL),
        ("completions, queries, solution_str", Style.TRL),
        ("completion_ids, **kwargs", Style.TRL),
        ("**kwargs", Style.TRL),
        ("texts", Style.TRL),
        ("data_source, solution_str, ground_truth, extra_info=None", Style.VERL),
        ("solution_str, ground_truth, **kwargs", Style.VERL),
        ("data_sources, solution_strs, ground_truths, extra_infos", Style.VERL),
        ("queries, prompts, labels", Style.OPENRLHF),
        ("queries, prompts, labels, **kwargs", Style.OPENRLHF),
    ],
)
def test_names_tell_whom_a_function_was_written_for(text, style):
    assert style_of(parameters(text)) is style


@pytest.mark.parametrize(
    ("text", "style", "wishes", "told"),
    [
        ("texts, ground_truth", Style.VERL, {}, "it takes no 'solution_str'"),
        ("solution_str, level", Style.AUTO, {}, "it takes 'level', which verl does not pass: give it a column"),
        ("solution_str, /, ground_truth", Style.AUTO, {}, "'solution_str' is positional only"),
        ("solution_str", Style.AUTO, {"columns": ["a"]}, "columns: it is called as verl does"),
        ("solution_str", Style.AUTO, {"columns_as": {"level": "a"}}, "columns_as: it takes no 'level'"),
        ("solution_str", Style.AUTO, {"arguments": {"solution_str": "a"}}, "'solution_str' is passed as it is"),
        (
            "solution_str, ground_truth",
            Style.AUTO,
            {"columns_as": {"ground_truth": "a"}, "arguments": {"ground_truth": 1}},
            "'ground_truth' cannot be a column (columns_as) and a fixed value (arguments) at once",
        ),
        ("queries, prompts", Style.AUTO, {}, "OpenRLHF passes three lists by position"),
        ("*, queries, prompts, labels", Style.AUTO, {}, "OpenRLHF passes three lists by position"),
        ("queries, prompts, labels, level", Style.AUTO, {}, "it takes 'level', which OpenRLHF does not pass"),
        ("queries, prompts, labels", Style.AUTO, {"columns": ["a"]}, "columns: it is called as OpenRLHF does"),
        ("queries, prompts, labels", Style.AUTO, {"arguments": {"prompts": 1}}, "'prompts' is passed as it is"),
        (
            "queries, prompts, labels",
            Style.AUTO,
            {"arguments": {"labels": ""}, "columns_as": {"labels": "a"}},
            "'labels' cannot be a column",
        ),
        ("completions", Style.AUTO, {"columns_as": {"gold": "answer"}}, "columns_as: it takes no 'gold'"),
        ("completions", Style.AUTO, {"columns_as": {"completions": "a"}}, "'completions' is passed as it is"),
        ("solution_str, ground_truth", Style.TRL, {}, "it takes no 'completions'"),
    ],
)
def test_what_could_not_be_called_is_refused(text, style, wishes, told):
    with pytest.raises(ValueError, match=r".") as refused:
        read_signature(parameters(text), style, Wishes(**wishes))
    assert told in str(refused.value)


async def test_a_refusal_names_the_reward(pool, tmp_path):
    (tmp_path / "rewards.py").write_text("def reward(solution_str, level): ...")
    with pytest.raises(ConfigError, match=r"rewards\.mine\.python: rewards\.py:reward cannot be a reward: it takes"):
        await unstarted(pool, tmp_path, "rewards.py:reward").start()


# ------------------------------------------------------------------ verl


def needs(text, **wishes):
    return read_signature(parameters(text), Style.AUTO, Wishes(**wishes)).needs


def test_what_a_verl_function_needs():
    whole = needs("data_source, solution_str, ground_truth, extra_info=None")
    assert whole.required_columns == {"data_source"}
    assert whole.optional_columns == {"ground_truth", "reward_model", "answer", "extra_info"}
    assert not whole.prompts
    assert needs("solution_str").optional_columns == frozenset()
    assert needs("solution_str, data_source='x'").optional_columns == {"data_source"}
    fixed = needs("data_source, solution_str", arguments={"data_source": "x"})
    assert (fixed.required_columns, fixed.optional_columns) == (frozenset(), frozenset())
    mapped = needs("solution_str, ground_truth", columns_as={"ground_truth": "gold"})
    assert (mapped.required_columns, mapped.optional_columns) == ({"gold"}, frozenset())


@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({"ground_truth": "g", "reward_model": {"ground_truth": "r"}, "answer": "a"}, ["d", "g", {}]),
        ({"reward_model": {"ground_truth": "r", "style": "rule"}, "answer": "a"}, ["d", "r", {}]),
        ({"answer": "a", "extra_info": {"index": 3}}, ["d", "a", {"index": 3}]),
        ({"answer": "a", "extra_info": None}, ["d", "a", {}]),
        ({"ground_truth": 0}, ["d", 0, {}]),
    ],
)
async def test_a_verl_function_gets_its_reference_from_where_there_is_one(scored, columns, told):
    (verdict,) = await scored(VERL, [Sample("text", None, {"data_source": "d", **columns})])
    assert verdict.score == 4.0
    assert verdict.explanation == f"told: {told!r}"


async def test_a_sample_without_reference_is_not_scored_and_the_others_are(scored):
    samples = [
        Sample("a", None, {"data_source": "d", "reward_model": {"style": "rule"}}),
        Sample("bb", None, {"data_source": "d", "reward_model": {"ground_truth": "bb"}}),
        Sample("c", None, {"data_source": "d", "reward_model": "not an object"}),
    ]
    first, second, third = await scored(VERL, samples)
    for missing in (first, third):
        assert (missing.status, missing.blame) == (Status.ABSTAINED, Blame.REFERENCE)
        assert "say columns_as: {ground_truth: NAME}" in missing.status_reason
    assert (second.score, dict(second.parts)) == (2.0, {"acc": 1.0})


async def test_a_verl_function_with_a_default_reference_can_do_without(scored):
    text = "def reward(solution_str, ground_truth='none'): return len(ground_truth)"
    (verdict,) = await scored(text, [Sample("a")])
    assert verdict.score == 4.0


async def test_columns_of_other_names_and_fixed_values(scored):
    text = "def reward(data_source, solution_str, ground_truth, scale, **rest): return scale * len(data_source + ground_truth)"
    options = {"columns_as": {"ground_truth": "gold"}, "arguments": {"data_source": "xyz", "scale": 2}}
    (verdict,) = await scored(text, [Sample("a", None, {"gold": "12345", "answer": "no"})], **options)
    assert verdict.score == 16.0


async def test_a_verl_function_is_called_on_one_sample_at_a_time_and_only_the_bad_one_fails(scored):
    text = """
def reward(solution_str, ground_truth):
    if solution_str == "bad":
        raise KeyError("bad")
    return solution_str == ground_truth
"""
    samples = [Sample(word, None, {"answer": "b"}) for word in ("a", "bad", "b")]
    first, bad, last = await scored(text, samples)
    assert (first.score, last.score) == (0.0, 1.0)
    assert bad.status is Status.FAILED
    assert "KeyError" in bad.status_reason


BATCHED = """
def reward(data_sources, solution_strs, ground_truths, extra_infos, scale=1):
    return [
        {"score": scale * len(said), "acc": said == truth, "told": source}
        for source, said, truth, extra in zip(data_sources, solution_strs, ground_truths, extra_infos)
    ]
"""


async def test_a_function_for_verls_batch_manager_gets_lists(scored):
    samples = [Sample(word, None, {"data_source": "d", "answer": "bb"}) for word in ("a", "bb")]
    first, second = await scored(BATCHED, samples)
    assert (first.score, dict(first.parts), first.explanation) == (1.0, {"acc": 0.0}, "told: d")
    assert (second.score, dict(second.parts)) == (2.0, {"acc": 1.0})


async def test_a_function_for_verls_batch_manager_has_wishes_by_its_own_names(scored):
    samples = [Sample("abc", None, {"gold": "abc"}), Sample("d", None, {"gold": None})]
    options = {"columns_as": {"ground_truths": "gold"}, "arguments": {"data_sources": "x", "scale": 2}}
    good, missing = await scored(BATCHED, samples, **options)
    assert (good.score, good.parts["acc"], good.explanation) == (6.0, 1.0, "told: x")
    assert missing.blame is Blame.REFERENCE
    assert "'ground_truths'" in missing.status_reason


async def test_async_functions_are_awaited(scored):
    verl = "import asyncio\nasync def reward(solution_str):\n    await asyncio.sleep(0)\n    return {'score': 2}"
    assert [verdict.score for verdict in await scored(verl, [Sample("a"), Sample("b")])] == [2.0, 2.0]
    openrlhf = "async def reward(queries, prompts, labels): return [len(query) for query in queries]"
    assert (await scored(openrlhf, [Sample("a", "p", {"label": 1})]))[0].score == 2.0


async def test_a_conversation_is_its_last_answer(scored):
    completion = [{"role": "assistant", "content": "aa"}, {"role": "tool", "content": "ttt"}]
    assert (await scored("def reward(solution_str): return len(solution_str)", [Sample(completion)]))[0].score == 2.0


@pytest.mark.parametrize(
    ("result", "item"),
    [
        (1, 1.0),
        (True, 1.0),
        (None, None),
        ({"score": None, "acc": 1}, None),
        ({"score": 1}, Graded(1.0, {}, "")),
        ({"score": 0.5, "acc": True, "pred": "7", "gone": None}, Graded(0.5, {"acc": 1.0}, "pred: 7")),
        ({"score": 0.5, "nan": math.nan, "list": [1]}, Graded(0.5, {}, "nan: nan\nlist: [1]")),
    ],
)
def test_what_verl_makes_of_a_result(result, item):
    assert graded_from(result) == item


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"reward": 1}, "returned {'reward': 1} (of type dict), which has no 'score'"),
        ({"score": "1"}, "returned '1' (of type str), which is not a number"),
        ("1", "which is not a number"),
        ([1], "which is not a number"),
    ],
)
def test_what_is_no_result_is_told(result, told):
    assert told in graded_from(result)


def test_any_key_is_a_name():
    graded = graded_from({"score": 1, "\ud800": 2, 7: 3, "x" * 1000: 4})
    assert graded.parts == {"?": 2.0, "7": 3.0, "x" * 100: 4.0}
    assert listed_from({"rewards": [1], "extra_logs": {"\ud800": [2]}}, 1) == [Graded(1.0, {"?": 2.0})]


def test_not_all_of_a_large_result_is_told():
    graded = graded_from({"score": 1, "text": "x" * 10_000, **{f"n{number}": number for number in range(1000)}})
    assert len(graded.parts) == MAX_PARTS
    assert len(graded.explanation) == 2000


# ------------------------------------------------------------------ OpenRLHF


def test_what_an_openrlhf_function_needs():
    plain = needs("queries, prompts, labels, **kwargs")
    assert plain.prompts_required
    assert (plain.required_columns, plain.optional_columns) == (frozenset(), {"label", "labels", "answer"})
    assert needs("queries, prompts, labels", columns_as={"labels": "gold"}).required_columns == {"gold"}
    assert needs("queries, prompts, labels", arguments={"labels": ""}).optional_columns == frozenset()


async def test_an_openrlhf_function_gets_three_lists(scored):
    samples = [Sample("aa", "p", {"label": 1}), Sample("bbb", "pp", {"label": 2})]
    first, second = await scored(OPENRLHF, samples)
    assert (first.score, dict(first.parts)) == (3.0, {"scores": 1.0, "prompt": 1.0})
    assert (second.score, dict(second.parts)) == (5.0, {"scores": 2.0, "prompt": 2.0})


async def test_the_names_of_its_parameters_do_not_matter_where_one_says_whose_it_is(scored):
    text = "def reward(a, b, c=None): return [len(x + y + z) for x, y, z in zip(a, b, c)]"
    (verdict,) = await scored(text, [Sample("c", "p", {"answer": "gg"})], signature="openrlhf")
    assert verdict.score == 5.0


async def test_labels_come_from_the_column_that_is_named_or_are_the_same_for_all(scored):
    text = "def reward(queries, prompts, labels): return [len(label) for label in labels]"
    samples = [Sample("c", "p", {"gold": "ggg", "answer": "no"})]
    assert (await scored(text, samples, columns_as={"labels": "gold"}))[0].score == 3.0
    assert (await scored(text, samples, arguments={"labels": ""}))[0].score == 0.0


async def test_a_sample_without_label_is_not_scored_and_the_others_are(scored):
    samples = [Sample("aa", "p", {"label": None}), Sample("bbb", "p", {"label": 2})]
    missing, good = await scored(OPENRLHF, samples)
    assert (missing.status, missing.blame) == (Status.ABSTAINED, Blame.REFERENCE)
    assert "say columns_as: {labels: NAME}" in missing.status_reason
    assert good.score == 4.0


async def test_a_conversational_prompt_is_its_last_question(scored):
    prompt = [{"role": "system", "content": "s"}, {"role": "user", "content": "qq"}]
    (verdict,) = await scored(OPENRLHF, [Sample("a", prompt, {"label": 1})])
    assert (verdict.score, verdict.parts["prompt"]) == (3.0, 2.0)


class Tensor:
    """As torch and numpy have it: `tolist`, and `item` for a single value."""

    def __init__(self, values):
        self.values = values

    ndim = property(lambda self: 1 if isinstance(self.values, list) else 0)

    def tolist(self):
        return self.values

    def item(self):
        if self.ndim:
            raise ValueError("only one element tensors can be converted")
        return self.values


@pytest.mark.parametrize(
    ("result", "count", "items"),
    [
        ([1, 0.5], 2, [1.0, 0.5]),
        (Tensor([1.0, 0.5]), 2, [1.0, 0.5]),
        (Tensor(0.5), 1, [0.5]),
        (0.5, 1, [0.5]),
        ({"rewards": Tensor([1.0])}, 1, [1.0]),
        ({"rewards": Tensor(1.0), "scores": 1}, 1, [Graded(1.0, {"scores": 1.0})]),
        ({"rewards": [1, None], "extra_logs": {"a": Tensor([1, 2])}}, 2, [Graded(1.0, {"a": 1.0}), None]),
        ({"rewards": [1, 2], "extra_logs": {"a": [1], "b": "xx", "c": [3, None]}}, 2, [Graded(1.0, {"c": 3.0}), 2.0]),
        ({"rewards": [1, 2], "extra_logs": None, "scores": None}, 2, [1.0, 2.0]),
    ],
)
def test_what_openrlhf_makes_of_a_result(result, count, items):
    assert listed_from(result, count) == items


@pytest.mark.parametrize(
    ("result", "told"),
    [
        ({"reward": [1, 2]}, "which has no 'rewards'"),
        ({"rewards": [1]}, "returned 1 rewards for 2 completions"),
        (0.5, "not a list of numbers"),
        (None, "not a list of numbers"),
    ],
)
def test_what_is_no_list_of_rewards_is_told(result, told):
    assert told in listed_from(result, 2)


# ------------------------------------------------------------------ TRL


async def test_a_trl_function_may_have_columns_of_other_names_and_fixed_values(scored):
    text = "def reward(completions, gold, scale=1): return [scale * len(g) for g in gold]"
    options = {"columns_as": {"gold": "answer"}, "arguments": {"scale": 3}}
    (verdict,) = await scored(text, [Sample("a", None, {"answer": "xx"})], **options)
    assert verdict.score == 6.0
    assert needs("completions, gold, scale=1", **options).required_columns == {"answer"}
