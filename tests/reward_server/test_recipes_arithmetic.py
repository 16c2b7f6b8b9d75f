"""Products, extremes, clips and other scales: what they give, their ranges, and what becomes of missing parts."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from recipes import leaves, made_of, range_of, saying, scores_of, verdicts_of

from reward_server.config import load
from reward_server.domain import Blame, CostClass, Health, Needs, Status
from reward_server.errors import ConfigError
from reward_server.registry import SCORERS
from reward_server.scorers.recipes.extents import UNKNOWN, product

TWO = leaves(a=(0.0, 1.0), b=(-2.0, 3.0))
UNRANGED = leaves(a=(0.0, 1.0), b=None)
BOUNDS = st.tuples(st.floats(-9, 9), st.floats(-9, 9)).map(lambda ends: (min(ends), max(ends)))


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        ({"product": ["a", "b"]}, -1.0),
        ({"product": {"parts": ["a", "b"]}}, -1.0),
        ({"min": ["a", "b"]}, -2.0),
        ({"max": ["a", "b"]}, 0.5),
        ({"clip": {"of": "b", "low": -1}}, -1.0),
        ({"clip": {"of": "b", "high": -3}}, -3.0),
        ({"clip": {"of": "b", "low": -5, "high": 1}}, -2.0),
        ({"rescale": {"of": "a", "to": [10, 20]}}, 15.0),
        ({"rescale": {"of": "a", "to": [0, -1]}}, -0.5),
        ({"rescale": {"of": "b"}}, 0.0),
        ({"rescale": {"of": "b", "from": [-1, 1]}}, 0.0),
        ({"rescale": {"of": "b", "from": [-1, 1], "clip": False}}, -0.5),
    ],
)
async def test_what_a_recipe_gives(recipe, expected):
    ((kind, options),) = recipe.items()
    shorthand = getattr(SCORERS[kind].Options, "shorthand", None)
    body = {kind: {shorthand: options} if isinstance(options, list) else options}
    assert await scores_of(TWO, body, {"a": 0.5, "b": -2.0}) == [expected]


@pytest.mark.parametrize(
    ("recipe", "known", "unknown"),
    [
        ({"product": {"parts": ["a", "b"]}}, (-2.0, 3.0), None),
        ({"min": {"parts": ["a", "b"]}}, (-2.0, 1.0), None),
        ({"max": {"parts": ["a", "b"]}}, (0.0, 3.0), None),
        ({"min": {"parts": ["a", "b"], "missing_parts": "skip"}}, (-2.0, 3.0), None),
        ({"max": {"parts": ["a", "b"], "missing_parts": "skip"}}, (-2.0, 3.0), None),
        ({"sum": {"parts": {"a": 1, "b": 2}}}, (-4.0, 7.0), None),
        ({"sum": {"parts": {"a": 1, "b": 0}}}, (0.0, 1.0), (0.0, 1.0)),
        ({"clip": {"of": "b", "low": 0}}, (0.0, 3.0), None),
        ({"clip": {"of": "b", "low": 0, "high": 1}}, (0.0, 1.0), (0.0, 1.0)),
        ({"rescale": {"of": "b", "from": [0, 1], "to": [1, 0]}}, (0.0, 1.0), (0.0, 1.0)),
        ({"rescale": {"of": "b", "from": [0, 1], "to": [1, 0], "clip": False}}, (-2.0, 3.0), None),
    ],
)
async def test_a_range_follows_from_the_parts(recipe, known, unknown):
    assert await range_of(TWO, recipe) == known
    assert await range_of(UNRANGED, recipe) == unknown


async def test_what_may_be_skipped_widens_the_range_of_a_sum():
    always = leaves(a=(1.0, 2.0), b=(-2.0, -1.0))
    parts = {"parts": {"a": 1, "b": 1}}
    assert await range_of(always, {"sum": parts}) == (-1.0, 1.0)
    assert await range_of(always, {"sum": {**parts, "missing_parts": "skip"}}) == (-2.0, 2.0)


@given(BOUNDS, BOUNDS, st.floats(0, 1), st.floats(0, 1))
def test_a_product_lies_within_its_extent_and_reaches_both_ends(one, other, here, there):
    low, high = product(one, other)
    inside = [bounds[0] + share * (bounds[1] - bounds[0]) for bounds, share in ((one, here), (other, there))]
    assert low - 1e-9 <= inside[0] * inside[1] <= high + 1e-9
    ends = [this * that for this in one for that in other]
    assert (low, high) == (min(ends), max(ends))


def test_what_is_unknown_times_nothing_is_nothing():
    assert product(UNKNOWN, (0.0, 0.0)) == (0.0, 0.0)
    assert product(UNKNOWN, (-1.0, 0.0)) == UNKNOWN


@given(st.floats(-5, 5), st.floats(-5, 5), BOUNDS.filter(lambda b: b[1] - b[0] > 1e-6))
def test_a_rescaled_score_rises_or_falls_all_the_way_and_never_leaves_its_range(one, other, source):
    for to in ((0.0, 1.0), (3.0, -1.0)):
        scorer = rescale(source, to)
        mapped = [scorer.extent({"x": (score, score)})[0] for score in sorted((one, other))]
        assert mapped == sorted(mapped, reverse=to[0] > to[1])
        assert all(min(to) <= score <= max(to) for score in mapped)
        assert [scorer.extent({"x": (end, end)})[0] for end in source] == list(to)


def rescale(source, to):
    class Context:
        reward_name = "it"
        reward = staticmethod(lambda name: None)

    kind = SCORERS["rescale"]
    return kind(kind.Options.model_validate({"of": "x", "from": list(source), "to": list(to)}), Context)


@pytest.mark.parametrize(("score_range", "words"), [(None, "is unknown"), ((2.0, 2.0), "is a single score")])
async def test_a_scale_without_a_source_does_not_start_where_the_part_has_no_range(score_range, words):
    with pytest.raises(ConfigError, match=rf"rewards.it.rescale: the score range of 'a' {words}.*`from: \[0, 10\]`"):
        await made_of(leaves(a=score_range), {"it": {"rescale": {"of": "a"}}}).__aenter__()


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("product", {"parts": ["a"]}, "at least 2"),
        ("min", {"parts": ["a", "b", "a"]}, "a stands here twice"),
        ("max", {"parts": ["a", "b"], "missing_parts": "zero"}, "'missing' or 'skip'"),
        ("clip", {"of": "a"}, "give low, high, or both"),
        ("clip", {"of": "a", "low": 1, "high": 1}, "low must be less than high; here they are 1 and 1"),
        ("clip", {"of": "a", "low": float("nan")}, "finite"),
        ("rescale", {"of": "a", "from": [1, 0]}, "write the lower score first"),
        ("rescale", {"of": "a", "to": [1, 1]}, "must differ"),
        ("rescale", {"of": "a", "from_": [0, 1]}, "Extra inputs"),
        ("sum", {"a": 1, "parts": {"b": 1}}, "Extra inputs"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_would_be_right(kind, options, told):
    with pytest.raises(ValidationError) as caught:
        SCORERS[kind].Options.model_validate(options)
    assert told in str(caught.value)


def test_in_a_file_the_parts_of_a_product_are_a_plain_list_and_unknown_ones_are_told(tmp_path):
    text = "rewards:\n  a: {length: {target: 1, width: 1}}\n  it: {product: [a, bb]}\n"
    (tmp_path / "server.yaml").write_text(text)
    with pytest.raises(ConfigError, match=r"server.yaml:3: rewards.it.product\[1\]: unknown reward"):
        load(tmp_path / "server.yaml")
    (tmp_path / "server.yaml").write_text(text.replace("bb", "b") + "  b: {length: {target: 2, width: 1}}\n")
    assert load(tmp_path / "server.yaml").rewards["it"].options.parts == ("a", "b")


WHOLE = [
    {"sum": {"parts": {"a": 1, "b": 1}}},
    {"product": {"parts": ["a", "b"]}},
    {"min": {"parts": ["a", "b"]}},
    {"max": {"parts": ["a", "b"]}},
]
SKIPPING = [
    ({"sum": {"parts": {"a": 2, "b": 1}, "missing_parts": "skip"}}, 1.0),
    ({"min": {"parts": ["a", "b"], "missing_parts": "skip"}}, 0.5),
    ({"max": {"parts": ["a", "b"], "missing_parts": "skip"}}, 0.5),
]


@pytest.mark.parametrize("recipe", WHOLE)
@pytest.mark.parametrize(
    ("said", "status", "blame"),
    [
        ("no reference", Status.ABSTAINED, Blame.REFERENCE),
        ("silent", Status.ABSTAINED, Blame.UNKNOWN),
        ("crashed", Status.FAILED, Blame.UNKNOWN),
        ("away", Status.ABSTAINED, Blame.OUTAGE),
    ],
)
async def test_a_whole_with_a_missing_part_is_missing_for_the_same_cause(recipe, said, status, blame):
    async with made_of(TWO, {"it": recipe}) as rewards:
        (verdict,) = (await verdicts_of(rewards, [saying({"a": 0.0, "b": said})], "it"))["it"]
    assert (verdict.score, verdict.status, verdict.blame) == (None, status, blame)
    assert verdict.status_reason.startswith("part 'b' is missing: ")


@pytest.mark.parametrize(("recipe", "rest"), SKIPPING)
async def test_a_part_that_has_nothing_to_say_may_be_skipped_if_the_recipe_says_so(recipe, rest):
    for said in ("no reference", "silent"):
        assert await scores_of(TWO, recipe, {"a": 0.5, "b": said}) == [rest]
        assert await scores_of(TWO, recipe, {"a": said, "b": said}) == [None]


@pytest.mark.parametrize(("recipe", "rest"), SKIPPING)
@pytest.mark.parametrize("said", ["crashed", "away", "broken"])
async def test_what_is_broken_or_away_is_never_skipped(recipe, rest, said):
    floors = {"a": "missing", "b": "missing", "it": "missing"}
    assert await scores_of(TWO, recipe, {"a": 0.5, "b": said}, floors=floors) == [None]


@pytest.mark.parametrize("kind", ["product", "min", "max", "clip", "rescale"])
async def test_every_recipe_takes_over_needs_cost_health_and_version_of_its_parts(kind):
    options = {"parts": ["a", "b"]} if kind in ("product", "min", "max") else {"of": "a"}
    options |= {"high": 1} if kind == "clip" else {}
    versions = set()
    for source in ("one", "other"):
        scorers = leaves(a=(0.0, 1.0), b=(0.0, 1.0))
        a = scorers["a"]
        a.needs = Needs(required_columns=frozenset({"answer"}), prompts=True)
        a.cost_class = CostClass.JUDGE
        a.health = lambda self: Health(serving=False, reason="no host")
        a.identity = lambda self, source=source: {"source": source}
        async with made_of(scorers, {"it": {kind: options}}) as rewards:
            info = rewards.describe()[-1]
        versions.add(info.version)
        assert info.needs == a.needs
        assert info.cost_class is CostClass.JUDGE
        assert info.health == Health(serving=False, reason="a: no host")
    assert len(versions) == 2
