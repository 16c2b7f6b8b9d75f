"""Numbers: how they are written, how near is right, and what is no number."""

from fractions import Fraction
from pathlib import Path

import pytest
from hostile_texts import ANY_TEXT, BOMBS
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_server.domain import Blame, Sample, Status
from reward_server.scorers.answers.extraction import Found, How
from reward_server.scorers.answers.numeric import Numeric, number_in
from reward_server.scorers.base import RuleContext


def rule(**options):
    return Numeric(Numeric.Options(**options), RuleContext("r", Path()))


def score(text, reference, **options):
    return rule(**options).judge_one(Sample(text, columns={"answer": reference})).score


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("42", "42"), ("-42", "-42"), ("+42", "42"), ("\u221242", "-42"), ("1,234.50", "1234.5"), ("$1,234", "1234"), ("-$5", "-5"),
        ("$-5", "-5"), ("€5", "5"), ("x=-5", "-5"), ("(-5)", "-5"), (".5", "1/2"), ("-.5", "-1/2"), ("5.", "5"), ("1e-3", "1/1000"),
        ("1E3", "1000"), ("1.5 x 10^3", "1500"), (r"1.5 \times 10^{-3}", "3/2000"), ("2*10**2", "200"), ("1/2", "1/2"), ("1/2.", "1/2"),
        ("-1/2", "-1/2"), ("3 1/2", "7/2"), ("-1 1/2", "-3/2"), (r"\frac{1}{2}", "1/2"), (r"-\dfrac12", "-1/2"), (r"1\frac{1}{2}", "3/2"),
        ("42 apples", "42"), ("3.0 apples.", "3"), ("5kg", "5"), ("x = 42", "42"), ("3 x 4 = 12", "12"), ("x_1 = 42", "42"), ("No.5", "5"),
        ("\uff14\uff12", "42"), ("1\u202f000", "1000"), (r"1{,}234", "1234"), (r"\$5", "5"), (r"\text{5 cm}", "5"), ("第3", "3"),
        ("- 5", "-5"), ("GPT4 has 3", "3"), ("1e9999", "1e9999"), ("007", "7"), ("-0", "0"),
    ],
)  # fmt: skip
def test_a_number_is_read_as_it_is_written(text, value):
    number = number_in(Found(text, How.EXACTLY))
    assert number is not None
    assert number.value == Fraction(value)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "none",
            "NaN",
            "inf",
            "-Infinity",
            "1/0",
            "3 and 4",
            "3 or 4",
            "5-3",
            "10:30",
            "1,2345",
            "H2O",
            "1e99999",
            "1e-99999",
        ),
        *("9" * 6_001, "1/" + "9" * 6_001, "v1.2.3"),
    ],
)
def test_what_is_no_number_or_more_than_one_is_wrong(text):
    assert number_in(Found(text, How.EXACTLY)) is None


@pytest.mark.parametrize(
    ("text", "reference", "right"),
    [
        ("She has 3 + 4 = 7 apples, so 7.", "7", True),
        ("The answer is 42, since 6 * 7 = 42.", "42", True),
        ("The answer is 6 * 7 = 42.", "42", True),
        ("The answer is x = 42.", "42", True),
        ("The answer is 42 apples. Have 3 more.", "42", True),
        ("#### 1,000", "thoughts #### 1000", True),
        (r"\boxed{0.50}", "1/2", True),
        (r"\boxed{1 or 2}", "2", False),
        ("41", "42", False),
        ("no number", "42", False),
        ("nan", "42", False),
        ("", "0", False),
    ],
)
def test_the_number_of_the_answer_is_compared_with_that_of_the_reference(text, reference, right):
    assert score(text, reference) == float(right)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"\boxed{- 42}", -42), (r"\boxed{-(42)}", -42), (r"\boxed{-\left(42\right)}", -42), (r"\boxed{-\$42}", -42), (r"\boxed{-{42}}", -42),
        (r"\boxed{x = - 42}", -42), (r"\boxed{-\text{42}}", -42), (r"\boxed{\text{-}42}", -42), ("#### - 42", -42), ("The answer is $-42$", -42),
        ("so x = - 42", -42), ("The answer is (-42)", -42), ("Total - 42", 42), ("x = 1\n- 42", 42), ("<answer>Total - 42</answer>", 42),
    ],
)  # fmt: skip
def test_a_minus_sign_counts_with_a_blank_or_a_bracket_behind_it(text, value):
    assert score(text, value) == 1.0
    assert score(text, -value) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "The answer is 42 × 10", "The answer is 42 + 1", "The answer is 42 / x", "#### 42 × 10", "#### 42^2", "The answer is 42x",  # noqa: RUF001
        "The answer is 42,5", "The answer is 3,42", "The answer is $42\\pi$", r"The answer is $\sqrt{42}$", "The answer is x - 42",
        "The answer is 42 * y", "The answer is not 42", "The answer is negative 42", "The answer is 1/x = 42 + 1", "40 + 42", "So it is 42 / x",
        "from 10-42", "So it is 3,42",
    ],
)  # fmt: skip
def test_a_number_that_is_part_of_an_expression_in_a_sentence_is_no_answer(text):
    assert score(text, 42) == 0.0


@pytest.mark.parametrize(
    "box",
    [
        r"\sqrt{42}", r"\sqrt{     42}", r"42\pi", "42π", "42!", "x<42", "x <= 42", "x != 42", r"x\neq 42", r"\neq 42", "42 < x", "42/x", "42_8",
        "x_{42}", "42x", "42 x", "42x^2", "e^{42}", r"\ln 42", r"\ln(42)", r"\log_x 42", "f(42)", "x(42)", r"\frac{42}{x}", r"\frac{x}{42}",
        r"42\sqrt{x}", "x+42", "42 - x", "x-42", "x - 42", "42i", r"\pm 42", "±42", "42²", "42½", "√42", "42(x)", "(42)x", "--42", "-(-42)",
        r"\text{42}^2", r"42\text{}^2", r"\overline{42}", r"\binom{42}{x}", "not 42", "42,5", "42{}_8", r"42\_8", "(42, x)", r"[42,\infty)", "42k", "42 plus x", r"42\cdot\alpha", "|-42|",
    ],
)  # fmt: skip
def test_an_operator_or_command_next_to_a_number_makes_it_another(box):
    assert score(rf"\boxed{{{box}}}", 42) == score(rf"\boxed{{{box}}}", -42) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{42\%}", r"\boxed{\$42}", r"\boxed{42\text{ apples}}", r"\boxed{x = 42}", r"\boxed{42 \text{ cm}}", r"\boxed{42.}",
        r"\boxed{42^\circ}", r"\boxed{42\text{ cm}^2}", r"\boxed{42\,\mathrm{cm}^{3}}", r"\boxed{\text{Area} = 42\text{ cm}^2}", r"\boxed{(42)}",
        r"\boxed{\left(42\right)}", r"\boxed{\mathbf{42}}", r"\boxed{x \approx 42}", r"\boxed{f(x)=42}", r"\boxed{42€}", "<answer>**42**</answer>",
        "<answer>* 42</answer>", "<answer>$42$</answer>", r"<answer>\[ x = 42 \]</answer>", "<answer><b>42</b></answer>", "The answer is 42!",
        "The answer is **42**.", "The answer is 42 - because", "The answer is 42/hour.", "Answer: => 42", "Great! 42", "The answer is `42`",
        "The answer is:\n\\[\n42\n\\]", "<answer>> 42</answer>", "So **42** a day",
    ],
)  # fmt: skip
def test_words_units_and_the_way_it_is_set_leave_a_number_as_it_is(text):
    assert score(text, 42) == 1.0


@pytest.mark.parametrize(
    "text", ["<answer>3,5</answer>", "The answer is 3,5", "so 3,5", "The answer is 1.234,56", "1.234,56"]
)
@pytest.mark.parametrize("reference", ["3", "5", "3.5", "35", "1.234", "56", "1234.56"])
def test_a_decimal_comma_is_not_read(text, reference):
    assert score(text, reference) == 0.0


@pytest.mark.parametrize("reference", ["0.1", 0.1, "1/10", "10%", [5, 0.1], "#### .1"])
def test_references_are_numbers_or_texts_or_lists_of_them(reference):
    assert score("0.10", reference) == 1.0
    assert score("0.2", reference) == 0.0


def test_digits_are_compared_to_the_last_one():
    many = "7" * 5_000
    assert score(many, many) == 1.0
    assert score(many[:-1] + "8", many) == 0.0
    assert score("1e16", 10**16 + 1) == 0.0
    assert score("0.30000000000000004", 0.3) == 0.0


@pytest.mark.parametrize(
    ("text", "options", "right"),
    [
        ("99", {"relative_tolerance": 0.01}, True),
        ("98.9", {"relative_tolerance": 0.01}, False),
        ("101", {"absolute_tolerance": 1}, True),
        ("101.01", {"absolute_tolerance": 1}, False),
        ("104", {"relative_tolerance": 0.01, "absolute_tolerance": 5}, True),
        ("-100", {"absolute_tolerance": 5}, False),
    ],
)
def test_what_is_near_enough_is_right(text, options, right):
    assert score(text, 100, **options) == float(right)


@pytest.mark.parametrize(
    ("text", "reference", "either", "hundredth", "ignored"),
    [
        ("50%", "50", 1, 0, 1),
        ("50%", "0.5", 1, 1, 0),
        ("50", "50%", 1, 0, 1),
        ("0.5", "50%", 1, 1, 0),
        ("50%", "50%", 1, 1, 1),
        ("50%", "0.5%", 0, 0, 0),
        (r"50\%", "50", 1, 0, 1),
    ],
)
def test_a_percent_sign_means_what_the_option_says(text, reference, either, hundredth, ignored):
    scores = [score(text, reference, percent=percent) for percent in ("either", "hundredth", "ignored")]
    assert scores == [either, hundredth, ignored]


@pytest.mark.parametrize("reference", [None, "", "many", "1/0", True, [], float("nan"), float("inf"), "3 or 4", {}])
@pytest.mark.parametrize("text", ["42", ""])
def test_a_reference_that_is_no_number_is_nobodys_fault(reference, text):
    verdict = rule().judge_one(Sample(text, columns={"answer": reference}))
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.REFERENCE)


def test_a_reference_too_long_to_be_written_is_nobodys_fault():
    assert rule().judge_one(Sample("1", columns={"answer": 10**5_000})).blame is Blame.REFERENCE


@pytest.mark.parametrize("tolerance", [-1, float("nan"), float("inf"), "1%"])
def test_tolerances_that_make_no_sense_are_refused(tolerance):
    with pytest.raises(ValidationError):
        Numeric.Options(relative_tolerance=tolerance)


@given(st.integers() | st.decimals(allow_nan=False, allow_infinity=False, places=3))
def test_every_number_equals_itself(number):
    assert score(f"{number:f}" if not isinstance(number, int) else f"{number:,}", str(number)) == 1.0


@given(st.integers(-(10**9), 10**9), st.integers(-(10**9), 10**9))
def test_different_numbers_differ(one, other):
    assert score(str(one), str(other)) == float(one == other)


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_text_breaks_it(bomb):
    assert score(BOMBS[bomb], "42.5", relative_tolerance=0.1) == 0.0


@given(ANY_TEXT)
def test_every_text_is_right_or_wrong(text):
    assert score(text, "1") in (0.0, 1.0)
