"""Reasoning Gym's tasks: their own scorers' values, entries that prove to be wrong, and that nothing is executed."""

import functools
import importlib.util
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import sympy
from pydantic import ValidationError
from reasoning_gym.factory import DATASETS, create_dataset, get_score_answer_fn
from sympy.parsing.sympy_parser import parse_expr

from reward_server.domain import Blame, Sample, Status
from reward_server.scorers import reasoning_gym_guard as guards
from reward_server.scorers.base import RuleContext
from reward_server.scorers.reasoning_gym import ReasoningGym, ReasoningGymOptions

ROOT = Path(__file__).parents[2]
GUARDED = [name.rpartition(".")[2] for name in (*guards.READ_BY_EVAL, *guards.READ_BY_SYMPY)]
OPEN_ENDED = ["boxnet", "graph_color", "propositional_logic", "rubiks_cube", "rush_hour"]
TASKS = sorted(
    {
        *GUARDED,
        *OPEN_ENDED,
        *("ab", "rearc", "base_conversion", "basic_arithmetic", "caesar_cipher", "calendar_arithmetic"),
        *("chain_sum", "complex_arithmetic", "count_primes", "decimal_arithmetic", "family_relationships", "fraction_simplification"),
        *("game_of_life", "gcd", "isomorphic_strings", "knights_knaves", "leg_counting", "letter_counting", "maze", "mini_sudoku"),
        *("pool_matrix", "prime_factorization", "simple_equations", "sokoban", "spell_backward", "syllogism", "tower_of_hanoi"),
        *("word_sorting", "zebra_puzzles"),
    }
)  # fmt: skip
WRONG = [None, "", "5", "-1", "abc", "[1, 2]", "1 2 3", "0x1f", "(", "x**2 + C", "{}", '["a"]', "9" * 5000]


@functools.cache
def made(task, seed=7):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of files that the package behind arc_agi leaves open
        return create_dataset(task, size=1, seed=seed)[0]


def entry_of(task, seed=7):
    """Returns an entry as a dataset has it, after JSON."""
    return json.loads(json.dumps(made(task, seed), default=str))


def verdict(completion, entry, **options):
    rule = ReasoningGym(ReasoningGymOptions(**options), RuleContext("solved", Path()))
    return rule.judge_one(Sample(completion, columns=entry))


def tagged(answer):
    return "I think it is this." if answer is None else f"I think: <answer>{answer}</answer>"


def theirs(task, answers):
    """Returns what the task itself gives to the answers; 0 where it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        score = get_score_answer_fn(task)
        scores = []
        for answer in answers:
            try:
                scores.append(score(answer, made(task)))
            except Exception:  # noqa: BLE001  # tasks raise whatever comes
                scores.append(0.0)
    return scores


@pytest.fixture
def unguarded(monkeypatch):
    """Yields a function that lets Reasoning Gym be as it comes; only for texts that are harmless."""

    def take_away():
        for name in guards.READ_BY_EVAL:
            monkeypatch.delitem(vars(sys.modules[f"reasoning_gym.{name}"]), "eval", raising=False)
        for name, attribute in guards.READ_BY_SYMPY.items():
            real = parse_expr if attribute == "parse_expr" else sympy
            monkeypatch.setitem(vars(sys.modules[f"reasoning_gym.{name}"]), attribute, real)

    return take_away


@pytest.mark.parametrize("task", TASKS)
def test_an_entrys_own_answer_scores_1_and_every_answer_what_the_task_itself_gives(task, unguarded):
    entry = entry_of(task)
    answers = [*(WRONG[:2] if task == "boxnet" else WRONG), entry["answer"]]
    text_columns = {**entry, "metadata": json.dumps(entry["metadata"])}
    ours = [verdict(tagged(each), text_columns).score for each in answers]
    assert ours == [verdict(tagged(each), entry).score for each in answers]
    if task not in OPEN_ENDED:
        assert ours[-1] == 1.0
    unguarded()
    assert ours == pytest.approx(theirs(task, answers))


@pytest.mark.parametrize(
    ("task", "solution"),
    [
        ("graph_color", lambda metadata: json.dumps(metadata["possible_answer"])),
        ("propositional_logic", lambda metadata: metadata["example_answer"]),
        ("rubiks_cube", lambda metadata: metadata["example_correct_answer"]),
    ],
)
def test_a_task_with_many_answers_takes_one_of_them(task, solution):
    entry = entry_of(task)
    assert entry["answer"] is None
    assert verdict(tagged(solution(entry["metadata"])), entry).score == 1.0


def test_an_answer_that_the_task_cannot_read_is_wrong():
    entry = entry_of("prime_factorization")
    with pytest.raises(ValueError):
        get_score_answer_fn("prime_factorization")("abc", entry)
    assert verdict(tagged("abc"), entry).score == 0.0


@pytest.mark.parametrize("task", GUARDED)
def test_the_formulas_of_guarded_tasks_are_still_read(task):
    for seed in range(8):
        entry = entry_of(task, seed)
        assert verdict(tagged(entry["answer"]), entry).score == 1.0


def test_other_ways_to_write_an_answer_are_read_in_guarded_tasks():
    entry = entry_of("countdown")
    assert verdict(tagged(f"({entry['answer']}) * 1"), entry).score == 0.05  # one number too many
    assert verdict(tagged(f" ( {entry['answer']} ) "), entry).score == 1.0
    listed = entry_of("string_insertion")
    assert verdict(tagged(str(list(listed["answer"]))), listed).score == pytest.approx(0.1)


def test_nothing_that_a_completion_or_a_dataset_says_is_executed():
    script = ROOT / "tests/support/reasoning_gym_canary.py"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(script)],
        check=True,
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT)},
    )
    told = json.loads(done.stdout.splitlines()[-1].lstrip("."))
    assert told["tasks"] > 100
    assert sorted(GUARDED) == told["before"]
    assert told["after"] == []


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "x.__class__",
        "().a",
        "'a'",
        "open(1)",
        "lambda: 1",
        "a_b",
        "\N{GREEK SMALL LETTER ALPHA}(1)",
        "",
        5,
    ],
)
def test_what_is_no_formula_is_refused(text):
    with pytest.raises(ValueError):
        guards.parse_formula(text)


@pytest.mark.parametrize("text", ["__import__('os')", "print(1)", "[x]", "0x1 .real", "exec", "(lambda: 1)()"])
def test_what_is_neither_a_literal_nor_arithmetic_is_refused(text):
    with pytest.raises((ValueError, SyntaxError)):
        guards.evaluate(text)


@pytest.mark.parametrize(("text", "value"), [("[['a', 1]]", [["a", 1]]), ("(0x1f + 2) << 3", 264), ("-7 // 2", -4)])
def test_literals_and_arithmetic_are_evaluated(text, value):
    assert guards.evaluate(text) == value


def test_every_task_that_looks_as_if_it_executed_texts_was_looked_at():
    assert [name for name, (dataset, _) in DATASETS.items() if guards.refused(dataset) and name != "composite"] == []


def test_a_new_task_that_looks_as_if_it_executed_texts_is_refused(tmp_path, monkeypatch):
    (tmp_path / "new_task.py").write_text(
        "class New:\n    def score_answer(self, answer, entry):\n        eval(answer)\n"
    )
    spec = importlib.util.spec_from_file_location("new_task", tmp_path / "new_task.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "new_task", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(DATASETS, "new", (module.New, None))
    got = verdict(tagged("1"), {"answer": "1", "metadata": {"source_dataset": "new"}})
    assert got.blame is Blame.REFERENCE
    assert "seems to execute answers as code" in got.status_reason


@pytest.mark.parametrize("completion", ["<answer>4</answer>", "", [{"role": "assistant", "content": "4"}]])
@pytest.mark.parametrize(
    ("columns", "told"),
    [
        ({}, "no object with a 'source_dataset'"),
        ({"metadata": None, "answer": "4"}, "no object with a 'source_dataset'"),
        ({"metadata": "{", "answer": "4"}, "Expecting"),
        ({"metadata": "[" * 100_000, "answer": "4"}, "recursion"),
        ({"metadata": {"source_dataset": "no_such"}, "answer": "4"}, "has no task 'no_such'"),
        ({"metadata": {"source_dataset": ["gcd"]}, "answer": "4"}, "has no task"),
        ({"metadata": {"source_dataset": "gcd"}, "answer": 4}, "its answer is not a text"),
        (
            {"metadata": {"source_dataset": "puzzle24", "numbers": [1]}, "answer": "99 - 75"},
            "its own answer scores 0.01",
        ),
        ({"metadata": {"source_dataset": "countdown"}, "answer": "1 + 2"}, "its own answer scores 0.01"),
    ],
)
def test_an_entry_that_cannot_be_used_is_missing_for_every_completion_alike(columns, told, completion):
    got = verdict(completion, columns)
    assert (got.status, got.blame) == (Status.ABSTAINED, Blame.REFERENCE)
    assert told in got.status_reason


def test_a_conversation_says_which_view_it_needs():
    got = verdict([{"role": "assistant", "content": "<answer>4</answer>"}], entry_of("gcd"))
    assert got.status is Status.FAILED
    assert "'view: full'" in got.status_reason


def test_what_a_task_raises_over_an_entry_without_an_answer_of_its_own_is_no_score():
    entry = entry_of("boxnet")
    with pytest.raises(TypeError):
        verdict(tagged("5"), entry)


def test_the_answer_is_where_the_options_say():
    entry = entry_of("gcd")
    assert verdict(entry["answer"], entry).score == 0.0
    assert verdict(entry["answer"], entry, answer="whole").score == 1.0
    renamed = {"gold": entry["answer"], "extra": entry["metadata"]}
    options = {"reference_column": "gold", "metadata_column": "extra"}
    assert verdict(tagged(entry["answer"]), renamed, **options).score == 1.0
    needs = ReasoningGym(ReasoningGymOptions(**options), RuleContext("r", Path())).needs
    assert needs.required_columns == {"gold", "extra"}
    assert needs.optional_columns == {"question"}


def test_a_place_of_an_answer_that_is_none_is_refused():
    with pytest.raises(ValidationError, match="no place of an answer"):
        ReasoningGymOptions(answer="somewhere")


def test_its_identity_names_the_library():
    assert "reasoning_gym" in ReasoningGym(ReasoningGymOptions(), RuleContext("r", Path())).identity()
