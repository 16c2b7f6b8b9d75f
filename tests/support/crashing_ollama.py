"""A fake Ollama whose model's process some prompts kill, and with it all that it is working on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from fake_host import Response
from fake_ollama import FakeOllama, Fault, Messages
from scripted_judges import completions_in

DYING_S: Final = 0.05
"""So long it works on what kills it: others come in meanwhile."""


class CrashingOllama(FakeOllama):
    """Answers 500 to everything in flight, as Ollama does when its runner dies.

    Args:
        kills: whether a completion does that to it.
        options: see `FakeOllama`.
    """

    def __init__(self, kills: Callable[[str], bool], **options: Any) -> None:
        super().__init__(**options)
        self._kills = kills
        self._death = asyncio.Event()

    async def _come_what_may(self, question: dict[str, Any], fault: Fault | None) -> Response:
        death = self._death
        answering = asyncio.create_task(self._answering(question["messages"], super()._come_what_may(question, fault)))
        dying = asyncio.create_task(death.wait())
        try:
            await asyncio.wait((answering, dying), return_when=asyncio.FIRST_COMPLETED)
            if answering.done():
                return await answering
            return await super()._come_what_may(question, Fault.CRASHED)
        finally:
            answering.cancel()
            dying.cancel()
            await asyncio.gather(answering, dying, return_exceptions=True)

    async def _answering(self, messages: Messages, answer: Any) -> Response:
        if any(self._kills(text) for text in completions_in(messages).values()):
            answer.close()
            await asyncio.sleep(DYING_S)
            self._death.set()
            self._death = asyncio.Event()
            await asyncio.sleep(DYING_S)
        return await answer
