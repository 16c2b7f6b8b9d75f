"""Log-probabilities: which tokens are the answer's own, what is added up, and what is refused."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.engines.base import Position
from reward_server.engines.over_http.logprobs import read_positions
from reward_server.errors import BadAnswer

P = math.log


def entry(token: str, logprob: float = -0.5, tops: list[dict[str, Any]] | None = None, **more: Any) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode()), "top_logprobs": tops or []} | more


def read(entries: Any, answer: str, *, thought: bool = False) -> tuple[Position, ...]:
    return read_positions(entries, answer, "engine `box`", thought=thought)


def tokens(entries: list[dict[str, Any]], answer: str, *, thought: bool = False) -> list[str]:
    return [position.token for position in read(entries, answer, thought=thought)]


@pytest.mark.parametrize("entries", [None, []])
def test_a_host_that_gives_none_leaves_none(entries: Any) -> None:
    assert read(entries, "yes") == ()


def test_the_most_likely_comes_first_and_the_written_one_is_among_them() -> None:
    tops = [entry("No", P(0.2)), entry("Yes", P(0.6))]
    (position,) = read([entry("maybe", P(0.01), tops)], "maybe")
    assert list(position.logprobs) == ["Yes", "No", "maybe"]
    assert position.logprobs["Yes"] == P(0.6)
    assert position.token == "maybe"


def test_tokens_of_the_same_text_are_added_up() -> None:
    parts_of_letters = [entry("", P(0.25), bytes=[240, 159]), entry("", P(0.5), bytes=[226, 128])]
    (position,) = read([entry("a", P(0.1), parts_of_letters)], "a")
    assert math.isclose(position.logprobs[""], P(0.75))


def test_the_written_token_is_not_counted_twice() -> None:
    (position,) = read([entry("Yes", P(0.9), [entry("Yes", P(0.9)), entry("No", P(0.1))])], "Yes")
    assert position.logprobs == {"Yes": P(0.9), "No": P(0.1)}


def test_a_host_that_lists_no_bytes_is_read() -> None:
    (position,) = read([{"token": "Yes", "logprob": -0.1, "top_logprobs": [{"token": "Yes", "logprob": -0.1}]}], "Yes")
    assert position.logprobs == {"Yes": -0.1}


def test_of_a_thinking_model_only_the_answers_tokens_are_kept() -> None:
    thought = [entry(token) for token in ("<think>", "It", " is", " Yes", "</think>", "\n\n")]
    assert tokens([*thought, entry("Yes"), entry("", bytes=None)], "Yes", thought=True) == ["Yes", ""]


def test_an_answer_that_thinking_left_no_room_for_has_no_positions() -> None:
    assert read([entry("Hm"), entry(","), entry(" yes")], "", thought=True) == ()


def test_a_thinking_host_whose_tokens_do_not_tell_where_the_answer_begins_has_none() -> None:
    assert read([entry("Ġhm"), entry("Ġyes"), entry("Ġindeed")], " yes indeed", thought=True) == ()


def test_tokens_of_a_frame_before_the_answer_are_left_out() -> None:
    frame = [entry(token) for token in ("<|channel|>", "final", "<|message|>")]
    assert tokens([*frame, entry("yes")], "yes") == ["yes"]


def test_without_thinking_raw_pieces_of_a_vocabulary_are_the_answer() -> None:
    assert tokens([entry("Ġyes"), entry("Ġindeed")], " yes indeed") == ["Ġyes", "Ġindeed"]


def test_an_answer_cut_at_a_stop_word_keeps_its_first_token() -> None:
    assert tokens([entry("a"), entry(" banana")], "a") == ["a", " banana"]


def test_an_empty_answer_still_tells_what_could_have_been_written() -> None:
    (position,) = read([entry("", P(0.6), [entry("Yes", P(0.3))], bytes=[])], "")
    assert position.logprobs == {"": P(0.6), "Yes": P(0.3)}


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ({}, "are dict, not a list"),
        ([1], "a log-probability without its token: 1"),
        ([{"logprob": -1.0}], "without its token"),
        ([entry("a", None)], "the log-probability of 'a' is None"),  # type: ignore[arg-type]
        ([entry("a", math.nan)], "the log-probability of 'a' is nan"),
        ([entry("a", -math.inf)], "the log-probability of 'a' is -inf"),
        ([entry("a", 0.5)], "the log-probability of 'a' is 0.5, not a finite number up to 0"),
        ([entry("a", True)], "the log-probability of 'a' is True"),
        ([entry("a", top_logprobs={})], ""),
        ([entry("a", top_logprobs={"a": -1})], "top_logprobs is dict, not a list"),
        ([entry("a", tops=[entry("b", math.nan)])], "the log-probability of 'b' is nan"),
        ([entry("a", bytes=[300])], "the bytes of the token 'a' are [300]"),
        ([entry("a", P(0.7), [entry("b", P(0.7))])], "the probabilities at one position add up to 1.4"),
    ],
)
def test_what_is_not_of_the_agreed_shape_is_no_answer(entries: Any, words: str) -> None:
    if not words:
        assert read(entries, "a")
        return
    with pytest.raises(BadAnswer) as raised:
        read(entries, "a")
    assert words in str(raised.value)
    assert "engine `box`" in str(raised.value)


def test_single_precision_is_forgiven() -> None:
    (position,) = read([entry("a", 1e-7, [entry("b", P(1e-5))])], "a")
    assert position.logprobs["a"] == 1e-7


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=3), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["token", "logprob", "bytes", "top_logprobs"]), inner, max_size=4)
), max_leaves=12), st.text(max_size=4), st.booleans())  # fmt: skip
def test_no_list_breaks_it(entries: Any, answer: str, thought: bool) -> None:
    try:
        positions = read(entries, answer, thought=thought)
    except BadAnswer:
        return
    for position in positions:
        assert position.token in position.logprobs
        assert sum(map(math.exp, position.logprobs.values())) <= 1.002


@given(st.lists(st.sampled_from(["a", "b", "é", " ", "yes"]), min_size=1), st.integers(0, 20))
def test_the_positions_of_a_thinking_models_answer_spell_it(pieces: list[str], split: int) -> None:
    split = min(split, len(pieces) - 1)
    answer = "".join(pieces[split:]).strip()
    positions = read([entry(piece) for piece in pieces], answer, thought=True)
    assert answer in "".join(position.token for position in positions)
    assert len(positions) <= len(pieces) - split
