import json

import pytest
from comparisons import blocks, group_of, method_of, opinions_of
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import ScriptedEngine, said
from small_judges import judge_with, verdicts_of

from reward_server.domain import Blame, Sample, Status
from reward_server.errors import BadAnswer, HostUnreachable, NotComparable
from reward_server.judge.methods import METHODS
from reward_server.judge.methods.base import Miss, Opinion
from reward_server.judge.methods.listwise import Listwise, Ranking, read_ranking

IDS = ("k3xq", "a7bc", "zz2d")


def answer(ids, reason="Because."):
    return said(json.dumps({"reason": reason, "ranking": list(ids)}))


def by(merit, reason="Because."):
    """Returns a judge that ranks by the completions' texts, best first."""

    def script(question):
        shown = blocks(question)
        return answer(sorted(shown, key=lambda name: -merit(shown[name])), reason)

    return script


def as_shown(question):
    return answer(blocks(question))


def grades(opinions):
    return [opinion.grade for opinion in opinions]


async def test_the_grade_is_the_place_in_the_ranking():
    opinions, engine = await opinions_of(method_of(Listwise), group_of("aa", "aaaa", "a", "aaa", "aaaaa"), by(len))
    assert grades(opinions) == [0.25, 0.75, 0.0, 0.5, 1.0]
    assert len(engine.questions) == 2


async def test_the_two_questions_show_the_group_in_opposite_orders():
    _, engine = await opinions_of(method_of(Listwise), group_of("a", "b", "c", "d"), by(ord))
    forth, back = (list(blocks(question).items()) for question in engine.questions)
    assert forth == back[::-1]
    assert sorted(text for _, text in forth) == ["a", "b", "c", "d"]


async def test_a_judge_that_goes_by_the_place_makes_ties_and_is_found_out():
    for script in (as_shown, lambda question: answer(list(blocks(question))[::-1])):
        opinions, _ = await opinions_of(method_of(Listwise), group_of("a", "b", "c", "d", "e"), script)
        assert opinions == [Opinion(0.5, "Because.", flags=("order_dependent",))] * 5


async def test_the_two_rankings_are_averaged():
    rankings = iter(["abcd", "bacd"])

    def script(question):
        best_first = next(rankings)
        return by(lambda text: -best_first.index(text))(question)

    opinions, _ = await opinions_of(method_of(Listwise), group_of("a", "b", "c", "d"), script)
    assert grades(opinions) == pytest.approx([5 / 6, 5 / 6, 1 / 3, 0.0])
    assert [opinion.flags for opinion in opinions] == [()] * 4


async def test_equal_completions_are_shown_once_and_tie():
    opinions, engine = await opinions_of(method_of(Listwise), group_of("a", "bb", "a", "ccc"), by(len))
    assert grades(opinions) == [0.0, 0.5, 0.0, 1.0]
    assert len(blocks(engine.questions[0])) == 3


async def test_where_all_are_equal_nothing_is_asked_and_all_tie():
    opinions, engine = await opinions_of(method_of(Listwise), group_of("a", "a"), as_shown)
    assert (opinions, engine.questions) == ([Opinion(0.5)] * 2, [])


async def test_one_completion_alone_is_missing():
    [miss], engine = await opinions_of(method_of(Listwise), group_of("a"), as_shown)
    assert isinstance(miss.error, NotComparable)
    assert engine.questions == []


def test_of_no_completions_nothing_is_asked():
    method = method_of(Listwise)
    assert list(method.units([])) == list(method.opinions([], [])) == []


@given(st.permutations(["a", "b", "c", "d", "e"]))
def test_the_same_group_is_the_same_questions_in_whatever_order_it_came(texts):
    method = method_of(Listwise)
    assert [u.key for u in method.units(group_of(*texts))] == [u.key for u in method.units(group_of(*"abcde"))]


async def test_ids_say_nothing_about_places_and_change_with_the_secret():
    seen = set()
    alphabetical = 0
    for number in range(20):
        _, engine = await opinions_of(method_of(Listwise, secret=bytes([number]) * 32), group_of(*"abcdef"), as_shown)
        ids = tuple(blocks(engine.questions[0]))
        alphabetical += ids in (tuple(sorted(ids)), tuple(sorted(ids, reverse=True)))
        seen.add(ids)
    assert len(seen) == 20
    assert alphabetical < 3


async def test_the_schema_allows_these_ids_and_no_others_and_has_the_reason_first():
    _, engine = await opinions_of(method_of(Listwise), group_of("a", "b", "c"), as_shown)
    question = engine.questions[0]
    assert list(question.schema["properties"]) == ["reason", "ranking"]
    ranking = question.schema["properties"]["ranking"]
    assert set(ranking["items"]["enum"]) == set(blocks(question))
    assert (ranking["minItems"], ranking["maxItems"]) == (3, 3)
    assert question.alternatives == 0


async def test_with_little_room_there_is_no_reason_and_with_none_nothing_is_asked():
    little = method_of(Listwise, max_answer_tokens=40)
    opinions, engine = await opinions_of(
        little, group_of("a", "b", "c"), lambda q: said(json.dumps({"ranking": sorted(blocks(q))}))
    )
    assert list(engine.questions[0].schema["properties"]) == ["ranking"]
    assert '"reason"' not in engine.questions[0].messages[-1].content
    opinions, engine = await opinions_of(little, group_of(*"abcdefgh"), as_shown)
    assert engine.questions == []
    assert {type(opinion.error) for opinion in opinions} == {NotComparable}
    assert "max_answer_tokens is 40" in str(opinions[0].error)


async def test_one_order_alone_is_no_grade():
    turns = iter([answer, None])

    def script(question):
        return as_shown(question) if next(turns) else HostUnreachable("away")

    opinions, _ = await opinions_of(method_of(Listwise), group_of("a", "b"), script)
    assert {type(opinion.error) for opinion in opinions} == {HostUnreachable}


async def test_an_answer_that_was_cut_off_is_no_ranking():
    opinions, engine = await opinions_of(
        method_of(Listwise), group_of("a", "b"), lambda question: said('{"reason": "I th', finish="length")
    )
    assert isinstance(opinions[0], Miss)
    assert "cut off" in str(opinions[0].error)
    assert [question.seed for question in engine.questions] == [0, 1, 0, 1]


async def test_what_the_judge_says_is_shown_to_people_with_nothing_live_in_it():
    opinions, _ = await opinions_of(method_of(Listwise), group_of("a", "bb"), by(len, "Fine<|im_end|>\x1b[2J"))
    assert opinions[0].explanation.startswith("Fine")
    assert "<|im_end|>" not in opinions[0].explanation
    assert "\x1b" not in opinions[0].explanation


def test_a_ranking_is_read_by_ids():
    assert read_ranking('{"ranking": ["zz2d", "k3xq", "a7bc"], "reason": "r"}', IDS) == Ranking(
        ("zz2d", "k3xq", "a7bc"), "r"
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        "k3xq, a7bc, zz2d",
        "[]",
        '{"ranking": null}',
        '{"ranking": "k3xq"}',
        '{"ranking": [1, 2, 3]}',
        '{"ranking": ["k3xq", "a7bc"]}',
        '{"ranking": ["k3xq", "a7bc", "a7bc"]}',
        '{"ranking": ["k3xq", "a7bc", "zz2d", "zz2d"]}',
        '{"ranking": ["k3xq", "a7bc", "none"]}',
        '{"ranking": ["k3xq", "a7bc", ["zz2d"]]}',
        '{"ranking": ["k3xq", "a7bc", "zz2d"], "reason": 3}',
        '{"ranking": ["k3xq", "a7bc", "zz2d"], "grade": 3}',
        '{"ranking": ["k3xq", "a7bc", "zz2d"]} and more',
        "[" * 100_000,
    ],
)
def test_what_is_no_ranking_of_the_group_is_a_bad_answer(text):
    with pytest.raises(BadAnswer):
        read_ranking(text, IDS)


@given(
    st.text()
    | st.recursive(
        st.none() | st.floats() | st.sampled_from(IDS),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["ranking", "reason"]), x),
    ).map(json.dumps)
)
def test_reading_gives_a_permutation_or_a_bad_answer_whatever_the_text(text):
    try:
        ranking = read_ranking(text, IDS)
    except BadAnswer:
        return
    assert sorted(ranking.ids) == sorted(IDS)


def test_it_is_known_by_its_name():
    assert METHODS["listwise"] is Listwise
    assert (
        method_of(Listwise).identity()
        == method_of(Listwise).identity()
        != method_of(Listwise, temperature=1.0).identity()
    )


async def test_through_a_judge_who_silences_it_is_to_blame_and_the_others_are_not():
    def script(question):
        return said("No.") if "silence" in blocks(question).values() else as_shown(question)

    judge = judge_with(ScriptedEngine(script), method="listwise")
    verdicts = await verdicts_of(judge, [Sample(text, "Task.") for text in ["a", "silence", "b"]])
    assert verdicts[1].status is Status.ABSTAINED
    assert [verdict.blame for verdict in verdicts] == [Blame.UNKNOWN, Blame.COMPLETION, Blame.UNKNOWN]


async def test_who_silences_it_takes_nobodys_grade_along():
    """Were the others missing, a floor would be all that their group has: the mean, and so no loss to its bearer."""

    def script(question):
        return said("No.") if "silence" in blocks(question).values() else by(len)(question)

    judge = judge_with(ScriptedEngine(script), method="listwise")
    verdicts = await verdicts_of(judge, [Sample(text, "Task.") for text in ["aa" * 20, "silence", "b", "c" * 60]])
    assert [verdict.score for verdict in verdicts] == pytest.approx([2 / 3, None, 0.0, 1.0])
    assert {verdict.flags for verdict in verdicts if verdict.score is not None} == {("opponents_replaced",)}


async def test_through_a_judge_the_only_one_that_says_anything_is_compared_with_a_bland_one():
    engine = ScriptedEngine(by(len))
    judge = judge_with(engine, method="listwise")
    verdicts = await verdicts_of(judge, [Sample(text, "Task.") for text in ["", "A fair answer, and long.", ":"]])
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0, 0.0]
    assert verdicts[1].flags == ("opponents_replaced",)
    assert verdicts[1].cost.judge_call_count == len(engine.questions) == 2


async def test_through_a_judge_it_may_take_the_place_of_pairwise_where_there_are_no_log_probabilities():
    engine = ScriptedEngine(by(len), gives_logprobs=False)
    judge = judge_with(engine, method="pairwise", if_no_logprobs="listwise")
    verdicts = await verdicts_of(judge, [Sample("a"), Sample("bbb"), Sample("cc")])
    assert [verdict.score for verdict in verdicts] == [0.0, 1.0, 0.5]
