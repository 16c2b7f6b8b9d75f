"""Mathematical answers: as math-verify has it, the reference first, and what counts as one."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from reward_server.domain import Blame, Sample, Status
from reward_server.scorers.base import RuleContext
from reward_server.scorers.math.equivalence import MathEquivalence
from reward_server.scorers.math.options import MathOptions
from reward_server.scorers.math.reading import readings, reference_texts, without_emphasis

HEADER, *CASES = map(json.loads, (Path(__file__).parents[1] / "data/math_verify_cases.jsonl").read_text().splitlines())

MAX_TOLD_CHARS = 150


def math(**options):
    return MathEquivalence(MathOptions(**options), RuleContext("r", Path()))


def verdict(completion, reference, **options):
    return math(**options).judge_one(Sample(completion, columns={"answer": reference}))


def test_the_cases_are_those_of_math_verify_and_what_is_left_out_is_counted():
    assert len(CASES) == HEADER["cases"] == 275
    assert sum(HEADER["left_out"].values()) == 16
    assert {case["expected"] for case in CASES} == {0, 1}


@pytest.mark.parametrize("options", [{}, {"reference_form": "text"}, {"answer": None}], ids=str)
@pytest.mark.parametrize("name", sorted({case["test"] for case in CASES}))
def test_every_case_of_math_verify_is_scored_as_it_expects(name, options):
    cases = [case for case in CASES if case["test"] == name]
    got = [verdict(case["completion"], case["gold"], **options, **case["options"]).score for case in cases]
    assert got == [case["expected"] for case in cases]


@pytest.mark.parametrize(
    ("completion", "reference", "score"),
    [
        ("<think>a</think><answer>72</answer>", "72", 1.0),
        ("<answer>72.</answer>", "72", 1.0),
        ("<answer>72 clips</answer>", "72", 1.0),
        ("<answer>$72</answer>", "72", 1.0),
        ("<answer>(1,2)</answer>", "(1,2)", 1.0),
        (r"<answer>\sqrt{8}</answer>", r"2\sqrt{2}", 1.0),
        ("<answer>50%</answer>", "50%", 1.0),
        (r"<answer>So it is \boxed{72}</answer>", "72", 1.0),
        ("<answer>70</answer> wait <answer>72</answer>", "72", 1.0),
        ("<answer>72</answer> wait <answer>70</answer>", "72", 0.0),
        ("<answer>71 or 72</answer>", "72", 0.0),
        (r"\boxed{72} <answer>70</answer>", "72", 0.0),
        ("The answer is 72. <answer></answer>", "72", 0.0),
        ("The answer is 72. <answer>7", "72", 1.0),
        ("no element, and 72", "72", 1.0),
    ],
)
def test_by_default_the_last_answer_element_is_the_answer_where_there_is_one(completion, reference, score):
    assert verdict(completion, reference).score == score


@pytest.mark.parametrize(
    ("completion", "score"), [("<answer>72</answer>", 0.0), ("<answer>71 or 72</answer>", 1.0), ("It is 72", 1.0)]
)
def test_where_no_place_is_wanted_math_verify_looks_for_itself(completion, score):
    assert verdict(completion, "72", answer=None).score == score


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        *((text, "72") for text in ("**72**", "*72*", "***72***", "`72`", "**72.**", "**72**.", "** 72 **", "**$72**")),
        *((text, "72") for text in ("**72** clips", "**72 clips**", "x = **72**", "The answer is **72**.", "**$72$**")),
        ("**(1,2)**", "(1,2)"),
        (r"**\frac{1}{2}**", "0.5"),
        ("**2x+1**", "1+2x"),
        ("**2*x+1**", "1+2x"),
    ],
)
def test_marks_of_emphasis_around_an_answer_do_no_harm(text, reference):
    assert verdict(f"<answer>{text}</answer>", reference).score == 1.0


@pytest.mark.parametrize(
    "text", ["2**3", "2*3*4", "a*b", "$f^*(x) g^*$", r"\(f^*(x) + g^*\)", "**", "`", "* 72", "72 *", ""]
)
def test_stars_that_are_no_emphasis_stay(text):
    assert without_emphasis(text) == text


@pytest.mark.parametrize("text", ["B", "B.", "(B)", "**B**", "**B.**", "The answer is B.", "The answer is **B**"])
@pytest.mark.parametrize("targets", [["strings"], ["latex", "strings"]])
def test_a_letter_in_an_answer_element_is_read_as_it_would_be_outside(text, targets):
    got = [verdict(f"<answer>{text}</answer>", letter, targets=targets).score for letter in ("B", "A")]
    assert got == [1.0, 0.0]


@pytest.mark.parametrize(
    ("completion", "reference", "options", "told"),
    [
        ("<answer>24</answer>", "72", {}, "read '24', the reference is '72'"),
        ("So it must be $24$.", 72, {}, "read '24', the reference is '72'"),
        ("<answer>**72**</answer>", "72", {}, "read '72', the reference is '72'"),
        ("I do not know.", "72", {}, "no answer found in it, the reference is '72'"),
        ("<answer> </answer>", "72", {}, "its answer is empty, the reference is '72'"),
        (
            "<answer>I do not know</answer>",
            "72",
            {},
            "no answer could be read from 'I do not know', the reference is '72'",
        ),
        ("72", "72", {"answer": "boxed"}, "no answer found in it, the reference is '72'"),
        ("24", "x" * 50 + " long way\n#### 72", {}, "read '24', the reference is '72'"),
        ("24", ["72", "7", "8", "9"], {}, "read '24', the reference is '72' or '7' or 2 more"),
        ("24", ["72", "it is obvious why"], {}, "read '24', the reference is '72'"),
        ("The answer is A.", "B", {"targets": ["strings"]}, "read 'A', the reference is 'B'"),
    ],
)
def test_a_verdict_says_what_was_read_and_what_was_wanted(completion, reference, options, told):
    assert verdict(completion, reference, **options).explanation == told


@pytest.mark.parametrize(
    ("reference", "completion"),
    [
        ("2x+1", r"So it is $1+2x$."),
        (r"5\sqrt{2}", r"\boxed{\sqrt{50}}"),
        ("1+2i", r"The answer is $2i+1$."),
        ("(0,1)", r"$x \in (0, 1)$"),
        ("3:4", r"\boxed{\frac{3}{4}}"),
        (r"1\frac{1}{2}", r"\boxed{1.5}"),
        (r"\$5", "It costs $5"),
        ("+5", "5"),
        ("10 cm", r"\boxed{10}"),
        ("12 apples", "The answer is 12."),
        ("1,234", "1234"),
        ("35%", r"\boxed{35\%}"),
        ("1.5e3", "1500"),
        ("1e-05", "0.00001"),
        (1e-5, "0.00001"),
        (72, "The answer is 72."),
        (0.5, r"$\frac{1}{2}$"),
        (["7", "8"], "The answer is 8."),
        ("She has 16 - 3 = <<16-3=13>>13 left, so the answer takes 5 more.\n#### 72", "72"),
        (r"We find that $x=2$, so the answer is $\boxed{5}$.", r"\boxed{5}"),
        ("north", r"\boxed{\text{north}}"),
    ],
)
def test_references_as_datasets_have_them_are_read_as_a_whole(reference, completion):
    assert verdict(completion, reference).score == 1.0


@pytest.mark.parametrize(
    ("reference", "completion"),
    [("2x+1", "2"), (r"5\sqrt{2}", "5"), ("1+2i", "1"), ("5!", "5"), ("1e-05", "1"), ("y=2x+1", "The answer is 2.")],
)
def test_a_part_of_the_reference_is_not_the_answer(reference, completion):
    assert verdict(completion, reference).score == 0.0


@pytest.mark.parametrize("completion", ["The answer is 5", "", "no answer", "\ud800", [{"role": "assistant"}]])
@pytest.mark.parametrize(
    ("reference", "told"),
    [
        (None, "there is no reference"),
        ("", "there is no reference"),
        ("  ", "there is no reference"),
        (True, "there is no reference"),
        ({"a": 1}, "there is no reference"),
        ([], "there is no reference"),
        ("it is obvious why", "no answer could be read"),
        ("9" * 5000, "no answer could be read"),
        ("{" * 200_000, "no answer could be read"),
        ("x" * 200_000, "no answer could be read"),
    ],
)
def test_a_reference_that_cannot_be_read_is_missing_for_every_completion_alike(reference, told, completion):
    got = verdict(completion, reference)
    assert (got.status, got.blame) == (Status.ABSTAINED, Blame.REFERENCE)
    assert told in got.status_reason
    assert "'answer'" in got.status_reason


@pytest.mark.parametrize("completion", ["", "   ", "I do not know.", "\x00", "\ud800", "9" * 5000, r"\boxed{", "$$"])
def test_a_completion_without_an_answer_is_wrong(completion):
    assert verdict(completion, "5").score == 0.0


def test_a_conversation_says_which_view_it_needs():
    got = verdict([{"role": "assistant", "content": "5"}], "5")
    assert got.status is Status.FAILED
    assert "'view: full'" in got.status_reason


def test_what_sympy_raises_while_it_compares_is_no_answer_of_either_kind(monkeypatch):
    def broken(*_args, **_settings):
        raise RuntimeError("sympy broke")

    monkeypatch.setattr("math_verify.grader.sympy_expr_eq", broken)
    with pytest.raises(RuntimeError, match="sympy broke"):
        verdict("5.0", "5")


def test_an_answer_that_equals_the_reference_counts_though_comparing_the_rest_breaks(monkeypatch):
    from math_verify import grader

    real = grader.sympy_expr_eq

    def broken_for_seven(gold, pred, *args, **settings):
        if gold == 7:
            raise RuntimeError("sympy broke")
        return real(gold, pred, *args, **settings)

    monkeypatch.setattr(grader, "sympy_expr_eq", broken_for_seven)
    assert verdict("8", ["7", "8"]).score == 1.0


@pytest.mark.parametrize(
    ("options", "completion", "reference", "score"),
    [
        ({"answer": "tag:answer"}, "2x <answer>2x+1</answer>", "1+2x", 1.0),
        ({"answer": "tag:answer"}, "2x+1", "1+2x", 0.0),
        ({"answer": "last_line"}, "5\nit is 6", "6", 1.0),
        ({"answer": "auto"}, "a" * 100_000, "6", 0.0),
        ({"answer": "auto"}, "<answer>" + "a" * 10_000 + "</answer>", "6", 0.0),
        ({"targets": ["strings"], "reference_form": "text"}, "The answer is B.", "B", 1.0),
        ({"targets": ["strings"], "strings": ["yes", "no"], "reference_form": "text"}, "no", "yes", 0.0),
        ({"targets": ["latex"]}, "The answer is 5", "5", 0.0),
        ({"try_extract_without_anchor": False}, "Perhaps 5", r"\boxed{5}", 0.0),
        ({"try_extract_without_anchor": False}, "The answer is 5", r"\boxed{5}", 1.0),
        ({"boxed_match_priority": -1, "targets": ["latex"]}, r"\boxed{5}", "5", 0.0),
        ({"targets": ["latex", "strings"]}, r"\boxed{B}", "B", 1.0),
        ({"targets": ["latex", "strings"]}, "The answer is B.", "B", 1.0),
        ({"targets": ["latex", "strings"]}, "The answer is A.", "B", 0.0),
        ({"targets": ["strings"], "answer": "tag:answer"}, "<answer>B</answer>", "B", 1.0),
        ({"float_rounding": 2}, "0.333", r"\frac{1}{3}", 1.0),
        ({"float_rounding": 6}, "0.333", r"\frac{1}{3}", 0.0),
        ({"strict": True}, "$f(y)$", "$f(x)$", 0.0),
        ({"strict": False}, "$f(y)$", "$f(x)$", 1.0),
        ({"allow_set_relation_comp": False}, "$1 < x < 2$", "(1,2)", 0.0),
        ({"allow_set_relation_comp": True}, "$1 < x < 2$", "(1,2)", 1.0),
        ({"reference_form": "latex"}, "the answer is 5", "5", 1.0),
        ({"reference_form": "text"}, "2", "2x+1", 1.0),
        ({"first_match_only": True}, r"$x = $ and 5", "5", 1.0),
        ({"reference_column": "solution"}, "5", None, None),
    ],
)
def test_the_options_say_where_answers_are_and_how_they_are_compared(options, completion, reference, score):
    assert verdict(completion, reference, **options).score == score


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"targets": []}, "at least 1 item"),
        ({"targets": ["latex", "latex"]}, "name each target once; here they are latex, latex"),
        ({"targets": ["text"]}, "'latex', 'expr' or 'strings'"),
        ({"float_rounding": -1}, "greater than or equal to 0"),
        ({"boxed_match_priority": -2}, "greater than or equal to -1"),
        ({"answer": "somewhere"}, "'somewhere' is no place of an answer: write tag_or_text, auto, whole"),
        ({"answer": 5}, "valid string"),
        ({"reference_form": "word"}, "'auto', 'latex' or 'text'"),
    ],
)
def test_options_that_make_no_sense_are_refused_with_what_would_be_right(options, told):
    with pytest.raises(ValidationError) as caught:
        MathOptions(**options)
    assert told in str(caught.value)
    assert "instance of" not in str(caught.value)


def test_a_reference_that_was_read_once_scores_the_next_completions_alike():
    rule = math()
    scores = [
        rule.judge_one(Sample(text, columns={"answer": "2x+1"})).score for text in ("$2x+1$", "2", "$2x+1$", "none")
    ]
    assert scores == [1.0, 0.0, 1.0, 0.0]


def test_its_identity_names_the_libraries_that_compare():
    assert set(math().identity()) >= {"math-verify", "latex2sympy2_extended", "sympy", "antlr4-python3-runtime"}
    assert math(reference_column="solution").needs.required_columns == {"solution"}


@given(st.text(max_size=300) | st.text("$\\boxed{}()^_+-=0123456789xy, ", max_size=40))
@settings(max_examples=150, deadline=None)
def test_every_text_is_right_or_wrong(text):
    for completion in (text, f"<answer>{text}</answer>"):
        got = verdict(completion, "5")
        assert got.score in {0.0, 1.0}
        assert got.explanation.isprintable()
        assert len(got.explanation) < MAX_TOLD_CHARS


@given(st.integers(-(10**9), 10**9), st.integers(1, 10**6))
@settings(max_examples=40, deadline=None)
def test_a_number_equals_itself_however_it_is_written(top, bottom):
    written = (f"{top}/{bottom}", rf"\frac{{{top}}}{{{bottom}}}")
    for reference in written:
        for answer in written:
            assert verdict(rf"\boxed{{{answer}}}", reference).score == 1.0


@given(st.text(max_size=50))
def test_any_text_can_be_put_into_words_for_math_verify(text):
    for form in ("auto", "latex"):
        assert all(isinstance(reading, str) for reading in readings(text, form))


def test_integers_of_thousands_of_digits_are_no_reference():
    assert reference_texts(10**5000) == ()
