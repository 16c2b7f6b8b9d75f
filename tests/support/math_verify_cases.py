"""Makes tests/data/math_verify_cases.jsonl from the tests in math-verify's source distribution.

    python tests/support/math_verify_cases.py math_verify-0.9.0 tests/data/math_verify_cases.jsonl

Its test functions are run with functions in place of the library's that only write down what they are asked. What
cannot be said as gold, completion, options and expected result is counted, by test, in the first line of the file.
"""

from __future__ import annotations

import importlib
import json
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

SOURCE = "math-verify 0.9.0, its source distribution (math_verify-0.9.0.tar.gz, tests/)"
LICENCE = "Apache-2.0"
MODULES = (
    "test_all",
    "test_boxed",
    "test_configs",
    "test_gamma_func",
    "test_numina_cases",
    "test_open_thoughts",
    "test_raise_on_error",
    "test_strict",
    "test_string_extraction",
    "test_timeout",
    "test_yujianll",
)


class Recorder:
    """Takes the place of the functions under test and keeps what they were asked."""

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}

    def compare_strings(self, gold: str, pred: str, **settings: Any) -> int:
        precision = settings.pop("precision", 6)
        targets = settings.pop("match_types", ["latex", "expr"])
        self.asked = {"gold": gold, "completion": pred}
        self.asked["options"] = {"targets": targets, "boxed_match_priority": 0, "float_rounding": precision, **settings}
        return 0

    def verify(self, gold: str, pred: str) -> int:
        self.asked = {"gold": gold, "completion": pred, "options": {}}
        return 0


def cases_of(module: Any) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Returns a module's cases, and how many of each test function say nothing of that form."""
    cases, left_out = [], {}
    recorder = Recorder()
    module.compare_strings, module.verify = recorder.compare_strings, recorder.verify
    if module.__name__.endswith("yujianll"):
        module.parse = lambda text: text
    for name, function in vars(module).items():
        if not name.startswith("test_"):
            continue
        for values in parameters_of(function):
            recorder.asked = {}
            with suppress(AssertionError, TypeError):  # the recorder answers 0 to everything
                function(**values)
            expected = values.get("expected", values.get("result"))
            if recorder.asked and expected in (0, 1):
                cases.append({"test": f"{module.__name__}.{name}", **recorder.asked, "expected": int(expected)})
            else:
                left_out[f"{module.__name__}.{name}"] = left_out.get(f"{module.__name__}.{name}", 0) + 1
    return cases, left_out


def parameters_of(function: Any) -> list[dict[str, Any]]:
    """Returns the keywords of each run of a test function."""
    for mark in getattr(function, "pytestmark", ()):
        if mark.name == "parametrize":
            names, rows = mark.args
            names = [name.strip() for name in names.split(",")]
            return [dict(zip(names, row, strict=True)) for row in rows]
    return [{}]


def main(folder: str, target: str) -> None:
    """Writes the file."""
    sys.path.insert(0, folder)
    cases, left_out = [], {}
    for name in MODULES:
        found, not_said = cases_of(importlib.import_module(f"tests.{name}"))
        cases += found
        left_out |= not_said
    header = {"source": SOURCE, "licence": LICENCE, "cases": len(cases), "left_out": left_out}
    lines = [header, *cases]
    Path(target).write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))


if __name__ == "__main__":
    main(*sys.argv[1:])
