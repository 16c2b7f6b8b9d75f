"""The method `pairwise`: which of two completions is better, asked in both orders; a grade is a rate of wins.

Each order of a pair is a unit of its own. So a completion over which the judge breaks costs the others one opponent
each, and not their grades. Pairs with the same first completion follow one another: it is read once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from reward_server.engines.base import MAX_ALTERNATIVES, ChatMessage, Place
from reward_server.errors import NotComparable
from reward_server.judge.labels import first_position, read_labels
from reward_server.judge.material import Material
from reward_server.judge.methods.base import Miss, Opinion, Reading, Unit
from reward_server.judge.methods.comparing import (
    ORDER_DEPENDENT,
    TIE,
    Comparing,
    Contender,
    nothing_to_compare,
    telling,
)
from reward_server.judge.methods.settings import affinity_of, unit_key
from reward_server.judge.prompt import render

LETTERS: Final[Mapping[str, Sequence[str]]] = {"A": ("A",), "B": ("B",)}
MAX_QUESTIONS: Final = 10_000
"""About one group: all pairs of a hundred completions. To make many more takes seconds and hundreds of MB by itself."""

PAIRS_MISSING: Final = "pairs_missing"
"""The flag of a completion that was graded without some of its opponents."""

Pair = tuple[int, int]
"""Two contenders by their numbers."""


class Pairwise(Comparing):
    """Asks for one letter a pair and order. A pair whose orders contradict each other is a tie."""

    name: ClassVar[str] = "pairwise"
    needs_logprobs: ClassVar[bool] = True

    @property
    def max_answer_tokens(self) -> int:
        """Returns the one token of a letter."""
        return 1

    @property
    def ending(self) -> str:
        """Returns the question."""
        return render("pairwise_question.jinja")

    def units(self, group: Sequence[Material]) -> Sequence[Unit]:
        """Returns a unit for each ordered pair, those with the same first completion after one another."""
        contenders = self.contenders(group)
        asked = self._asked(contenders)
        if not asked:
            return []
        task = self.task(contenders)
        firsts = [task + self._showing.completion(each.material, "COMPLETION A") for each in contenders]
        affinities = [affinity_of(self._system.content, first) for first in firsts]
        seconds = [self._showing.completion(each.material, "COMPLETION B") + self.ending for each in contenders]
        return [self._unit(firsts[a] + seconds[b], affinities[a]) for a, b in asked]

    def opinions(self, group: Sequence[Material], readings: Sequence[Reading | Miss]) -> Sequence[Opinion | Miss]:
        """Returns each completion's share of wins over its opponents in the group."""
        if len(group) == 1:
            return [nothing_to_compare()]
        contenders = self.contenders(group)
        if _question_count(len(contenders), self._settings.opponents) > MAX_QUESTIONS:
            return [_too_many(len(contenders))] * len(group)
        said = dict(zip(self._asked(contenders), readings, strict=True))
        found: list[Opinion | Miss] = [nothing_to_compare()] * len(group)
        for number, contender in enumerate(contenders):
            opinion = _opinion(number, contenders, said)
            for member in contender.members:
                found[member] = opinion
        return found

    def _asked(self, contenders: Sequence[Contender]) -> list[Pair]:
        """Returns the ordered pairs that are asked about, in the order of asking; none where they are too many."""
        if _question_count(len(contenders), self._settings.opponents) > MAX_QUESTIONS:
            return []
        pairs = set(pairs_of(len(contenders), self._settings.opponents))
        return sorted(pairs | {(b, a) for a, b in pairs})

    def _unit(self, text: str, affinity: str) -> Unit:
        prompt = (self._system, ChatMessage("user", text))

        async def read(place: Place) -> float:
            question = self._settings.question(
                prompt, place.attempt, max_tokens=1, alternatives=MAX_ALTERNATIVES, labels=LETTERS
            )
            answer = await place.ask(question)
            return read_labels(first_position(answer), LETTERS, self._settings.min_label_mass).probabilities["A"]

        key = unit_key([self._settings.question(prompt, max_tokens=1, alternatives=MAX_ALTERNATIVES)])
        return Unit(key, affinity, read, [prompt])


def _question_count(count: int, opponents: int | None) -> int:
    """Returns about how many ordered pairs there are among `count` contenders."""
    return count * (count - 1 if opponents is None else min(opponents, count - 1))


def _too_many(count: int) -> Miss:
    return Miss(
        NotComparable(
            f"all pairs of {count} completions, in both orders, are {count * (count - 1):,} questions, more than "
            f"{MAX_QUESTIONS:,}: set `opponents`, to 8 for example"
        )
    )


def pairs_of(count: int, opponents: int | None) -> Iterator[Pair]:
    """Yields the pairs among `count` contenders, the smaller number first.

    Args:
        count: of contenders.
        opponents: how many each has, or one more where that does not come out even; None = all others.
    """
    if opponents is None or opponents >= count - 1:
        yield from ((a, b) for a in range(count) for b in range(a + 1, count))
        return
    steps = list(range(1, opponents // 2 + 1))  # along a ring, to both sides
    steps += [count // 2] if opponents % 2 else []  # and across it
    for step in steps:
        for a in range(count):
            b = (a + step) % count
            yield min(a, b), max(a, b)


def _opinion(number: int, contenders: Sequence[Contender], said: Mapping[Pair, float | Miss]) -> Opinion | Miss:
    """Returns the mean of a contender's results, each opponent as often as it is in the group."""
    opponents = [b for a, b in said if a == number]
    results = {b: _result(said[number, b], said[b, number]) for b in opponents}
    misses = [result for result in results.values() if isinstance(result, Miss)]
    there = {b: result for b, result in results.items() if not isinstance(result, Miss)}
    if 2 * len(there) < len(opponents):
        return telling(misses)
    twins = len(contenders[number].members) - 1
    weights = {b: len(contenders[b].members) for b in there}
    won = twins * TIE + sum(weights[b] * (TIE if result is None else result) for b, result in there.items())
    contradictions = sum(result is None for result in there.values())
    flags = [ORDER_DEPENDENT] if 2 * contradictions > len(there) else []
    flags += [PAIRS_MISSING] if misses else []
    return Opinion(won / (twins + sum(weights.values())), flags=tuple(flags))


def _result(forth: float | Miss, back: float | Miss) -> float | Miss | None:
    """Returns how sure the judge is that the first one is better, 0 to 1; None where its two orders contradict.

    Args:
        forth: the probability of the one shown first, where that is the first one.
        back: the same where it is the other one.
    """
    if isinstance(forth, Miss) or isinstance(back, Miss):
        return telling([each for each in (forth, back) if isinstance(each, Miss)])
    if (forth - TIE) * (back - TIE) > 0.0:
        return None
    return (forth + 1.0 - back) / 2.0
