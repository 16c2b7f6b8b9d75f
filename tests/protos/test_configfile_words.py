"""What is said of a file that does not fit its model: which line, which key, what would be right, and no secrets."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from protos.configfile import did_you_mean, parse, proposals, unknown, validated


class Optimiser(BaseModel):
    model_config = ConfigDict(extra="forbid")

    learning_rate: float = Field(1e-6, gt=0)
    warmup: bool | Literal["auto"] = "auto"
    api_key: int = 0
    token_file: Path | None = None
    url: int = 0


class Run(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    optimiser: Optimiser = Optimiser()
    more: dict[str, Optimiser] = {}
    either: Optimiser | list[str] | None = None

    @field_validator("name")
    @classmethod
    def _no_spaces(cls, name: str) -> str:
        if " " in name:
            raise ValueError(f"holds a space: {name!r}")
        return name


def problems(text):
    document = parse(text, "run.yaml")
    fits = validated(Run, document.value, (), document) is not None
    assert fits == (not document.problems)
    return document.problem_lines()


def test_what_fits_becomes_the_model():
    document = parse("name: a\noptimiser: {learning_rate: 1e-5, warmup: false}", "run.yaml")
    assert validated(Run, document.value, (), document) == Run(
        name="a", optimiser=Optimiser(learning_rate=1e-5, warmup=False)
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "run.yaml: must be a mapping (key: value), found nothing"),
        (
            "nmae: a\nname: b",
            "run.yaml:1: nmae: unknown key; did you mean 'name'? known: either, more, name, optimiser",
        ),
        ("optimiser: {}", "run.yaml: name: is missing"),
        (
            "name: a\noptimiser:\n  learning_rate: fast",
            "run.yaml:3: optimiser.learning_rate: must be a number, found 'fast'",
        ),
        ("name: a\noptimiser: 5", "run.yaml:2: optimiser: must be a mapping (key: value), found 5"),
        ("name: a b", "run.yaml:1: name: holds a space: 'a b'"),
        (
            "name: a\nmore:\n  b:\n    ulr: 1",
            "run.yaml:4: more.b.ulr: unknown key; did you mean 'url'? known: api_key, learning_rate, token_file, url, warmup",
        ),
        ("name: a\neither:\n  url: x", "run.yaml:3: either.url: must be a whole number, found 'x'"),
        ("name: a\noptimiser:\n  learning_rate: -1e-5", "run.yaml:3: optimiser.learning_rate: must be more than 0"),
        ("name: a\noptimiser: {warmup: atuo}", "must be true or false, or must be 'auto' (did you mean 'auto'?)"),
    ],
)
def test_a_mistake_is_told_with_its_line_its_key_and_the_remedy(text, message):
    (line,) = problems(text)
    assert message in line


def test_all_mistakes_are_told_at_once_in_the_order_of_the_file():
    lines = problems("optimiser:\n  url: x\n  learning_rate: x\nname: []\nother: 1")
    assert [line.split(": ")[:2] for line in lines] == [
        ["run.yaml:2", "optimiser.url"],
        ["run.yaml:3", "optimiser.learning_rate"],
        ["run.yaml:4", "name"],
        ["run.yaml:5", "other"],
    ]


def test_a_long_list_of_mistakes_is_cut_and_counted():
    lines = problems("name: a\n" + "".join(f"k{number}: 1\n" for number in range(60)))
    assert len(lines) == 51
    assert lines[-1] == "run.yaml: ... and 10 more"


@pytest.mark.parametrize(
    "line", ["api_key: s3cret", "token_file: [s3cret]", "token_file: {s3cret: 1}", "url: http://me:s3cret@host"]
)
def test_a_secret_is_never_shown(line):
    (said,) = problems(f"name: a\noptimiser: {{{line}}}")
    assert said.startswith("run.yaml:2: optimiser.")
    assert "s3cret" not in said


def test_names_are_proposed():
    assert did_you_mean("unti", ["width", "unit"]) == "; did you mean 'unit'?"
    assert did_you_mean("x", ["width", "unit"]) == ""
    assert proposals("unti", ["width", "unit"]) == "; did you mean 'unit'? known: unit, width"
    assert proposals("x", []) == "; known: none"
    assert unknown("reward", "x", ["b", "a"]) == "unknown reward; known: a, b"


def test_reading_needs_pydantic_and_yaml_only():
    program = (
        "import sys, pydantic, yaml; before = set(sys.modules); import protos.configfile; "
        "added = {name.partition('.')[0] for name in set(sys.modules) - before}; "
        "print(*(name for name in added - sys.stdlib_module_names if not name.startswith('_')))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(ended.stdout.split()) <= {"protos", "pydantic", "pydantic_core", "annotated_types"}
