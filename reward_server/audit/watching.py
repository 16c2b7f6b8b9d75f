"""Engines that keep what was asked and answered, for people who want to see it. Nothing else about them changes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from reward_server.engines.base import Answer, Place, Question, Work
from reward_server.errors import EngineError


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and what came of it."""

    engine: str
    host: str
    attempt: int  # 0, 1, …
    question: Question
    answer: Answer | None  # None: see `error`
    error: str
    queue_ms: float  # its work's wait for a place
    total_ms: float  # from asking to the answer


class WatchedEngines(Mapping[str, type[Any]]):
    """The classes of engines by kind, each keeping its exchanges in `exchanges`.

    Args:
        kinds: the classes as they are.
    """

    def __init__(self, kinds: Mapping[str, type[Any]]) -> None:
        self.exchanges: list[Exchange] = []
        self._kinds = kinds

    def __getitem__(self, kind: str) -> type[Any]:
        return _watched(self._kinds[kind], self.exchanges)

    def __iter__(self) -> Iterator[str]:
        return iter(self._kinds)

    def __len__(self) -> int:
        return len(self._kinds)


class _NotingPlace:
    def __init__(self, place: Place, engine: str, exchanges: list[Exchange]) -> None:
        self.host, self.attempt, self.queue_ms = place.host, place.attempt, place.queue_ms
        self._place = place
        self._engine = engine
        self._exchanges = exchanges

    async def ask(self, question: Question) -> Answer:
        began = time.monotonic()
        try:
            answer = await self._place.ask(question)
        except EngineError as error:
            self._note(question, None, str(error), began)
            raise
        self._note(question, answer, "", began)
        return answer

    def _note(self, question: Question, answer: Answer | None, error: str, began: float) -> None:
        total_ms = (time.monotonic() - began) * 1000
        place = (self._engine, self.host, self.attempt)
        self._exchanges.append(Exchange(*place, question, answer, error, self.queue_ms, total_ms))


def _watched(kind: type[Any], exchanges: list[Exchange]) -> type[Any]:
    class Watched(kind):  # type: ignore[misc]  # which class it is shows only in the configuration
        def __init__(self, name: str, *others: Any) -> None:
            super().__init__(name, *others)
            self._watched_as = name

        async def run(self, work: Work[Any], **how: Any) -> Any:
            async def noted(place: Place) -> Any:
                return await work(_NotingPlace(place, self._watched_as, exchanges))

            return await super().run(noted, **how)

    return Watched
