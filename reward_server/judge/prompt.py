"""Makes the messages that a judge's model gets: what never changes first, then the task, the completion last.

The order is for speed: a model's host keeps what it has read, so the rubric is read once, and the task once a group.
The texts stand in `prompts/*.jinja` beside this file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from reward_server.engines.base import ChatMessage
from reward_server.judge import guard
from reward_server.judge.verdicts import ScoreRange, reason_chars

FOLDER: Final = Path(__file__).with_name("prompts")
FILES: Final = ("system.jinja", "user.jinja")
CHARS_A_WORD: Final = 7


@dataclass(frozen=True, slots=True)
class Material:
    """What is graded, as text."""

    completion: str
    task: str | None = None  # the prompt; None where the judge gets none
    reference: str | None = None
    clipped: bool = False  # the completion was cut off at its length limit


class JudgePrompt:
    """The prompt of one judge: everything but the material is settled once.

    Args:
        rubric: the judge's rubric.
        scores: the range of its scores.
        max_answer_tokens: what the answer may be long.
        with_reference: whether the material has a reference.
    """

    def __init__(self, rubric: str, scores: ScoreRange, max_answer_tokens: int, *, with_reference: bool) -> None:
        system = _template("system.jinja").render(
            rubric=guard.neutralise(rubric.strip()),
            with_reference=with_reference,
            reason_words=max(1, reason_chars(max_answer_tokens) // CHARS_A_WORD),
            number="a whole number" if scores.whole else "a number",
            low=scores.low,
            high=scores.high,
        )
        self._system = ChatMessage("system", system)
        # The key of the codes around the material. It comes from the configuration, so that replicas agree without
        # sharing a file; the policy, which sees nothing but its scores, knows no more of it than of a random one.
        self._key = hashlib.sha256(b"fence\0" + system.encode()).digest()

    def messages(self, material: Material) -> Sequence[ChatMessage]:
        """Returns the messages. Whatever the material contains, it stays inside its BEGIN and END lines."""
        shown = {}
        for name in ("task", "reference", "completion"):
            text = getattr(material, name)
            shown[name] = None if text is None else guard.neutralise(text)
            shown[f"{name}_code"] = None if text is None else guard.code_for(text, self._key)
        user = _template("user.jinja").render(shown, clipped=material.clipped)
        return (self._system, ChatMessage("user", user))


@cache
def revision() -> str:
    """Returns a hash of the templates, of what the guard does and of its tokens: all that shapes a prompt but the rubric."""
    parts = [(FOLDER / name).read_bytes() for name in FILES]
    parts += [guard.TOKENS_FILE.read_bytes(), str(guard.REVISION).encode()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


@cache
def _template(name: str) -> jinja2.Template:
    """Returns a template. A variable that it does not get is an error; what it gets is shown as it is."""
    environment = ImmutableSandboxedEnvironment(
        loader=jinja2.FileSystemLoader(FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # the reader is a model, not a browser
    )
    return environment.get_template(name)
