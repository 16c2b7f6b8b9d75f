"""Whether a completion solves a task of Reasoning Gym, by the task's own scorer.

    solved: {reasoning_gym: {}}                         # the answer in <answer>...</answer>
    bare:   {reasoning_gym: {answer: whole}}

A sample's columns are the task's entry as `reasoning_gym.create_dataset` makes it: `question`, `answer`, `metadata`, of
which `metadata` may be an object or its JSON. The scorer is `get_score_answer_fn(metadata["source_dataset"])`.

An entry is proved first: unless its own answer scores 1, nothing is scored against it. (So it is with a task made
under options that its scorer does not know of.) Tasks that would execute the answer as code are kept from it: see
`reward_server.scorers.reasoning_gym_guard`.

Needs the extra `reasoning-gym`. Columns: the answer's and the metadata's; question if there. Range: 0 to 1. Cost class:
compute.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, ClassVar, Final

from pydantic import Field
from reasoning_gym.factory import DATASETS, get_score_answer_fn

from reward_server.domain import Blame, Needs, Sample, Verdict, abstained, scored
from reward_server.scorers.answers.extraction import Extraction
from reward_server.scorers.base import RuleContext
from reward_server.scorers.pooled import PooledOptions, PooledRule
from reward_server.scorers.reasoning_gym_guard import guard, refused
from reward_server.scorers.texts import NOT_A_TEXT

REMEMBERED_ENTRIES: Final = 64
"""A group's completions share their entry, so it is proved once."""

BOARDS: Final = ("arc_agi", "rearc")
"""Their scorers compare with tuples of tuples, of which JSON makes lists."""


class ReasoningGymOptions(PooledOptions):
    """Where the entry is in the columns, and the answer in the completion."""

    reference_column: str = Field("answer", min_length=1, description="column with the entry's answer")
    metadata_column: str = Field(
        "metadata", min_length=1, description="column with the entry's metadata, which name the task (source_dataset)"
    )
    question_column: str = Field("question", min_length=1, description="column with the entry's question; not needed")
    answer: Extraction = Field(
        Extraction("tag:answer"),
        description="where in the completion the answer stands: auto, whole, boxed, last_line, last_number, tag:NAME, "
        "after:MARK or regex:EXPRESSION",
    )


class ReasoningGym(PooledRule):
    """Scores what the task's own scorer gives."""

    kind: ClassVar[str] = "reasoning_gym"
    Options = ReasoningGymOptions
    score_range = (0.0, 1.0)
    libraries = ("reasoning_gym", "sympy")

    def __init__(self, options: ReasoningGymOptions, context: RuleContext) -> None:
        guard()
        super().__init__(options, context)
        self._options = options
        self.needs = Needs(
            required_columns=frozenset({options.reference_column, options.metadata_column}),
            optional_columns=frozenset({options.question_column}),
        )
        self._problem = lru_cache(REMEMBERED_ENTRIES)(_problem_of)

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the score that the task gives to the completion's answer, or to none where there is none."""
        try:
            entry = json.dumps(self._entry(sample.columns))
            problem = self._problem(entry)
        except (ValueError, TypeError, RecursionError) as error:
            problem = str(error)
        if problem:
            return abstained(f"the task's entry cannot be used: {problem}", blame=Blame.REFERENCE)
        if not isinstance(sample.completion, str):
            return NOT_A_TEXT
        found = self._options.answer.find(sample.completion)
        return scored(min(1.0, max(0.0, _score(entry, found.text if found else None))))

    def _entry(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        metadata = columns.get(self._options.metadata_column)
        return {
            "question": columns.get(self._options.question_column),
            "answer": columns.get(self._options.reference_column),
            "metadata": json.loads(metadata) if isinstance(metadata, str) else metadata,
        }


def _problem_of(entry_json: str) -> str:
    """Returns what is wrong with an entry: its own answer must be right. Empty if nothing is."""
    entry = json.loads(entry_json)
    metadata, answer = entry["metadata"], entry["answer"]
    if not isinstance(metadata, dict) or "source_dataset" not in metadata:
        return "its metadata are no object with a 'source_dataset'"
    task = metadata["source_dataset"]
    if not isinstance(task, str) or task not in DATASETS:
        return f"this version of Reasoning Gym has no task {task!r}"
    if refused(DATASETS[task][0]):
        return f"the task {task!r} seems to execute answers as code, and nobody has looked at how"
    if answer is None:  # of a puzzle with many solutions
        return ""
    if not isinstance(answer, str):
        return "its answer is not a text"
    score = _score(entry_json, answer)
    return "" if score == 1.0 else f"its own answer scores {score:g}, not 1"


def _score(entry_json: str, answer: str | None) -> float:
    """Returns what the task gives to an answer; 0 for one that it cannot read."""
    entry = json.loads(entry_json)  # one of its own for each: scorers might change it
    task = entry["metadata"]["source_dataset"]
    if task in BOARDS and isinstance(board := entry["metadata"].get("output"), list):
        entry["metadata"]["output"] = tuple(tuple(row) if isinstance(row, list) else row for row in board)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as numpy's about an empty matrix
        try:
            return float(_scorer(task)(answer, entry))
        except MemoryError:
            raise
        except Exception:  # tasks' scorers raise what they like over odd answers; the entry's own has proved it sound
            if entry["answer"] is None:  # no proof that it is not the entry
                raise
            return 0.0


@lru_cache(maxsize=256)
def _scorer(task: str) -> Callable[[str | None, dict[str, Any]], float]:
    scorer: Callable[[str | None, dict[str, Any]], float] = get_score_answer_fn(task)
    return scorer
