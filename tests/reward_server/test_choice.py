"""Multiple choice: the ways to choose a letter, and what chooses none."""

from pathlib import Path

import pytest
from hostile_texts import ANY_TEXT, BOMBS
from hypothesis import given
from pydantic import ValidationError

from reward_server.domain import Blame, Sample, Status
from reward_server.scorers.answers.choice import Choice
from reward_server.scorers.base import RuleContext


def choice(**options):
    return Choice(Choice.Options(**options), RuleContext("r", Path()))


def score(text, reference="B", **options):
    return choice(**options).judge_one(Sample(text, columns={"answer": reference})).score


@pytest.mark.parametrize(
    "text",
    [
        "B", "(B)", "B.", "B)", "**B**", "b", "(b)", "b.", "b) Paris", "B) Paris", "B. Paris", "B: Paris", "**B. Paris**", "Option B",
        r"\boxed{B}", r"\boxed{\text{B}}", r"\boxed{\textbf{(B)}}", r"$\boxed{\mathrm{B}}$", "The answer is\n\\boxed{B}",
        "Answer: B", "**Answer:** B", "**Answer: B**", "Answer: b", "ANSWER: B", "Answer: Option B", "Answer:\n\nB", "Answer: [B]",
        'Answer is "B".', "Answer = B", "Final answer: B", "The answer: B", "The answer would be B", "The best answer is B.",
        "The answer is B", "The answer is (B).", "The answer is **B**.", "the correct answer is B: Paris", "The answer is B \u2013 Paris",
        "The correct option is B", "The right choice is (B)", "The answer is option B.", "The answer is option (B) Paris.",
        "The answer is B because A is wrong.", "The answer is B, since A and C are wrong.", "The answer is B, I think.",
        "The answer is B Paris", "I think the answer is most likely B.", "The answer is A. Wait, no. The answer is B.",
        "A is wrong, C is wrong. Therefore, the answer is B.", "<answer>B</answer>", "<answer>The answer is B</answer>", "#### B",
        "Reasoning: A is wrong.\nB", "Let me think.\n\n**B**", "B.\n\nBecause Paris is the capital.", "I choose B.", "It must be B.",
        "I would go with B", "I'd say (B) it is", "So **(B)** fits", "B is correct.", "答案是B。", "答案\uff1aB", "答案\uff1a\uff08B\uff09", "所以选B。",
        "A. Paris\nB. London\nThe answer is B.", "(A) is tempting, yet\n(B)",
    ],
)  # fmt: skip
def test_a_letter_is_understood_in_the_ways_it_is_chosen(text):
    assert score(text) == 1.0


@pytest.mark.parametrize("reference", ["A", "B"])
@pytest.mark.parametrize(
    "text",
    [
        "", "C", "A cat is an animal.", "The answer is a dog", "The answer is A dog", "I think so.", "nothing", "Be good.", "Bob", "A dog",
        "B or A", "The answer is B or A.", "The answer is (B) or (A)", "(A) (B)", "A. Paris\nB. London", "A) x\nB) y\nC) z", "B/A",
        r"\boxed{A or B}", r"\boxed{}", r"\boxed{AB}", r"\boxed{A, B}", "The answer is both B and A", "The answer is either A or B.",
        "Answer: A, B", "Option A and option B", "A, B, C", "The B-52 flew", "Answer: Because", "Answer: Brown", "The answer is I am",
        "The answer is not B", "It's not B, it's C.", "Plan B works well for cats", "U.S.A. is a country",
    ],
)  # fmt: skip
def test_what_chooses_no_letter_or_two_is_wrong(text, reference):
    assert score(text, reference) == 0.0


@pytest.mark.parametrize(
    "text",
    [
        "answer: A or C or B", r"\boxed{A; B}", "answer: A;B", r"\boxed{A. B. C. D.}", "<answer>A\nB\nC</answer>", r"\boxed{A B}", r"\boxed{A|B}",
        r"\boxed{A+B}", "<answer>A. Paris\nB. London</answer>", "<answer>(A) Paris (B) London</answer>", r"\boxed{(A)(B)}",
        r"\boxed{\text{A}\text{B}}", "The answer is A) Paris or B) London", "The answer is A or maybe B.", "Answer: A and also B", "Answer: A & B",
        "The answer is A. Or B.", "Answer: A/B/C/D", "<answer>A\n\nB</answer>", "<answer>Option A, Option B</answer>", r"\boxed{\{A, B\}}",
        "<answer>A: x, B: y</answer>", "Answer: A, A, B", "The answer is A B C D", r"\boxed{A \text{ or } B}", "<answer>**A** or **B**</answer>",
    ],
)  # fmt: skip
def test_a_final_statement_that_names_several_letters_is_wrong(text):
    assert [score(text, letter) for letter in "ABCD"] == [0.0] * 4


@pytest.mark.parametrize(
    "text",
    [
        "The answer is B. A is wrong.", "The answer is B because (A) and (C) are wrong.", "The answer is B, not A.", "The answer is (B), not (A).",
        "<answer>B. Paris and Rome</answer>", "The answer is (B) A cat", "<answer>B. I think</answer>", "The answer is B (vitamin C)",
        "<answer>B. Vitamin C deficiency</answer>", "<answer>B) Hepatitis A virus</answer>", "The answer is B, and A is wrong.",
        "The answer is B rather than A.", "Answer: B, B", "<answer>B\n\nThe others are wrong.</answer>",
    ],
)  # fmt: skip
def test_other_letters_may_be_named_where_they_are_not_chosen(text):
    assert score(text) == 1.0


@pytest.mark.parametrize(
    "text", ["A", "The answer is A.", "The answer is A because", "A is the answer.", "(A)", "A. dog", "Answer: A"]
)
def test_the_letter_a_is_a_choice_where_it_is_no_article(text):
    assert score(text, "A") == 1.0


@pytest.mark.parametrize(
    ("reference", "options", "letter"),
    [
        ("(C)", {}, "C"),
        ("c.", {}, "C"),
        ("C) Paris", {}, "C"),
        ("The reason. #### C", {}, "C"),
        (2, {}, "C"),
        (2.0, {}, "C"),
        ("2", {}, "C"),
        ("3", {"first_index": 1}, "C"),
        (["B", "C"], {}, "C"),
        (9, {}, "J"),
    ],
)
def test_a_reference_is_a_letter_or_the_number_of_an_option(reference, options, letter):
    assert score(letter, reference, **options) == 1.0
    assert score("A", reference, **options) == 0.0


@pytest.mark.parametrize("reference", [None, "", "Paris", 10, -1, True, 1.5, [], {}, "A or B", "Z"])
@pytest.mark.parametrize("text", ["B", ""])
def test_a_reference_that_is_no_option_is_nobodys_fault(reference, text):
    verdict = choice().judge_one(Sample(text, columns={"answer": reference}))
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.REFERENCE)


def test_letters_that_are_not_options_are_not_chosen():
    assert score("C", "B", letters="AB") == 0.0
    assert score("(B), not (C)", "B", letters="AB") == 1.0


@pytest.mark.parametrize("letters", ["AA", "abc", "A", ""])
def test_letters_that_make_no_sense_are_refused(letters):
    with pytest.raises(ValidationError):
        Choice.Options(letters=letters)


def test_a_conversation_says_which_view_it_needs():
    assert choice().judge_one(Sample([], columns={"answer": "A"})).status is Status.FAILED


@pytest.mark.parametrize("bomb", BOMBS)
def test_no_text_breaks_it(bomb):
    assert score(BOMBS[bomb], "A") == 0.0


@given(ANY_TEXT)
def test_no_text_chooses_two_letters(text):
    assert sum(score(text, letter) for letter in "ABCDEFGHIJ") in (0.0, 1.0)
