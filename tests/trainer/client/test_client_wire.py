"""Whatever can travel arrives as it was; what cannot is named."""

from __future__ import annotations

import json
import math
from datetime import date

import numpy as np
import pytest
import torch
from fake_reward_server import decoded
from hypothesis import given
from hypothesis import strategies as st

from trainer.client.wire import Encoder, in_turn, packed_bytes, text_column
from trainer.errors import BadInput

# Without surrogates: those have tests of their own.
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
extras = st.dictionaries(texts.filter(lambda key: key not in ("role", "content")), json_values, max_size=2)
contents = texts | st.none() | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": texts}), max_size=2)
messages = st.builds(lambda role, content, extra: {"role": role, "content": content, **extra}, texts, contents, extras)
items = texts | st.lists(messages, max_size=3)


@given(st.lists(items, max_size=5))
def test_texts_and_conversations_arrive_as_they_were(given_items):
    assert decoded(text_column(Encoder().items(given_items, "completion"))) == given_items


@given(st.lists(st.lists(messages, max_size=2) | texts, max_size=6))
def test_equal_prompts_travel_once_and_find_their_samples(prompts):
    distinct, indexes = in_turn(Encoder().items(prompts, "prompt"))

    assert [decoded(text_column(distinct))[index] for index in indexes] == prompts
    assert len(distinct) == len(set(distinct))


@given(st.lists(items, max_size=4))
def test_the_estimated_size_is_never_below_the_real_one(given_items):
    encoded = Encoder().items(given_items, "completion")

    assert sum(map(packed_bytes, encoded)) >= text_column(encoded).ByteSize()


@given(st.lists(json_values, max_size=5))
def test_column_values_arrive_as_they_were(values):
    assert json.loads(Encoder().column(values, "answer")) == values


def test_not_a_number_and_infinity_travel_in_columns():
    arrived = json.loads(Encoder().column([math.nan, math.inf, -math.inf], "x"))

    assert math.isnan(arrived[0])
    assert arrived[1:] == [math.inf, -math.inf]


@pytest.mark.parametrize(
    ("values", "arrives"),
    [
        ([np.float32(0.5), np.int64(3), np.bool_(True)], [0.5, 3, True]),
        ([np.array([1, 2]), np.array([[1.5]])], [[1, 2], [[1.5]]]),
        ([torch.tensor(2), torch.tensor([1.0, 2.0], dtype=torch.bfloat16)], [2, [1.0, 2.0]]),
        ([(1, 2), {"a": (3,)}], [[1, 2], {"a": [3]}]),
    ],
)
def test_numbers_of_other_libraries_travel_as_what_they_hold(values, arrives):
    assert json.loads(Encoder().column(values, "x")) == arrives


@pytest.mark.parametrize("culprit", [b"bytes", date(2026, 1, 1), object(), {1, 2}, {"deep": [b"x"]}])
def test_a_column_value_that_cannot_travel_is_named(culprit):
    with pytest.raises(BadInput, match=r"column 'image', value 2 cannot travel: .*(bytes|date|object|set)"):
        Encoder().column(["fine", 1, culprit, "fine"], "image")


def test_a_value_that_holds_itself_is_named():
    loop: list[object] = []
    loop.append(loop)

    with pytest.raises(BadInput, match="column 'x', value 0 cannot travel: Circular"):
        Encoder().column([loop], "x")


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (b"raw", "completion 1 is of type bytes"),
        (None, "completion 1 is of type NoneType"),
        ({"role": "user", "content": "x"}, "completion 1 is of type dict"),
        (["not a message"], "completion 1, message 0 is of type str"),
        ([{"role": "user", "content": "x"}, {"content": "x"}], "completion 1, message 1 has no role"),
        ([{"role": "user", "content": b"x"}], "completion 1, message 0: 'content' cannot travel: bytes"),
        (
            [{"role": "user", "content": "x", "image": object()}],
            "completion 1, message 0: 'image' cannot travel: object",
        ),
    ],
)
def test_a_text_that_cannot_travel_is_named(item, words):
    with pytest.raises(BadInput, match=words):
        Encoder().items(["fine", item], "completion")


def test_lone_surrogates_are_replaced_and_counted_wherever_they_stand():
    encoder = Encoder()

    arrived = decoded(
        text_column(
            encoder.items(
                ["a\ud800b", [{"role": "r\udfff", "content": "\udc00\udc01", "name": "n\ud8ff"}], "clean"], "x"
            )
        )
    )
    column = json.loads(encoder.column(["\udabc", 1], "answer"))

    assert arrived == ["a�b", [{"role": "r�", "content": "��", "name": "n�"}], "clean"]
    assert column == ["�", 1]
    assert encoder.replaced_surrogate_count == 6


def test_a_message_without_content_arrives_with_none():
    call = {"role": "assistant", "tool_calls": [{"name": "f"}]}

    assert decoded(text_column(Encoder().items([[call]], "completion"))) == [[{**call, "content": None}]]


def test_values_that_only_python_takes_for_equal_are_kept_apart():
    prompts = [[{"role": "user", "content": "x", "n": 1}], [{"role": "user", "content": "x", "n": True}]]

    distinct, indexes = in_turn(Encoder().items(prompts, "prompt"))

    assert indexes == [0, 1]
    assert [item[0]["n"] is True for item in decoded(text_column(distinct))] == [False, True]
