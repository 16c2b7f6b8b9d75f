"""Small groups of completions, and the methods that compare them asked without a judge around them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from scripted_engine import Script, ScriptedEngine

from reward_server.engines.base import Question
from reward_server.errors import EngineError
from reward_server.judge.guard import Fence
from reward_server.judge.material import Material
from reward_server.judge.methods.base import Method, Miss, Opinion
from reward_server.judge.methods.settings import MethodSettings
from reward_server.judge.rubric import Criterion, Rubric
from reward_server.judge.secret import JudgeSecret
from reward_server.judge.showing import Showing

RUBRIC = Rubric(instructions="Prefer the kinder one.", criteria=(Criterion(name="kind", text="It is kind."),))
BLOCK = re.compile(
    r"BEGIN COMPLETION (?P<title>\S+) (?P<code>\S+)\n(?P<text>.*?)\nEND COMPLETION (?P=title) (?P=code)", re.DOTALL
)


def method_of(kind: type[Method], *, secret: bytes = b"s" * 32, rubric: Rubric = RUBRIC, **settings: Any) -> Method:
    """Returns a method as a judge makes it."""
    return kind(rubric, Showing(Fence(JudgeSecret.of(secret))), MethodSettings(**settings))


def group_of(*completions: str) -> list[Material]:
    """Returns completions of one task."""
    return [Material(completion, task="Say something nice.") for completion in completions]


def blocks(question: Question) -> dict[str, str]:
    """Returns the completions that a question shows, by what stands behind the word COMPLETION, in their order."""
    return {found["title"]: found["text"] for found in BLOCK.finditer(question.messages[-1].content)}


async def opinions_of(
    method: Method, group: Sequence[Material], script: Script, attempts: int = 2
) -> tuple[list[Opinion | Miss], ScriptedEngine]:
    """Returns what a method thinks of a group whose questions the script answers, and the engine that was asked."""
    engine = ScriptedEngine(script)
    readings: list[Any] = []
    for unit in method.units(group):
        try:
            readings.append(
                await engine.run(
                    unit.read, affinity=unit.affinity, deadline=lambda: math.inf, patience_s=1.0, attempts=attempts
                )
            )
        except EngineError as error:
            readings.append(Miss(error))
    return list(method.opinions(group, readings)), engine
