"""Completions that say nothing are settled without asking; whatever could be an answer goes to the judge."""

# ruff: noqa: RUF001  # other languages have punctuation of their own

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward_server.judge import prefilter
from reward_server.judge.material import Material
from reward_server.judge.prefilter import EMPTY, MASTER_KEY, NO_WORDS, settled

TASK = "A farmer has 12 sheep and sells 5 of them. How many are left?"


def verdict(completion: str, task: str | None = TASK, reference: str | None = None) -> str | None:
    return settled(Material(completion, task, reference))


@pytest.mark.parametrize("completion", ["", " ", "\n\t ", "\u00a0", "\u200b\u200d", "\u3164", "\ufeff"])
def test_what_is_empty(completion):
    assert verdict(completion) in (EMPTY, NO_WORDS)


def test_an_empty_completion_is_called_so():
    assert verdict("") == verdict(" \n") == EMPTY


@pytest.mark.parametrize(
    "completion",
    [
        ":",
        ".",
        ",",
        "...",
        "…",
        "!?",
        "***",
        "---",
        "```",
        "```\n\n```",
        "**:**",
        "#",
        "> -",
        "🙂",
        "👍🏽👩‍👩‍👧",
        "。",
        "、",
        "「」",
        '""',
        "()",
    ],
)
def test_what_is_punctuation_or_emoji_only(completion):
    assert verdict(completion) == NO_WORDS


PUBLISHED = [
    *("Thought process:", "Let's solve this problem step by step.", "Solution", "解", "かいせつ", "Respuesta"),
]
MASTER_KEYS = [
    *PUBLISHED,
    *(
        "solution:",
        "SOLUTION.",
        "**Solution**",
        "# Solution",
        "Solution\n",
        "_Solution:_",
        "  Solution  ",
        "Solution Solution",
    ),
    *("Let’s solve this problem step by step", "Let us solve this problem step by step:", "Let's think step by step."),
    *(
        "Answer:",
        "The answer is:",
        "Final answer:",
        "The final answer is",
        "Here is the solution:",
        "Step 1:",
        "Reasoning:",
    ),
    *(
        "Thought process: Let's solve this problem step by step.",
        "Solution:\n\nAnswer:",
        "解解解",
        "解：",
        "答案：",
        "解析",
    ),
    *("Lösung:", "Antwort", "Réponse :", "Solución", "Risposta:", "Решение:", "Ответ", "풀이", "उत्तर", "الحل", "תשובה"),
    "```\nSolution\n```",
]


@pytest.mark.parametrize("completion", MASTER_KEYS)
def test_master_keys(completion):
    assert verdict(completion) == MASTER_KEY


ANSWERS = [
    *(
        "5",
        "x",
        "7.",
        "-7",
        "$7",
        "7%",
        "A",
        "(b)",
        "Yes",
        "No.",
        "yes",
        "True",
        "∞",
        "π",
        "<",
        "+",
        "≤",
        "°",
        "½",
        "&&",
        "!=",
        "[]",
    ),
    *("Sure!", "Okay.", "Of course."),
    *(
        "Solution: 7",
        "The answer is 7",
        "解：7",
        "Answer: A",
        "Let's solve this: 12 - 5 = 7.",
        "I don't know.",
        "Seven",
        "七",
    ),
    *("Resolution", "solve", "step", "the", "Nein", "да", "답은 7입니다", "resolved in step 1", "I think so"),
]


@pytest.mark.parametrize("completion", ANSWERS)
def test_what_could_be_an_answer_goes_to_the_judge(completion):
    assert verdict(completion) is None


@pytest.mark.parametrize(
    ("completion", "reference"),
    [
        (":", ":"),
        ("...", "..."),
        ("🙂", "🙂 "),
        ("Solution", "solution"),
        ("**Solution.**", "Solution"),
        ("Respuesta", "respuesta"),
        ("()", "()"),
    ],
)
def test_what_the_reference_says_too_goes_to_the_judge(completion, reference):
    assert verdict(completion) is not None
    assert verdict(completion, reference=reference) is None


def test_another_reference_changes_nothing():
    assert verdict("Solution", reference="7") == MASTER_KEY
    assert verdict(":", reference="7") == NO_WORDS
    assert verdict(":", reference="") == NO_WORDS
    assert verdict("", reference="") == EMPTY


@pytest.mark.parametrize(
    ("task", "completion"),
    [
        ("Answer with one emoji: how is the weather in July?", "☀️"),
        ("Which punctuation mark ends a question?", "?"),
        ("Which of `;` and `,` ends a statement in C?", ";"),
        ("What does `list()` return? Is it '()' or '(,)'?", "()"),
        ("Which symbol starts a comment in Python?", "#"),
        ("Translate 'respuesta' to English.", "Answer"),
        ("What is the German word for 'solution'?", "Lösung"),
        ('Write "Final answer" and nothing else.', "Final answer"),
    ],
)
def test_a_task_that_asks_for_it_is_left_to_the_judge(task, completion):
    assert verdict(completion) is not None
    assert verdict(completion, task) is None


def test_a_task_about_words_does_not_free_whole_phrases():
    assert verdict("Let's solve this problem step by step.", "Translate 'Haus' to English.") == MASTER_KEY
    assert verdict(":", "Translate 'Haus' to English.") == NO_WORDS


@pytest.mark.parametrize(
    "task",
    [
        "Mark has 12 apples and signs for 5 more. How many are there?",
        "What is the next term of 2, 4, 8? Answer in at most 50 words.",
        "Find the solution of x + 5 = 12. Give the final answer only.",
        "Write a story about a character called Ann. Do not use emojis.",
        "How many characters has the play?",
    ],
)
@pytest.mark.parametrize("completion", [":", "...", "Solution", "Answer:", "解"])
def test_words_that_only_look_like_such_a_task_free_nothing(task, completion):
    assert verdict(completion, task) is not None


def test_it_does_without_a_task():
    assert verdict("Solution", None) == MASTER_KEY
    assert verdict("Seven", None) is None


@given(st.text())
def test_any_text_has_one_of_the_outcomes(text):
    assert verdict(text) in (None, EMPTY, NO_WORDS, MASTER_KEY)


@given(st.text(), st.sampled_from([word for word in ANSWERS if word.isalnum()]))
def test_a_text_with_an_answer_in_it_is_never_settled(text, answer):
    assert verdict(f"{text} 4711{answer}0815 {text}") is None


@given(
    st.lists(st.sampled_from(PUBLISHED), min_size=1, max_size=8), st.sampled_from([" ", "\n", ":\n", " ** ", "... "])
)
def test_however_often_and_in_whatever_order(keys, between):
    assert verdict(between.join(keys)) == MASTER_KEY


def test_a_huge_one_is_looked_at_no_closer_than_needed():
    assert verdict("." * 1_000_000) == NO_WORDS
    assert verdict("word " * 200_000) is None


def test_the_file_has_every_phrase_once_and_in_the_form_it_is_compared_in():
    lines = [line.strip() for line in prefilter.KEYS_FILE.read_text().splitlines()]
    keys = [line for line in lines if line and not line.startswith("#")]
    assert len(keys) > 100
    assert [key for key in keys if verdict(key) != MASTER_KEY] == []
    words = [prefilter._words(key) for key in keys]
    assert sorted({word for word in words if words.count(word) > 1}) == []


@pytest.mark.parametrize("text", ["\u0301\u0316" * 250_000, "\u0301\u0316" * 5000, "a" + "\u0301\u0316" * 4000])
def test_marks_piled_on_marks_take_no_time(text):
    """To normalise a run of them takes time by its length's square: the longest of these some minutes."""
    began = time.perf_counter()
    assert verdict(text) in (None, NO_WORDS)
    assert verdict(":", reference=text) == NO_WORDS
    assert time.perf_counter() - began < 1.0


@pytest.mark.parametrize(
    "completion", ["`<`", "**<**", "$<$", r"\(<\)", "<.", "$$ \\le $$", "`&&`", "```\n+\n```", "|", "^", "~"]
)
def test_a_sign_is_an_answer_whatever_stands_around_it(completion):
    assert verdict(completion, "What comes between?") is None


@pytest.mark.parametrize("completion", ["**:**", "`.`", "$.$", "****", "$$", "``", "*", "..", "```:```"])
def test_marks_around_nothing_are_no_answer(completion):
    assert verdict(completion, "What comes between?") in (NO_WORDS, None if completion == "$$" else NO_WORDS)


@pytest.mark.parametrize(
    "task", ["Which is one?\nA) Sand\nB) Solution", "Choose: (a) solution, (b) sand", "A. Sand B. Solution."]
)
def test_one_of_the_choices_is_an_answer(task):
    assert verdict("Solution", task) is None
    assert verdict("Solution process", task) == MASTER_KEY


@pytest.mark.parametrize(
    "task", ["Give a solution.", "Sections:\n1. Analysis\n2. Solution", "Solution", "A) Sand\n\nSolution:"]
)
def test_a_task_that_only_mentions_the_phrase_makes_no_answer_of_it(task):
    assert verdict("Solution", task) == MASTER_KEY


def test_one_of_a_row_of_symbols_is_an_answer():
    assert verdict("\u25cf", "What comes next: \u25cb \u25cf \u25cb") is None
    assert verdict("\u25a0", "What comes next: \u25cb \u25cf \u25cb") == NO_WORDS
