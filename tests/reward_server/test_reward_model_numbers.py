"""What holds of every number that a reward model may tell, and of every text that it may be given."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.domain import Status
from reward_server.scorers.endpoints.protocols.base import by_index, number
from reward_server.scorers.endpoints.readings import Calibration, Reader, Reading, sigmoid
from reward_server.scorers.endpoints.texts import whole

NUMBERS = st.floats(-1e300, 1e300)
LINES = (
    st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.booleans())
    .filter(lambda line: abs(line[0] - line[1]) > 1e-3)
    .map(lambda line: Calibration(low=line[0], high=line[1], to=(-2.0, 3.0), clip=line[2]))
)


@given(NUMBERS)
def test_sigmoid_stays_between_0_and_1(raw):
    assert 0.0 <= sigmoid(raw) <= 1.0


@given(st.floats(-30, 30))
def test_sigmoid_is_itself_mirrored(raw):
    assert sigmoid(raw) + sigmoid(-raw) == pytest.approx(1.0, abs=1e-15)


@given(LINES)
def test_the_ends_of_a_line_become_the_ends_of_the_range(line):
    assert line.apply(line.low) == pytest.approx(-2.0, abs=1e-9)
    assert line.apply(line.high) == pytest.approx(3.0, abs=1e-9)


@given(st.sampled_from(["none", "sigmoid", "softmax"]), st.none() | LINES, st.lists(NUMBERS, min_size=1, max_size=4))
def test_a_score_is_in_the_range_that_is_told(activation, line, numbers):
    reader = Reader(0, activation, line)
    verdict = reader.verdict(Reading(numbers))
    if verdict.status is Status.SCORED and reader.score_range is not None:
        low, high = reader.score_range
        assert low <= verdict.score <= high
    if reader.score_range is not None:
        assert verdict.status is Status.SCORED


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), min_size=1, max_size=3))
def test_what_is_not_finite_is_no_score(numbers):
    verdict = Reader(0, "sigmoid", None).verdict(Reading(numbers))
    assert (verdict.status is Status.SCORED) == math.isfinite(numbers[0])


@given(st.permutations(range(6)))
def test_answers_are_put_into_the_order_of_their_indexes(order):
    items = [{"index": index, "score": index * 10} for index in order]
    assert [item["score"] for item in by_index(items, 6)] == [0, 10, 20, 30, 40, 50]


@pytest.mark.parametrize("indexes", [[0, 0], [0, 2], [1, 2], [0], [0, 1, 2], ["0", "1"]])
def test_an_index_that_is_missing_or_there_twice_is_no_answer(indexes):
    with pytest.raises(ValueError, match="indexes"):
        by_index([{"index": index} for index in indexes], 2)


@pytest.mark.parametrize("value", [True, "1", [1], {}])
def test_what_is_no_number_is_none(value):
    with pytest.raises(TypeError):
        number(value)


@pytest.mark.parametrize("value", [None, 10**400, -(10**400)], ids=["null", "large", "small"])
def test_a_number_that_no_float_can_be_is_told_as_nan(value):
    assert math.isnan(number(value))


@given(st.text(st.characters(codec=None)))
def test_every_text_can_be_sent(text):
    sent = whole(text)
    assert sent.encode().decode() == sent
    assert len(sent) == len(text)
    assert whole(sent) == sent
