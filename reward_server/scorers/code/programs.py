"""Puts a completion's program and its tests together, and reads what came of a run.

Inputs and calls run beside the program, what they must give does not: a program can find out how it is asked and write an
answer of its own, but has to know the right one. A check that asserts something itself is not safe from a program that
looks for it: it runs in the program's process, and whoever looks into that finds the mark that says "passed".
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from reward_server.sandbox.base import Outcome, Result, Run
from reward_server.scorers.code.cases import CallCase, Case, CheckCase, StdinCase
from reward_server.scorers.code.comparing import Compare, same_text, same_value
from reward_server.scorers.code.values import TELLING, differing

CALL: Final = """
import json as _json, sys as _sys
_given = _json.loads(_sys.stdin.read())
_of = globals().get("Solution")
_function = getattr(_of(), _given["function"]) if _of is not None else globals()[_given["function"]]
_result = _function(*_given["arguments"])
_sys.stdout.write("\\n" + _given["mark"] + _json.dumps(_result, default=list) + "\\n")
_sys.stdout.flush()
"""
"""Calls the function that standard input names, of the class `Solution` if there is one; JSON has no sets, lists do."""

END: Final = "\n_end({mark!r})\n"
"""Writes the values that were told."""

CHECKED: Final = "\nimport sys as _sys\n_sys.stdout.write(chr(10) + {mark!r} + chr(10))\n_sys.stdout.flush()\n"
"""Says that the code before it ran to its end. A program that merely exits, with status 0, has passed nothing."""

MAX_SHOWN_CHARS: Final = 300


@dataclass(frozen=True, slots=True)
class Told:
    """Whether a case was passed, and if not, why, in words for a person."""

    passed: bool
    why: str = ""


def run_of(case: Case, mark: str) -> Run:
    """Returns the run that tests a case.

    Args:
        case: what is tested.
        mark: makes out what the test itself wrote from what the program prints. It is no secret from a program that looks.
    """
    match case:
        case StdinCase(stdin=stdin):
            return Run(stdin)
        case CallCase(function=function, arguments=arguments):
            given = {"function": function, "arguments": list(arguments), "mark": mark}
            return Run(json.dumps(given), tail=CALL)
        case CheckCase(code=code, expected=expected) if expected:
            return Run("", tail=f"{TELLING}\n{code}\n{END.format(mark=mark)}")
        case CheckCase(code=code):
            return Run("", tail=f"{code}\n{CHECKED.format(mark=mark)}")


def told(case: Case, result: Result, mark: str, how: Compare) -> Told:
    """Returns whether a run's result is what the case demands."""
    if result.outcome is not Outcome.OK:
        return Told(passed=False, why=_failure(result))
    lines = result.stdout.rstrip("\n").rsplit("\n", 1)
    last = lines[-1]
    match case:
        case StdinCase(stdout=expected):
            passed = same_text(result.stdout, expected, how)
            return Told(passed, "" if passed else f"it wrote {_shown(result.stdout)}, expected is {_shown(expected)}")
        case CallCase(returns=expected):
            if not last.startswith(mark):
                return Told(passed=False, why="it ended before its function returned")
            passed = same_value(last.removeprefix(mark), expected)
            return Told(passed, "" if passed else f"it returned {_shown(last.removeprefix(mark))}")
        case CheckCase(expected=wanted) if wanted and last.startswith(mark):
            why = differing(last.removeprefix(mark), wanted)
            return Told(why is None, why or "")
        case CheckCase():
            last = "" if case.expected else last  # it has not told its values
            return Told(last == mark, "" if last == mark else "it ended before the test did")


def explanation_of(cases: Sequence[Case], results: Sequence[Told]) -> str:
    """Returns in words how many tests were passed, and what came of the first that was not."""
    passed = sum(result.passed for result in results)
    text = f"{passed} of {len(cases)} tests passed"
    failed = next((number for number, result in enumerate(results, 1) if not result.passed), None)
    return text if failed is None else f"{text}; test {failed}: {results[failed - 1].why}"


def _failure(result: Result) -> str:
    words = {
        Outcome.TIMED_OUT: f"it ran out of time after {result.cpu_s:.1f} s of CPU",
        Outcome.OUT_OF_MEMORY: "it ran out of memory",
        Outcome.OUTPUT_LIMIT: "it wrote more than is read",
    }
    if result.outcome in words:
        return words[result.outcome]
    error = result.stderr.strip().rsplit("\n", 1)[-1]
    return _shown(error) if error else f"exit status {result.exit_code}"


def _shown(text: str) -> str:
    text = text.strip()
    return repr(text if len(text) <= MAX_SHOWN_CHARS else text[:MAX_SHOWN_CHARS] + " ...")
