"""What a recipe carries of its parts, and of what they are made of."""

from hypothesis import given
from hypothesis import strategies as st
from recipes import leaves, made_of, saying, verdicts_of
from small_rewards import rule

from reward_server.domain import Verdict, scored
from reward_server.scorers.recipes.base import MAX_PARTS, _with_their_parts

NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,3}", fullmatch=True)
OWN_PARTS = st.dictionaries(st.text(max_size=4), st.floats(-1, 1) | st.none(), max_size=4)


async def test_parts_of_parts_are_named_by_the_way_to_them_and_those_not_asked_for_are_not_there():
    judge = rule(lambda sample: scored(0.5, parts={"kind": 0.0, "true": 1.0}), score_range=(0.0, 1.0))
    recipes = {
        "inner": {"sum": {"shape": 2, "judge": 1}},
        "it": {"gate": {"when": "shape", "at_least": 1, "then": "inner", "otherwise": 0}},
    }
    async with made_of({**leaves(shape=(0.0, 1.0)), "judge": judge}, recipes) as rewards:
        said = [saying({"shape": 1.0}), saying({"shape": 0.0})]
        passed, spared = (await verdicts_of(rewards, said, "it"))["it"]
    assert dict(passed.parts) == {
        "shape": 1.0,
        "inner": 2.5,
        "inner/shape": 1.0,
        "inner/judge": 0.5,
        "inner/judge/kind": 0.0,
        "inner/judge/true": 1.0,
    }
    assert dict(spared.parts) == {"shape": 0.0}


async def test_a_missing_part_keeps_what_there_is_of_its_own_parts():
    recipes = {"inner": {"sum": {"a": 1, "b": 1}}, "it": {"sum": {"inner": 1}}}
    async with made_of(leaves(a=None, b=None), recipes) as rewards:
        (verdict,) = (await verdicts_of(rewards, [saying({"a": 3.0, "b": "away"})], "it"))["it"]
    assert dict(verdict.parts) == {"inner": None, "inner/a": 3.0, "inner/b": None}
    assert verdict.status_reason == "part 'inner' is missing: part 'b' is missing: its host is away"


@given(st.dictionaries(NAMES, OWN_PARTS, min_size=1, max_size=5))
def test_no_two_parts_ever_have_one_name(parts):
    verdicts: dict[str, Verdict] = {name: scored(1.0, parts=own) for name, own in parts.items()}
    assert len(_with_their_parts(verdicts)) == len(parts) + sum(map(len, parts.values()))


def test_no_more_parts_are_told_than_anybody_reads_but_its_own_always():
    many = {f"part{number}": number / 1000 for number in range(1000)}
    told = _with_their_parts({"a": scored(1.0, parts=many), "b": scored(2.0)})
    assert len(told) == MAX_PARTS
    assert list(told)[:3] == ["a", "b", "a/part0"]
