"""What a host does before it is called ready: it answers a question, and reads what many prompts begin with."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from reward_server.engines.base import MAX_ALTERNATIVES, Answer, ChatMessage, Question
from reward_server.engines.model_host import ModelHost
from reward_server.errors import AnswerTimedOut, BadAnswer, PromptTooLong

COLD_ANSWER_TIMEOUT_S: Final = 300.0
"""The first answer of a host takes as long as it takes to load a model."""

PROOF: Final = (ChatMessage("user", "Is the sky blue? Answer yes or no."),)
AFTER_BEGINNING: Final = ChatMessage("user", "Ready?")

log = structlog.get_logger(__name__)


async def prove(host: ModelHost, timeout_s: float) -> bool | None:
    """Has a host generate one token. Raises an `EngineError` if it doesn't.

    Returns:
        Whether it told log-probabilities; None where its answer shows nothing: a thinking model may say nothing yet.
    """
    try:
        return bool((await _ask(host, PROOF, timeout_s, MAX_ALTERNATIVES)).positions)
    except BadAnswer as error:
        log.info("host's first answer is of no use", host=host.label, reason=str(error))
        return None


async def warm(host: ModelHost, beginnings: Sequence[Sequence[ChatMessage]], slot_count: int) -> None:
    """Has each slot of a host read each beginning. Raises an `EngineError` if the host fails."""
    for beginning in beginnings:
        outcomes = await asyncio.gather(*(_read(host, beginning) for _ in range(slot_count)), return_exceptions=True)
        for error in outcomes:
            if error is not None:
                raise error


async def _read(host: ModelHost, beginning: Sequence[ChatMessage]) -> None:
    try:
        await _ask(host, (*beginning, AFTER_BEGINNING), COLD_ANSWER_TIMEOUT_S)
    except (BadAnswer, PromptTooLong) as error:  # what is wrong with a prompt is told to those who ask
        log.info("host was not warmed", host=host.label, reason=str(error))


async def _ask(host: ModelHost, messages: Sequence[ChatMessage], timeout_s: float, alternatives: int = 0) -> Answer:
    question = Question(messages, max_tokens=1, answer_timeout_s=timeout_s, alternatives=alternatives)
    try:
        async with asyncio.timeout(timeout_s):
            return await host.send(question, timeout_s)
    except TimeoutError as error:
        raise AnswerTimedOut(f"{host.label}: no answer to a first question within {timeout_s:.3g} s") from error
