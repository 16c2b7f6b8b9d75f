"""What a round of a judge's canaries says about the judge. See `reward_server.judge.canaries`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from reward_server.http.complaints import excerpt
from reward_server.judge.rubric import Canary

MARGIN: Final = 0.2
"""A grade that moved further than this since the first round is an alarm; answers wobble by some percent anyway."""

SHOWN: Final = 3
"""An alarm names so many canaries; its number says how many there are."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that the canaries found. Two are equal that are about the same canaries, whatever the figures."""

    kind: str  # "missing", "order" or "drift"
    canaries: frozenset[int]
    words: str = field(compare=False)


@dataclass(frozen=True, slots=True)
class Round:
    """What the canaries got."""

    grades: Mapping[int, float]  # by canary, 0 to 1; those without a score are not in it
    reasons: Mapping[int, str]  # why the others have none


def alarms(
    canaries: Sequence[Canary], result: Round, first: Mapping[int, float], *, compares: bool = False
) -> list[Alarm]:
    """Returns what a round gives reason to worry about, one alarm a kind at most.

    Args:
        canaries: what is known of them.
        result: the round.
        first: the grades of the first round.
        compares: only grades of the same prompt can be compared.
    """
    wrong = [
        (good, bad)
        for good in result.grades
        for bad in result.grades
        if canaries[good].good
        and not canaries[bad].good
        and result.grades[good] <= result.grades[bad]
        and (not compares or canaries[good].prompt == canaries[bad].prompt)
    ]
    moved = [index for index, grade in result.grades.items() if abs(grade - first.get(index, grade)) > MARGIN]
    found = []
    if result.reasons:
        words = _some([f"{_name(canaries, index)} ({excerpt(why)})" for index, why in result.reasons.items()])
        found.append(Alarm("missing", frozenset(result.reasons), f"{len(result.reasons)} without a score: {words}"))
    if wrong:
        pairs = [
            f"{_name(canaries, good)} got {result.grades[good]:.2f}, {_name(canaries, bad)} {result.grades[bad]:.2f}"
            for good, bad in wrong
        ]
        about = frozenset(index for pair in wrong for index in pair)
        found.append(Alarm("order", about, f"{len(wrong)} times a good one is not above a bad one: {_some(pairs)}"))
    if moved:
        moves = [f"{_name(canaries, index)} from {first[index]:.2f} to {result.grades[index]:.2f}" for index in moved]
        found.append(Alarm("drift", frozenset(moved), f"{len(moved)} moved since the first round: {_some(moves)}"))
    return found


def _name(canaries: Sequence[Canary], index: int) -> str:
    return f"number {index + 1} ({'good' if canaries[index].good else 'bad'})"


def _some(words: Sequence[str]) -> str:
    more = f", and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more
