"""Rubric files: what is wrong with one is told by file, line and key; those that we ship and show are right."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from small_model import needs_model
from small_tokenizer import small_tokenizer

from reward_server.errors import ConfigError
from reward_server.judge.rubric import Canary, Criterion, Example, Rubric
from reward_server.judge.rubrics import read_rubric

REPOSITORY = Path(__file__).parents[2]
LIBRARY = sorted((REPOSITORY / "examples" / "rubrics").glob("*.yaml"))
PAGE = REPOSITORY / "docs" / "rubrics.md"
BLOCKS = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE)
SHOWN = [block for block in BLOCKS if "criteria:" in block]

SMALL = """\
criteria:
  - name: polite
    text: It is polite.
  - name: depth
    text: the depth of the thought
    scale: 0-9
"""


def read(tmp_path: Path, text: str) -> Rubric:
    path = tmp_path / "rubric.yaml"
    path.write_text(text)
    return read_rubric(path)


def problems_of(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    return [problem.removeprefix(f"{tmp_path}/rubric.yaml:") for problem in caught.value.problems]


def test_a_small_rubric_has_the_defaults(tmp_path):
    rubric = read(tmp_path, SMALL)
    assert rubric.criteria[0] == Criterion(name="polite", text="It is polite.", weight=1, scale="yes_no", good="yes")
    assert rubric.criteria[1].scale == "0-9"
    assert not rubric.needs_reference


def test_yes_and_no_are_words_and_grades_are_checked(tmp_path):
    text = "examples:\n  - {prompt: p, completion: c, grades: {polite: no, depth: 7}}\ncanaries:\n  - {prompt: p, completion: c, good: no}\n"
    rubric = read(tmp_path, SMALL + text)
    assert rubric.examples[0].grades == {"polite": "no", "depth": 7}
    assert rubric.canaries[0].good is False


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("criteria: []\n", 1, "criteria: must not be empty"),
        ("description: x\n", 0, "criteria: is missing"),
        ("- a\n", 0, "must be a mapping with `criteria`"),
        ("criteria:\n  - {name: a b, text: x}\n", 2, "criteria[0].name: must match"),
        ("criteria:\n  - {name: a}\n", 2, "criteria[0].text: is missing"),
        (
            "criteria:\n  - {name: a, text: x, wieght: 2}\n",
            2,
            "criteria[0].wieght: unknown key; did you mean 'weight'?",
        ),
        ("criteria:\n  - {name: a, text: x, weight: 0}\n", 2, "criteria[0].weight: must be more than 0"),
        ("criteria:\n  - {name: a, text: x, good: maybe}\n", 2, "criteria[0].good: must be 'yes' or 'no'"),
        (
            "criteria:\n  - {name: a, text: x}\n  - {name: a, text: y}\n",
            3,
            "criteria[1].name: two criteria have the name 'a'",
        ),
        ("criteria:\n  - {name: a, text: x, scale: 0-9, good: no}\n", 2, "criteria[0].good: is for yes_no"),
        (f"{SMALL}anchors: {{10: x}}\n", 7, "anchors.10"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_key(tmp_path, text, line, words):
    (problem,) = problems_of(tmp_path, text)
    assert words in problem
    assert problem.startswith(f"{line}: " if line else " ")


KNOWN = f"{SMALL}columns: {{context: the context}}\nneeds_reference: true\n"


@pytest.mark.parametrize(
    ("example", "words"),
    [
        (
            "reference: r, columns: {context: x}, grades: {polite: no, depth: 1, kind: yes}",
            "grades.kind: no criterion has the name 'kind'; there are polite, depth",
        ),
        (
            "reference: r, columns: {context: x}, grades: {polite: 3, depth: 1}",
            "grades.polite: is 3, and that criterion is answered by yes or no",
        ),
        (
            "reference: r, columns: {context: x}, grades: {polite: no, depth: yes}",
            "grades.depth: is yes, and that criterion is answered by 0 to 9",
        ),
        ("reference: r, columns: {context: x}, grades: {polite: no, depth: 10}", "grades.depth: must be"),
        ("columns: {context: x}, grades: {polite: no, depth: 1}", "lacks `reference`: the rubric needs it"),
        ("reference: r, grades: {polite: no, depth: 1}", "lacks the column 'context': the rubric needs it"),
        (
            "reference: r, columns: {context: x}, grades: {depth: 1}",
            "grades: lacks polite: an example shows an answer in full",
        ),
        (
            "reference: r, columns: {context: x, page: y}, grades: {polite: no, depth: 1}",
            "columns.page: is no column of the rubric",
        ),
    ],
)
def test_an_example_must_fit_its_rubric(tmp_path, example, words):
    problems = problems_of(tmp_path, f"{KNOWN}examples:\n  - {{prompt: p, completion: c, {example}}}\n")
    assert problems[0].startswith("10: examples[0]")
    assert words in problems[0]
    assert len(problems) == 1


def test_a_canary_must_fit_its_rubric(tmp_path):
    problems = problems_of(tmp_path, f"{KNOWN}canaries:\n  - {{prompt: p, completion: c, good: yes}}\n")
    assert problems == ["10: canaries[0]: lacks `reference` and the column 'context': the rubric needs it"]


def test_true_and_false_are_taken_for_yes_and_no(tmp_path):
    text = "criteria: [{name: a, text: x, good: false}]\nexamples: [{prompt: p, completion: c, grades: {a: true}}]\n"
    rubric = read(tmp_path, text)
    assert (rubric.criteria[0].good, rubric.examples[0].grades["a"]) == ("no", "yes")


def test_all_that_does_not_fit_is_told_in_one_go(tmp_path):
    text = f"{SMALL}examples:\n  - {{prompt: p, completion: c, grades: {{a: yes, b: no, polite: 1}}}}\n"
    assert len(problems_of(tmp_path, text)) == 3


def test_a_missing_file_says_where_rubrics_are(tmp_path):
    with pytest.raises(ConfigError, match=r"there is no such file; docs/rubrics\.md says how to write one"):
        read_rubric(tmp_path / "absent.yaml")


def test_no_yaml_is_told_by_line(tmp_path):
    (problem,) = problems_of(tmp_path, "criteria:\n  - {name: a\n")
    assert "is no YAML" in problem


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.stem)
class TestTheLibrary:
    def test_it_is_a_rubric_to_start_from(self, path):
        rubric = read_rubric(path)
        assert rubric.description
        assert rubric.instructions
        assert 3 <= len(rubric.criteria) <= 6
        assert rubric.anchors

    def test_doing_nothing_does_not_pay(self, path):
        """Of all faults an empty completion has none: what must be there weighs at least nearly as much."""
        rubric = read_rubric(path)
        merits = sum(criterion.weight for criterion in rubric.criteria if criterion.good == "yes")
        faults = sum(criterion.weight for criterion in rubric.criteria if criterion.good == "no")
        harmless = path.stem == "harmlessness"  # there, silence does no harm; a refusal is a fault of its own
        assert merits >= faults or harmless

    def test_its_examples_show_a_good_and_a_bad_completion_with_all_grades(self, path):
        rubric = read_rubric(path)
        names = {criterion.name for criterion in rubric.criteria}
        assert 1 <= len(rubric.examples) <= 2
        assert all(set(example.grades) == names and example.reason for example in rubric.examples)
        good = {criterion.name: criterion.good for criterion in rubric.criteria}
        assert len({tuple(example.grades[name] == good[name] for name in good) for example in rubric.examples}) == 2

    def test_its_canaries_are_of_both_kinds_and_no_examples(self, path):
        rubric = read_rubric(path)
        assert 2 <= len(rubric.canaries) <= 4
        assert {canary.good for canary in rubric.canaries} == {True, False}
        shown = {example.prompt for example in rubric.examples}
        assert [
            canary.prompt for canary in rubric.canaries if canary.prompt in shown and "function" not in canary.prompt
        ] == []

    def test_the_page_names_it(self, path):
        assert f"(../examples/rubrics/{path.name})" in PAGE.read_text()


def test_there_are_the_seven_that_people_start_from():
    assert {path.stem for path in LIBRARY} >= {
        *(
            "helpfulness",
            "correctness",
            "instruction_following",
            "grounding",
            "harmlessness",
            "concise_style",
            "code_review",
        )
    }
    assert read_rubric(REPOSITORY / "examples/rubrics/correctness.yaml").needs_reference
    assert "context" in read_rubric(REPOSITORY / "examples/rubrics/grounding.yaml").columns


class TestTheLibrarysLength:
    pytestmark = needs_model

    def test_what_every_prompt_repeats_is_short(self):
        tokenizer = small_tokenizer()
        for path in LIBRARY:
            rubric = read_rubric(path)
            texts = [rubric.instructions, *(criterion.text for criterion in rubric.criteria), *rubric.anchors.values()]
            assert len(tokenizer("\n".join(texts))["input_ids"]) < 350, path.name


@pytest.mark.parametrize("text", SHOWN)
def test_a_rubric_that_the_page_shows_is_one(tmp_path, text):
    assert read(tmp_path, text).criteria


def test_the_page_shows_rubrics():
    assert len(SHOWN) >= 2


def test_the_configuration_that_the_page_shows_loads(tmp_path):
    from reward_server.config import load

    (block,) = [block for block in BLOCKS if "judges:" in block]
    (tmp_path / "server.yaml").write_text(block)
    (path,) = re.findall(r"rubric_file: ([\w./]+)", block)
    (tmp_path / path).parent.mkdir()
    (tmp_path / path).write_text(SMALL)
    assert load(tmp_path / "server.yaml").judges


def rows(model: type[BaseModel], words: dict[str, str]) -> Iterator[str]:
    """Yields the rows of the table that documents a model; `words` for fields that say nothing of themselves."""
    for name, field in model.model_fields.items():
        default: Any = "needed" if field.is_required() else field.get_default(call_default_factory=True)
        if default in (None, "", (), {}):
            default = "none"
        if default not in ("needed", "none"):
            default = f"`{str(default).lower() if isinstance(default, bool) else f'{default:g}' if isinstance(default, float) else default}`"
        yield f"| `{name}` | {default} | {field.description or words.get(name)} |"


MATERIAL = {
    "prompt": "the task",
    "completion": "what is graded",
    "reference": "the right answer, where the rubric needs one",
    "columns": "the columns that the judge is shown",
    "good": "whether a sound judge thinks well of it",
    "criteria": "what is asked about the completion, one by one",
    "examples": "completions with their right grades, shown to the judge",
    "canaries": "completions of known worth, to watch the judge by",
}


@pytest.mark.parametrize(
    ("title", "model"), [("The file", Rubric), ("criteria", Criterion), ("examples", Example), ("canaries", Canary)]
)
def test_the_page_has_the_keys_of_the_models(title, model):
    section = re.search(rf"^##+ {title}\n(.*?)(?=^##|\Z)", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert section
    assert [row for row in rows(model, MATERIAL) if row not in section[1]] == []


def test_the_page_names_every_method():
    from reward_server.judge.methods import METHODS

    section = PAGE.read_text().partition("## What each method makes of it\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(\w+)`", section, re.MULTILINE)) == set(METHODS)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ("{a: Context, b: context}", "columns.b: the title 'context' is taken: the column 'a' has it"),
        ("{a: completion}", "columns.a: the title 'completion' is taken"),
        ('{a: " Completion  A "}', "is taken"),
        ("{a: Reference}", "is taken"),
        ('{a: " "}', "columns.a"),
    ],
)
def test_titles_that_a_judge_could_not_tell_apart_are_refused(columns, why, tmp_path):
    path = tmp_path / "rubric.yaml"
    path.write_text(f"{SMALL}columns: {columns}\n")
    with pytest.raises(ConfigError) as refused:
        read_rubric(path)
    assert why in str(refused.value)


def test_a_criterion_of_blanks_is_none(tmp_path):
    path = tmp_path / "rubric.yaml"
    path.write_text('criteria: [{name: a, text: " "}]\n')
    with pytest.raises(ConfigError, match="text"):
        read_rubric(path)
