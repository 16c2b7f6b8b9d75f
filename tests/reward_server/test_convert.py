import json
import math

import pytest
from batches import batch_from, text_column_from
from hypothesis import given
from hypothesis import strategies as st

from protos.reward.v1 import reward_pb2 as pb
from reward_server import convert
from reward_server.convert.answers import BLAME_TO_WIRE, COST_CLASS_TO_WIRE, STATUS_TO_WIRE, verdicts_from
from reward_server.convert.texts import texts_from
from reward_server.domain import Blame, Cost, CostClass, Sample, Status, abstained, failed, scored
from reward_server.errors import MalformedRequest
from reward_server.scoring import RewardResult, Selector

TEXTS = st.text(max_size=30)  # no surrogates: a sender replaces them
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PARTS = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=2)
MESSAGES = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant", "tool"]), "content": st.none() | TEXTS | PARTS},
    optional={"name": TEXTS, "tool_calls": st.lists(JSON, max_size=2), "reasoning_content": TEXTS},
)
ITEMS = TEXTS | st.lists(MESSAGES, max_size=3)


@st.composite
def batches(draw):
    count = draw(st.integers(0, 6))
    column = lambda values: draw(st.lists(values, min_size=count, max_size=count))  # noqa: E731  # a column of values
    prompts = column(ITEMS) if draw(st.booleans()) else [None] * count
    tokens = column(st.integers(0, 2**32 - 1)) if draw(st.booleans()) else [None] * count
    truncated = column(st.booleans()) if draw(st.booleans()) else [None] * count
    names = draw(st.lists(TEXTS, unique=True, max_size=3))
    columns = [dict(zip(names, row, strict=True)) for row in zip(*(column(JSON) for _ in names), strict=True)]
    rows = zip(
        column(ITEMS), prompts, columns or [{}] * count, column(st.integers(0, 9)), tokens, truncated, strict=True
    )
    return [Sample(*row) for row in rows]


def over_the_wire(batch):
    return pb.Batch.FromString(batch.SerializeToString())


@given(batches())
def test_samples_come_back_as_they_were_sent(samples):
    assert convert.samples_from(over_the_wire(batch_from(samples))) == samples


@given(st.lists(ITEMS, max_size=6))
def test_texts_and_conversations_come_back_as_they_were_sent(items):
    assert texts_from(text_column_from(items), "completions") == items


def test_a_column_keeps_nan_and_infinities():
    column = pb.Column(name="x", values_json=b"[NaN, -Infinity, 1e400]")
    values = [s.columns["x"] for s in convert.samples_from(pb.Batch(completions=plain(3), columns=[column]))]
    assert math.isnan(values[0])
    assert values[1:] == [-math.inf, math.inf]


def plain(count):
    return pb.TextColumn(texts=[b"x"] * count)


def test_without_group_indexes_equal_consecutive_prompts_are_a_group():
    prompts = pb.TextColumn(texts=[b"p", b"q", b"p"])
    batch = pb.Batch(completions=plain(6), prompts=prompts, prompt_indexes=[0, 2, 1, 1, 0, 1])
    assert [sample.group for sample in convert.samples_from(batch)] == [0, 0, 1, 1, 2, 3]


MALFORMED = {
    "invalid UTF-8": (
        pb.Batch(completions=pb.TextColumn(texts=[b"ok", b"\xff"])),
        r"`completions.texts\[1\]` is not UTF-8",
    ),
    "prompt indexes too few": (
        pb.Batch(completions=plain(2), prompts=plain(1), prompt_indexes=[0]),
        "`prompt_indexes` has 1 entries for 2 completions",
    ),
    "prompt indexes missing": (
        pb.Batch(completions=plain(2), prompts=plain(1)),
        "`prompt_indexes` has 0 entries for 2 completions",
    ),
    "prompt index out of range": (
        pb.Batch(completions=plain(2), prompts=plain(1), prompt_indexes=[0, 7]),
        r"`prompt_indexes\[1\]` is 7, but there are 1 prompts",
    ),
    "prompt indexes without prompts": (
        pb.Batch(completions=plain(1), prompt_indexes=[0]),
        r"`prompt_indexes\[0\]` is 0, but there are 0 prompts",
    ),
    "group indexes": (pb.Batch(completions=plain(2), group_indexes=[1]), "`group_indexes` has 1 entries for 2"),
    "token counts": (
        pb.Batch(completions=plain(2), completion_token_counts=[1, 2, 3]),
        "`completion_token_counts` has 3 entries for 2",
    ),
    "truncated": (
        pb.Batch(completions=plain(1), completions_truncated=[True, False]),
        "`completions_truncated` has 2 entries for 1",
    ),
    "column twice": (
        pb.Batch(completions=plain(1), columns=[pb.Column(name="a", values_json=b"[1]")] * 2),
        "the column 'a' was sent twice",
    ),
    "column of a wrong length": (
        pb.Batch(completions=plain(1), columns=[pb.Column(name="a", values_json=b"[1, 2]")]),
        "the column 'a' has 2 values for 1 completions",
    ),
    "column that is no array": (
        pb.Batch(completions=plain(1), columns=[pb.Column(name="a", values_json=b'{"x": 1}')]),
        "the column 'a' is no JSON array, but a dict",
    ),
    "column that is no JSON": (
        pb.Batch(completions=plain(1), columns=[pb.Column(name="a", values_json=b"[1,")]),
        "the column 'a' is not JSON in UTF-8",
    ),
    "column that is a JSON bomb": (
        pb.Batch(completions=plain(1), columns=[pb.Column(name="a", values_json=b"[" * 200_000)]),
        "the column 'a' is not JSON in UTF-8",
    ),
    "message counts too low": (
        pb.Batch(completions=pb.TextColumn(texts=[b"x"], message_counts=[-2])),
        "`completions.message_counts` holds -2",
    ),
    "message counts that do not sum": (
        pb.Batch(completions=pb.TextColumn(texts=[b"x"], message_counts=[2], roles=["user", "user"])),
        "stand for 2 texts, but `completions.texts` has 1",
    ),
    "roles without messages": (
        pb.Batch(completions=pb.TextColumn(texts=[b"x"], message_counts=[-1], roles=["user"])),
        "`completions.roles` has 1 entries for 0 messages",
    ),
    "roles without counts": (
        pb.Batch(completions=pb.TextColumn(texts=[b"x"], roles=["user"])),
        "stand for 0 texts",
    ),
    "extras too few": (
        pb.Batch(
            completions=pb.TextColumn(
                texts=[b"x", b"y"], message_counts=[2], roles=["user", "user"], message_extras_json=[b"{}"]
            )
        ),
        "`completions.message_extras_json` has 1 entries for 2 messages",
    ),
    "extras that are no object": (
        pb.Batch(
            completions=pb.TextColumn(texts=[b"x"], message_counts=[1], roles=["user"], message_extras_json=[b"[1]"])
        ),
        "is no JSON object",
    ),
    "extras with a content of no known sort": (
        pb.Batch(
            completions=pb.TextColumn(
                texts=[b""], message_counts=[1], roles=["user"], message_extras_json=[b'{"content": 3}']
            )
        ),
        "neither null nor a list of parts",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_batch_that_contradicts_itself_is_refused_naming_the_field(name):
    batch, words = MALFORMED[name]
    with pytest.raises(MalformedRequest, match=words):
        convert.samples_from(over_the_wire(batch))


@given(st.binary(max_size=60))
def test_bytes_are_a_request_or_refused(data):
    try:
        request = convert.score_request_from(data)
        convert.selectors_from(request)
        convert.samples_from(request.batch)
    except MalformedRequest:
        pass


def test_rewards_are_read_in_the_order_asked():
    request = pb.ScoreRequest(rewards=[pb.RewardSelector(name="b"), pb.RewardSelector(name="a", expected_version="1")])
    assert convert.selectors_from(request) == (Selector("b"), Selector("a", "1"))


@pytest.mark.parametrize(
    ("names", "words"), [([], "at least one"), ([""], "at least one"), (["a", "b", "a"], "twice: a, b, a")]
)
def test_no_reward_and_the_same_twice_are_refused(names, words):
    request = pb.ScoreRequest(rewards=[pb.RewardSelector(name=name) for name in names])
    with pytest.raises(MalformedRequest, match=words):
        convert.selectors_from(request)


def test_a_chunk_beyond_the_chunks_is_refused():
    with pytest.raises(MalformedRequest, match="`chunk_index` is 2, but `chunk_count` is 2"):
        convert.score_request_from(pb.ScoreRequest(chunk_index=2, chunk_count=2).SerializeToString())


def test_every_status_and_cost_class_has_a_number_on_the_wire():
    assert set(STATUS_TO_WIRE) == set(Status)
    assert set(COST_CLASS_TO_WIRE) == set(CostClass)
    assert 0 not in [*STATUS_TO_WIRE.values(), *COST_CLASS_TO_WIRE.values()]


def test_every_blame_has_a_number_on_the_wire_and_only_unknown_is_none():
    assert set(BLAME_TO_WIRE) == set(Blame)
    assert [blame for blame, number in BLAME_TO_WIRE.items() if number == pb.BLAME_UNSPECIFIED] == [Blame.UNKNOWN]


def test_verdicts_are_written_in_columns_each_reason_once():
    verdicts = [
        scored(0.1 + 0.2, "fine", parts={"a": 1.0, "b": 2.0}, cost=Cost(1.0, 1, 5.0, 10, 2)),
        failed("dead host", parts={"a": None, "b": 2.5}),
        abstained("no reference"),
        failed("dead host", cost=Cost(2.0, 1, 6.0, 20, 3)),
    ]
    message = verdicts_from(RewardResult("r", "v1", verdicts, total_ms=7.5))
    assert message.scores[0] == 0.1 + 0.2
    assert all(math.isnan(score) for score in message.scores[1:])
    assert list(message.statuses) == [pb.STATUS_SCORED, pb.STATUS_FAILED, pb.STATUS_ABSTAINED, pb.STATUS_FAILED]
    assert list(message.status_reasons) == ["dead host", "no reference"]
    assert list(message.status_reason_indexes) == [0, 1, 2, 1]
    assert [(e.sample_index, e.text) for e in message.explanations] == [(0, b"fine")]
    assert {part.name: str(list(part.scores)) for part in message.parts} == {
        "a": "[1.0, nan, nan, nan]",
        "b": "[2.0, 2.5, nan, nan]",
    }
    cost = message.cost
    assert (cost.total_ms, cost.queue_ms, cost.judge_call_count, cost.judge_ms) == (7.5, 3.0, 2, 11.0)
    assert (cost.prompt_token_count, cost.decoded_token_count) == (30, 5)
    assert list(message.sample_indexes) == []


def test_a_piece_says_of_which_samples_it_is():
    message = verdicts_from(RewardResult("r", "v1", [scored(1.0, "why"), scored(2.0)], 1.0, indexes=[5, 3]))
    assert list(message.sample_indexes) == [5, 3]
    assert message.explanations[0].sample_index == 5


def test_flags_name_their_samples_each_flag_once():
    verdicts = [scored(1.0, flags=("clipped",)), scored(2.0), abstained("x", flags=("capped", "clipped", "clipped"))]
    message = verdicts_from(RewardResult("r", "v1", verdicts, 1.0))
    assert [(f.name, list(f.sample_indexes)) for f in message.flags] == [("clipped", [0, 2]), ("capped", [2])]
    piece = verdicts_from(RewardResult("r", "v1", verdicts, 1.0, indexes=[9, 4, 7]))
    assert [(f.name, list(f.sample_indexes)) for f in piece.flags] == [("clipped", [7, 9]), ("capped", [7])]


def test_blame_is_told_of_missing_verdicts_only():
    verdicts = [failed("away", blame=Blame.OUTAGE), scored(1.0), abstained("no gold", blame=Blame.REFERENCE)]
    message = verdicts_from(RewardResult("r", "v1", verdicts, 1.0))
    assert list(message.blames) == [pb.BLAME_OUTAGE, pb.BLAME_UNSPECIFIED, pb.BLAME_REFERENCE]
    nobody = verdicts_from(RewardResult("r", "v1", [failed("late"), scored(1.0, "why")], 1.0))
    assert list(nobody.blames) == []


def test_plain_scores_leave_everything_else_empty():
    message = verdicts_from(RewardResult("r", "v1", [scored(1.0)] * 3, 1.0))
    fields = {descriptor.name for descriptor, _ in message.ListFields()}
    assert fields == {"name", "version", "scores", "statuses", "cost"}


def test_words_with_lone_surrogates_still_reach_the_caller():
    message = verdicts_from(RewardResult("r", "v1", [failed("bad \ud800"), scored(1.0, "\udfff!")], 1.0))
    assert message.status_reasons[0] == "bad ?"
    assert message.explanations[0].text == b"?!"


def test_message_extras_are_json_that_any_language_reads():
    column = text_column_from([[{"role": "user", "content": None, "name": "é"}]])
    assert json.loads(column.message_extras_json[0]) == {"content": None, "name": "é"}
