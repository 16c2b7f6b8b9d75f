"""A configuration file as data, with the place of each value and all that has been found wrong."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

MAX_PROBLEMS: Final = 50
"""So many problems of a file are listed one by one."""

Place = tuple[str | int, ...]
"""Where a value stands: the keys and list positions that lead to it from the top."""


class ConfigFileError(Exception):
    """A configuration file is wrong. `problems` holds one line per mistake, each naming file, line and key."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value stands in the file, and how it is written there."""

    line: int  # from 1; of the key, or of a list's item
    text: str | None  # a scalar as written, quotes removed; None for mappings and lists


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file."""

    file: str
    line: int | None
    place: Place
    words: str  # what is wrong, and what would be right

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {dotted(self.place)}: {self.words}" if self.place else f"{where}: {self.words}"


@dataclass(slots=True)
class Document:
    """A file's data, where each value of it stands, and what has been found wrong with it."""

    file: str  # as the person named it
    value: Any = None
    marks: dict[Place, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def complain(self, place: Place, words: str) -> None:
        """Notes what is wrong at `place`; where the file lacks it, the line is that of what would hold it."""
        nearest: Place = ()
        for step in place:
            if (*nearest, step) in self.marks:
                nearest = (*nearest, step)
        self.problems.append(Problem(self.file, self.marks[nearest].line if nearest else None, place, words))

    def problem_lines(self) -> list[str]:
        """Returns the problems as people read them, one a line, in the file's order, and not without end."""
        ordered = sorted(self.problems, key=lambda problem: problem.line or 0)
        lines = list(dict.fromkeys(map(str, ordered)))  # the members of a union say the same thing several times
        more = len(lines) - MAX_PROBLEMS
        return [*lines[:MAX_PROBLEMS], *([f"{self.file}: ... and {more} more"] if more > 0 else [])]

    def find(self, place: Place, text: str) -> Place:
        """Returns the first key or scalar below `place` that reads `text`, else `place`."""
        below = (p for p in self.marks if len(p) > len(place) and p[: len(place)] == place)
        return next((p for p in below if p[-1] == text or self.marks[p].text == text), place)


def dotted(place: Place) -> str:
    """Returns a place in one word: `rewards.steps.length.steps[0].below`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")
