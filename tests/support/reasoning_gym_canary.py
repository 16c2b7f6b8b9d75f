"""Tells which tasks of Reasoning Gym execute words of an answer or of an entry as code: before the guard, and under it.

Python itself is asked: an audit hook sees all code that is executed.
"""

from __future__ import annotations

import contextlib
import copy
import io
import json
import sys
from collections.abc import Iterator
from typing import Any

from reasoning_gym.factory import DATASETS, create_dataset, get_score_answer_fn

from reward_server.scorers.reasoning_gym_guard import guard

CANARY = "zqx"
ANSWERS = (CANARY, f"[{CANARY}]", f"{CANARY}(1)", f"({CANARY})", f"1 + {CANARY}", f"'{CANARY}' + '1'", f"2.{CANARY}")

hits: set[str] = set()
looking_at = ""


def hook(event: str, args: tuple[Any, ...]) -> None:
    if event == "exec" and looking_at:
        code = args[0]
        if CANARY in code.co_names or any(CANARY in str(constant) for constant in code.co_consts):
            hits.add(looking_at)


def texts_in(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yields the places of the texts in an entry; of lists the first elements."""
    inner = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for key, one in inner:
        yield from texts_in(one, (*path, key))
    if isinstance(value, str):
        yield path


def poisoned(entry: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yields the entry with the canary in place of one of its texts."""
    for path in texts_in(entry):
        changed = copy.deepcopy(entry)
        place = changed
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = f"({CANARY})"
        yield changed


def provoke(task: str, entry: dict[str, Any]) -> None:
    """Scores what holds the canary; whatever comes of it."""
    global looking_at  # noqa: PLW0603  # the hook takes no arguments
    score = get_score_answer_fn(task)
    attempts = [(answer, entry) for answer in ANSWERS]
    attempts += [(answer, each) for each in poisoned(entry) for answer in (entry["answer"], "1", each["answer"])]
    looking_at = task
    for answer, each in attempts:
        with contextlib.suppress(Exception), contextlib.redirect_stdout(io.StringIO()):
            score(answer, copy.deepcopy(each))
    looking_at = ""


def main() -> None:
    """Prints the tasks, before and after, as JSON."""
    tasks = [name for name in DATASETS if name not in {"composite", "arc_agi", "rearc", "knight_swap"}]
    entries = {task: json.loads(json.dumps(create_dataset(task, size=1, seed=7)[0], default=str)) for task in tasks}
    sys.addaudithook(hook)
    found = []
    for _ in range(2):
        hits.clear()
        for task, entry in entries.items():
            provoke(task, entry)
        found.append(sorted(hits))
        guard()
    print(json.dumps({"before": found[0], "after": found[1], "tasks": len(tasks)}))  # noqa: T201


if __name__ == "__main__":
    main()
