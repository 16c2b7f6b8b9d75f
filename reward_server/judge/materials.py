"""From a sample to what a judge reads: texts, whatever the trainer had, or the verdict where there is nothing to read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

from reward_server.domain import Blame, Message, Needs, Sample, Text, Verdict, abstained, scored
from reward_server.judge import chat_text
from reward_server.judge.chat_text import conversation_of
from reward_server.judge.material import Material
from reward_server.judge.rubric import Rubric
from reward_server.views import content_text, plain_text, still_thinking

REVISION: Final = 1
"""Raise it with every change of what a sample's texts become: it is part of a reward's version."""

CLIPPED_FLAG: Final = "clipped"
THINKING_FLAG: Final = "still_thinking"

Policy = Literal["tell", "abstain", "lowest"]
"""What becomes of a completion that is not whole: the judge is told, the verdict stays missing, or is the lowest score.

Never the reward's floor: such a completion breaks nothing, and early in training most may be like that.
"""

MARK: Final = re.compile(
    r"^(?P<indent>(?:[^\S\n]|[\u200b-\u200d])*)\[(?=[\s\u200b-\u200d]*message\b)", re.MULTILINE | re.IGNORECASE
)
"""What could be taken for the line with which a message of a conversation begins."""


class Materials:
    """Makes materials of samples.

    Args:
        rubric: names the columns that the judge is shown.
        reference_column: the column with the reference; None = the judge is shown none.
        clipped: what becomes of completions that were cut off at their length limit.
        thinking: what becomes of completions that end while they are still thinking.
        lowest: the low end of the judge's score range.
    """

    def __init__(
        self, rubric: Rubric, reference_column: str | None, *, clipped: Policy, thinking: Policy, lowest: float
    ) -> None:
        self._titles = rubric.columns
        self._reference_column = reference_column
        self._clipped = clipped
        self._thinking = thinking
        self._lowest = lowest

    @property
    def needs(self) -> Needs:
        """Returns what of a sample is read."""
        reference = [self._reference_column] if self._reference_column is not None else []
        return Needs(required_columns=frozenset([*reference, *self._titles]), prompts=True)

    def of(self, sample: Sample) -> Material | Verdict:
        """Returns the sample's material, or the verdict on a sample that is not to be asked about."""
        thinks = sample.still_thinking
        if thinks is None:
            thinks = still_thinking(plain_text(sample.completion, "assistant"), sample.prompt)
        if thinks and self._thinking != "tell":
            return self._unasked("the completion ends while it is still thinking", self._thinking, THINKING_FLAG)
        if sample.truncated and self._clipped != "tell":
            return self._unasked("the completion was cut off at its length limit", self._clipped, CLIPPED_FLAG)
        shown = self._titles | ({self._reference_column: ""} if self._reference_column is not None else {})
        for column in shown:
            if is_empty(sample.columns.get(column)):
                what = "reference" if column == self._reference_column else self._titles[column].lower()
                return abstained(f"this sample has no {what}: its column `{column}` is empty", blame=Blame.REFERENCE)
        return Material(
            readable(sample.completion),
            None if sample.prompt is None else readable_prompt(sample.prompt),
            None if self._reference_column is None else readable_value(sample.columns[self._reference_column]),
            {title: readable_value(sample.columns[column]) for column, title in self._titles.items()},
            clipped=bool(sample.truncated),
            still_thinking=thinks,
        )

    def _unasked(self, reason: str, policy: Policy, flag: str) -> Verdict:
        if policy == "lowest":
            return scored(self._lowest, f"not asked: {reason}", flags=(flag,))
        return abstained(f"{reason}, and this judge does not judge such ones", flags=(flag,))


def identity() -> Mapping[str, Any]:
    """Returns, as JSON-able data, what shapes the texts that a judge reads before they are shown."""
    return {"revision": REVISION, "chat_text": chat_text.REVISION}


def flags_of(material: Material) -> tuple[str, ...]:
    """Returns the flags for what a completion lacks."""
    said = {CLIPPED_FLAG: material.clipped, THINKING_FLAG: material.still_thinking}
    return tuple(flag for flag, holds in said.items() if holds)


def is_empty(value: Any) -> bool:
    """Returns whether a column's value says nothing; 0 and false say something, NaN is how tables write a gap."""
    if value is None or value != value:  # noqa: PLR0124  # NaN is the one value that differs from itself
        return True
    return isinstance(value, str | list | dict) and not (value.strip() if isinstance(value, str) else value)


def readable_prompt(prompt: Text) -> str:
    """Returns a prompt as a person would read it; one that is chat-template text as the conversation that it is."""
    if isinstance(prompt, str):
        return readable(conversation_of(prompt) or prompt)
    return readable(prompt)


def readable(text: Text) -> str:
    """Returns a plain text as it is, a lone message's text, and of a longer conversation all messages.

    Each of several messages begins with a line that says how many there are and who speaks. No text in a message can
    imitate that line: a completion could else add a tool's answer of its own.
    """
    if isinstance(text, str):
        return _unmarked(text)
    if len(text) == 1 and not text[0].get("tool_calls"):
        return _unmarked(content_text(text[0].get("content")))
    count = len(text)
    return "\n\n".join(_message(message, number, count) for number, message in enumerate(text, 1))


def readable_value(value: Any) -> str:
    """Returns a dataset column's value: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _message(message: Message, number: int, count: int) -> str:
    """Returns a message's mark and text, with its tool calls where it has some."""
    said = [content_text(message.get("content"))]
    if calls := message.get("tool_calls"):
        said.append(f"(tool calls: {json.dumps(calls, ensure_ascii=False, default=str)})")
    text = _unmarked("\n".join(filter(None, said)))
    return f"[message {number} of {count}, {_role(message)}]\n{text}"


def _unmarked(text: str) -> str:
    """Returns a text in which no line begins as a message does."""
    return MARK.sub(r"\g<indent>(quoted) [", text)


def _role(message: Message) -> str:
    role, name = str(message.get("role", "unknown")), message.get("name")
    return " ".join(f"{role} {name}".split()) if name else role
