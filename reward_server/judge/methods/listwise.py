"""The method `listwise`: the whole group in one prompt, ranked by the judge; asked in two opposite orders.

The completions go by ids made from their content. An answer must name each of them once: it is read by ids, never by
places. It needs no log-probabilities, and two calls a group; its prompts hold the whole group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from reward_server.engines.base import ChatMessage, Place
from reward_server.errors import BadAnswer, NotComparable
from reward_server.http.complaints import excerpt
from reward_server.judge.guard import neutralise
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
from reward_server.judge.verdicts import CHARS_A_TOKEN, FRAME_TOKENS, json_of

MIN_ID_CHARS: Final = 4
PUNCTUATION_TOKENS: Final = 3
"""Tokens of one id in an answer besides its characters: quotes and a comma. An id is no word: a token a character."""
MIN_REASON_CHARS: Final = 60
MAX_REASON_CHARS: Final = 400


@dataclass(frozen=True, slots=True)
class Ranking:
    """What the judge said of a group."""

    ids: tuple[str, ...]  # best first, each once
    reason: str = ""


class Listwise(Comparing):
    """Asks for a ranking of the group, and again with the completions in reverse; a grade is the mean of both ranks."""

    name: ClassVar[str] = "listwise"

    @property
    def max_answer_tokens(self) -> int:
        """Returns the configured length."""
        return self._settings.max_answer_tokens

    @property
    def ending(self) -> str:
        """Returns the question about two completions, as an example of all."""
        return _question(("1", "2"), with_reason=True)

    def units(self, group: Sequence[Material]) -> Sequence[Unit]:
        """Returns one unit for each order; none where there is nothing to compare or no room for the answer."""
        contenders = self.contenders(group)
        ids = short_ids(contenders)
        if len(contenders) < 2 or self._reason_chars(ids) < 0:  # noqa: PLR2004  # it takes two to be compared
            return []
        shown = [
            self._showing.completion(contender.material, f"COMPLETION {name}")
            for name, contender in zip(ids, contenders, strict=True)
        ]
        task = self.task(contenders)
        return [self._unit(task, shown, ids), self._unit(task, shown[::-1], ids[::-1])]

    def opinions(self, group: Sequence[Material], readings: Sequence[Reading | Miss]) -> Sequence[Opinion | Miss]:
        """Returns each completion's mean rank, 1 for the first and 0 for the last; equal completions share one."""
        contenders = self.contenders(group)
        ids = short_ids(contenders)
        said: Sequence[Opinion | Miss]
        if len(group) == 1:
            said = [nothing_to_compare()]
        elif len(contenders) == 1:
            said = [Opinion(TIE)]
        elif not readings:
            said = [self._no_room(ids)] * len(ids)
        elif missing := [reading for reading in readings if isinstance(reading, Miss)]:
            said = [telling(missing)] * len(ids)  # one order alone would let the judge's taste for places through
        else:
            said = _merged(ids, [reading for reading in readings if not isinstance(reading, Miss)])
        opinion_of = {member: each for each, by in zip(said, contenders, strict=True) for member in by.members}
        return [opinion_of[member] for member in range(len(group))]

    def _unit(self, task: str, shown: Sequence[str], ids: Sequence[str]) -> Unit:
        reason_chars = self._reason_chars(ids)
        ending = _question(ids, with_reason=reason_chars > 0)
        prompt = (self._system, ChatMessage("user", task + "".join(shown) + ending))
        schema = _schema(ids, reason_chars)

        async def read(place: Place) -> Ranking:
            answer = await place.ask(self._settings.question(prompt, place.attempt, schema=schema))
            if answer.finish == "length":
                cut = excerpt(answer.text)
                raise BadAnswer(f"the answer was cut off at {answer.decoded_token_count} tokens: {cut!r}")
            return read_ranking(answer.text, ids)

        key = unit_key([self._settings.question(prompt, schema=schema)])
        return Unit(key, affinity_of(self._system.content, task), read, [prompt])

    def _reason_chars(self, ids: Sequence[str]) -> int:
        """Returns how long a reason may be, in characters; 0 where there is none, negative where not even the ids fit."""
        room = (self._settings.max_answer_tokens - _ranking_tokens(ids)) * CHARS_A_TOKEN
        return min(room, MAX_REASON_CHARS) if room < 0 or room >= MIN_REASON_CHARS else 0

    def _no_room(self, ids: Sequence[str]) -> Miss:
        return Miss(
            NotComparable(
                f"a ranking of {len(ids)} completions may take {_ranking_tokens(ids)} tokens, and max_answer_tokens is "
                f"{self._settings.max_answer_tokens}: raise it, or compare in pairs (method: pairwise)"
            )
        )


def short_ids(contenders: Sequence[Contender]) -> list[str]:
    """Returns the beginnings of the fingerprints, all of one length, as short as they can be told apart."""
    length = MIN_ID_CHARS
    while len({contender.fingerprint[:length] for contender in contenders}) < len(contenders):
        length += 1
    return [contender.fingerprint[:length] for contender in contenders]


def read_ranking(text: str, ids: Sequence[str]) -> Ranking:
    """Returns the ranking that the text is; raises `BadAnswer` where it does not name each id exactly once."""
    said = json_of(text)
    ranking = said.get("ranking") if isinstance(said, dict) else None
    if not isinstance(ranking, list) or not all(isinstance(name, str) for name in ranking):
        raise BadAnswer(f"not an object with a ranking of ids: {excerpt(text)!r}")
    if sorted(ranking) != sorted(ids):
        raise BadAnswer(f"the ranking does not name each of {len(ids)} completions exactly once: {excerpt(text)!r}")
    reason = said.get("reason", "")
    if not isinstance(reason, str) or not said.keys() <= {"reason", "ranking"}:
        raise BadAnswer(f"not an object of reason and ranking: {excerpt(text)!r}")
    return Ranking(tuple(ranking), reason)


def _question(ids: Sequence[str], *, with_reason: bool) -> str:
    return render("listwise_question.jinja", ids=ids, with_reason=with_reason)


def _merged(ids: Sequence[str], rankings: Sequence[Ranking]) -> list[Opinion]:
    """Returns an opinion for each id: the mean of its two ranks, or a tie where the two have nothing in common."""
    first, second = (_ranks(ranking) for ranking in rankings)
    reason = neutralise(rankings[0].reason)
    if _correlation(first, second) <= 0.0:
        return [Opinion(TIE, reason, flags=(ORDER_DEPENDENT,)) for _ in ids]
    return [Opinion((first[name] + second[name]) / 2.0, reason) for name in ids]


def _ranks(ranking: Ranking) -> Mapping[str, float]:
    """Returns 1 for the first and 0 for the last, even steps between."""
    last = len(ranking.ids) - 1
    return {name: 1.0 - place / last for place, name in enumerate(ranking.ids)}


def _correlation(first: Mapping[str, float], second: Mapping[str, float]) -> float:
    """Returns what has the sign of the correlation of two rankings of the same ids, whose means are both 0.5."""
    return sum((first[name] - TIE) * (second[name] - TIE) for name in first)


def _ranking_tokens(ids: Sequence[str]) -> int:
    """Returns how many tokens an answer takes at most, besides its reason."""
    return FRAME_TOKENS + sum(len(name) + PUNCTUATION_TOKENS for name in ids)


def _schema(ids: Sequence[str], reason_chars: int) -> dict[str, Any]:
    """Returns the JSON schema of an answer. The reason comes first, so that the ranking follows from it.

    That no id comes twice is checked when it is read: grammars can't say it.
    """
    reason = {"reason": {"type": "string", "maxLength": reason_chars}} if reason_chars else {}
    items = {"type": "string", "enum": sorted(ids)}
    ranking = {"type": "array", "items": items, "minItems": len(ids), "maxItems": len(ids)}
    properties = {**reason, "ranking": ranking}
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
