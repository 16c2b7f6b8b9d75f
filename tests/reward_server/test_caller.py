import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.reward.v1 import reward_pb2 as pb
from reward_server.caller import answer_by, authenticate, call_of
from reward_server.domain import Call
from reward_server.errors import MalformedRequest, Unauthenticated


class Context:
    def time_remaining(self):
        return None

    def peer(self):
        return "ipv4:127.0.0.1:1"


def test_metadata_says_who_asks():
    metadata = {
        "reward-experiment": "exp",
        "reward-run-id": "run",
        "reward-step": "12",
        "reward-request-id": "id",
        "reward-attempt": "2",
        "grpc-previous-rpc-attempts": "3",
    }
    assert call_of(Context(), metadata) == Call(math.inf, "exp", "run", 12, "id", 6)


def test_without_metadata_the_call_is_nobodys_first():
    assert call_of(Context(), {}) == Call()


@pytest.mark.parametrize("text", ["-1", "1.5", "x", "٣", b"\xff"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(MalformedRequest, match="'reward-step' is no decimal number"):
        call_of(Context(), {"reward-step": text})


@pytest.mark.parametrize("key", ["reward-attempt", "grpc-previous-rpc-attempts", "reward-step"])
def test_numbers_that_no_answer_could_hold_are_refused(key):
    with pytest.raises(MalformedRequest, match=f"'{key}' is over 2147483647: 2147483648"):
        call_of(Context(), {key: str(1 << 31)})


def test_as_many_attempts_as_can_be_told_fit_into_an_answer():
    most = str((1 << 31) - 1)
    call = call_of(Context(), {"reward-attempt": most, "grpc-previous-rpc-attempts": most})
    assert pb.ScoreResponse(attempt_count=call.attempt_count).attempt_count == call.attempt_count


def test_long_names_are_cut():
    assert len(call_of(Context(), {"reward-experiment": "x" * 5000}).experiment) == 200


@pytest.mark.parametrize(("remaining_s", "margin_s"), [(60.0, 3.0), (1.0, 0.1), (0.05, 0.1)])
def test_answers_are_ready_a_little_before_the_deadline(remaining_s, margin_s):
    assert answer_by(remaining_s) - time.monotonic() == pytest.approx(remaining_s - margin_s, abs=0.05)


def test_a_call_without_deadline_has_none():
    assert answer_by(None) == math.inf


@pytest.mark.parametrize("header", ["Bearer s3cret", "bearer s3cret", b"Bearer s3cret"])
def test_the_token_opens(header):
    authenticate({"authorization": header}, b"s3cret")


@given(st.text() | st.binary())
def test_nothing_else_opens_and_nothing_crashes(header):
    if header not in ("Bearer s3cret", b"Bearer s3cret"):
        with pytest.raises(Unauthenticated):
            authenticate({"authorization": header}, b"s3cret")


def test_a_missing_and_a_wrong_token_are_told_apart_and_neither_is_quoted():
    with pytest.raises(Unauthenticated, match="this server wants a token") as missing:
        authenticate({}, b"s3cret")
    with pytest.raises(Unauthenticated, match="the token is wrong") as wrong:
        authenticate({"authorization": "Bearer guess"}, b"s3cret")
    assert "guess" not in str(wrong.value)
    assert "s3cret" not in str(missing.value) + str(wrong.value)
