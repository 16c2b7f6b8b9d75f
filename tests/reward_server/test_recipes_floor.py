"""A completion that breaks a part gets what is worst for the whole, whatever the whole makes of that part."""

import asyncio
from itertools import product
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from recipes import leaf, leaves, made_of, saying, scores_of, verdicts_of

from reward_server.floor import FLOOR_FLAG
from reward_server.scorers.recipes.base import Recipe

NUMBERS = st.integers(-8, 8).map(lambda number: number / 4)
RANGES = st.tuples(NUMBERS, NUMBERS).filter(lambda ends: ends[0] < ends[1])
LENGTH = 50
"""Tokens of every sample: a cosine has its limit on either side."""


class Tree:
    """A recipe made of recipes, each used once, in the order in which a configuration may have them."""

    def __init__(self, draw, depth):
        self.draw = draw
        self.leaves, self.recipes = {}, {}
        self.top = self.node(depth)

    def node(self, depth):
        if depth == 0 or (self.recipes and self.draw(st.integers(0, 3)) == 0):
            name = f"leaf{len(self.leaves)}"
            self.leaves[name] = self.draw(RANGES)
            return name
        name = f"recipe{len(self.recipes)}"
        self.recipes[name] = {}  # its place
        kind = self.draw(st.sampled_from(["sum", "product", "min", "max", "clip", "rescale", "gate", "cosine"]))
        self.recipes[name] = {kind: getattr(self, kind)(depth - 1)}
        return name

    def two(self, depth):
        return {"parts": [self.node(depth), self.node(depth)]}

    product = min = max = two

    def sum(self, depth):
        return {"parts": {self.node(depth): self.draw(NUMBERS), self.node(depth): self.draw(NUMBERS)}}

    def clip(self, depth):
        low, high = self.draw(RANGES)
        return {"of": self.node(depth), "low": low, "high": high}

    def rescale(self, depth):
        to = list(self.draw(RANGES.flatmap(st.permutations)))
        return {"of": self.node(depth), "from": list(self.draw(RANGES)), "to": to, "clip": self.draw(st.booleans())}

    def gate(self, depth):
        when, then = self.node(depth), self.node(depth)
        otherwise = self.draw(st.sampled_from(["number", "reward", "lowest"]))
        branch = self.draw(NUMBERS) if otherwise == "number" else self.node(depth) if otherwise == "reward" else None
        return {"when": when, "at_least": self.draw(NUMBERS), "then": then, "otherwise": branch}

    def cosine(self, depth):
        scores = ("r0_correct", "rL_correct", "r0_wrong", "rL_wrong", "r_exceeded")
        options = {name: self.draw(NUMBERS) for name in scores} | {"max_length": self.draw(st.sampled_from([40, 90]))}
        return {**options, "correct": self.node(depth), "correct_at_least": self.draw(NUMBERS)}

    async def verdicts(self, *said):
        async with made_of(leaves(**self.leaves), self.recipes) as rewards:
            samples = [saying(each, token_count=LENGTH) for each in said]
            found = (await verdicts_of(rewards, samples, self.top))[self.top]
            return found, {info.name: info.score_range for info in rewards.describe()}[self.top]


@st.composite
def trees(draw):
    return Tree(draw, draw(st.integers(1, 3)))


def inside(draw, bounds):
    return draw(st.sampled_from([*bounds, (bounds[0] + bounds[1]) / 2]))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(trees(), st.data())
def test_breaking_parts_scores_the_least_that_any_score_of_theirs_would_have_made(tree, data):
    said = {name: inside(data.draw, bounds) for name, bounds in tree.leaves.items()}
    broken = data.draw(st.lists(st.sampled_from(list(tree.leaves)), min_size=1, max_size=3, unique=True))
    honest = [said | dict(zip(broken, ends, strict=True)) for ends in product(*(tree.leaves[b] for b in broken))]
    with mock.patch.object(Recipe, "check_decides"):  # the law holds also where all or none reach a bound
        verdicts, bounds = asyncio.run(tree.verdicts(said | dict.fromkeys(broken, "broken"), *honest, said))
    scores = [verdict.score for verdict in verdicts]
    assert all(score is not None for score in scores)
    touched = FLOOR_FLAG in verdicts[0].flags  # not where a gate has never asked for it
    assert scores[0] == pytest.approx(min(scores[1:-1]) if touched else scores[-1], abs=1e-9)
    assert scores[0] <= scores[-1] + 1e-9  # what the completion would have got otherwise
    assert bounds is None or all(bounds[0] - 1e-9 <= score <= bounds[1] + 1e-9 for score in scores)


SCORES = [{"fault": 0.0}, {"fault": 0.5}, {"fault": 1.0}]


@pytest.mark.parametrize(
    "recipe",
    [
        {"sum": {"fault": -1}},
        {"rescale": {"of": "fault", "to": [0, -1]}},
        {
            "cosine": {
                "correct": "fault",
                "max_length": 90,
                "unit": "chars",
                "r0_correct": -1,
                "rL_correct": -1,
                "r0_wrong": 0,
            }
        },
    ],
)
async def test_breaking_what_is_a_penalty_is_as_bad_as_the_highest_penalty(recipe):
    *honest, broken = await scores_of(leaves(fault=(0.0, 1.0)), recipe, *SCORES, {"fault": "broken"})
    assert broken == min(honest) == honest[-1] == -1


async def test_a_product_with_something_negative_turns_a_part_round():
    scorers = leaves(sign=(-1.0, 1.0), fault=(0.0, 1.0))
    recipe = {"product": {"parts": ["sign", "fault"]}}
    said = [{"sign": sign, "fault": fault} for sign in (-1.0, 1.0) for fault in (0.0, 1.0, "broken")]
    assert await scores_of(scorers, recipe, *said) == [0, -1, -1, 0, 1, 0]


async def test_a_floor_that_is_a_number_counts_as_that_number_through_all_levels():
    recipes = {
        "inner": {"sum": {"fault": 1, "other": 1}},
        "it": {"sum": {"inner": -1}},
    }
    scorers = leaves(fault=(0.0, 1.0), other=(0.0, 1.0))
    for floor, expected in ((0.25, -0.75), ("lowest", -1.5)):
        async with made_of(scorers, recipes, floors={"fault": floor}) as rewards:
            found = await verdicts_of(rewards, [saying({"fault": "broken", "other": 0.5})], "it", "inner")
        assert found["it"][0].score == expected
        assert found["inner"][0].score == (0.75 if floor == 0.25 else 0.5)


async def test_how_a_floor_was_declared_is_in_the_version_of_what_is_made_of_it():
    versions = set()
    for floor in (0.0, "lowest"):
        async with made_of(leaves(a=(0.0, 1.0)), {"it": {"rescale": {"of": "a"}}}, floors={"a": floor}) as rewards:
            versions.add(rewards.describe()[-1].version)
    assert len(versions) == 2


async def test_a_part_without_a_range_has_no_lowest_score_so_the_whole_is_missing_and_gets_its_own_floor():
    scorers = {"a": leaf("a", None)}
    recipe = {"clip": {"of": "a", "low": -3, "high": 3}}
    assert await scores_of(scorers, recipe, {"a": "broken"}) == [-3]
    assert await scores_of(scorers, recipe, {"a": "broken"}, floors={"it": "missing"}) == [None]
