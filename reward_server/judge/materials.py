"""From a sample to what a judge reads: texts, whatever the trainer had, or the verdict where there is nothing to read."""

from __future__ import annotations

import json
import re
from typing import Any, Final, Literal

from reward_server.domain import Blame, Message, Needs, Sample, Text, Verdict, abstained
from reward_server.judge.chat_text import conversation_of
from reward_server.judge.material import Material
from reward_server.judge.rubric import Rubric
from reward_server.views import content_text, last_text, still_thinking

CLIPPED_FLAG: Final = "clipped"
THINKING_FLAG: Final = "still_thinking"

Policy = Literal["tell", "abstain", "floor"]
"""What becomes of a completion that is not whole: the judge is told, the verdict stays missing, or is the floor."""

MARK: Final = re.compile(r"^\[message ", re.MULTILINE)


class Materials:
    """Makes materials of samples.

    Args:
        rubric: names the columns that the judge is shown.
        reference_column: the column with the reference; None = the judge is shown none.
        clipped: what becomes of completions that were cut off at their length limit.
        thinking: what becomes of completions that end while they are still thinking.
    """

    def __init__(self, rubric: Rubric, reference_column: str | None, clipped: Policy, thinking: Policy) -> None:
        self._titles = rubric.columns
        self._reference_column = reference_column
        self._clipped = clipped
        self._thinking = thinking

    @property
    def needs(self) -> Needs:
        """Returns what of a sample is read."""
        reference = [self._reference_column] if self._reference_column is not None else []
        return Needs(required_columns=frozenset([*reference, *self._titles]), prompts=True)

    def of(self, sample: Sample) -> Material | Verdict:
        """Returns the sample's material, or the verdict on a sample that is not to be asked about."""
        thinks = sample.still_thinking or still_thinking(_last(sample.completion))
        if thinks and self._thinking != "tell":
            return _unasked("the completion ends while it is still thinking", self._thinking, THINKING_FLAG)
        if sample.truncated and self._clipped != "tell":
            return _unasked("the completion was cut off at its length limit", self._clipped, CLIPPED_FLAG)
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


def flags_of(material: Material) -> tuple[str, ...]:
    """Returns the flags for what a completion lacks."""
    said = {CLIPPED_FLAG: material.clipped, THINKING_FLAG: material.still_thinking}
    return tuple(flag for flag, holds in said.items() if holds)


def is_empty(value: Any) -> bool:
    """Returns whether a column's value says nothing; 0 and false say something."""
    return value is None or (
        isinstance(value, str | list | dict) and not (value.strip() if isinstance(value, str) else value)
    )


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
        return text
    if len(text) == 1 and not text[0].get("tool_calls"):
        return content_text(text[0].get("content"))
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
    text = MARK.sub("[ message ", "\n".join(filter(None, said)))
    return f"[message {number} of {count}, {_role(message)}]\n{text}"


def _role(message: Message) -> str:
    role, name = str(message.get("role", "unknown")), message.get("name")
    return " ".join(f"{role} {name}".split()) if name else role


def _last(completion: Text) -> str:
    return completion if isinstance(completion, str) else last_text(completion, "assistant")


def _unasked(reason: str, policy: Policy, flag: str) -> Verdict:
    blame = Blame.COMPLETION if policy == "floor" else Blame.UNKNOWN
    return abstained(f"{reason}, and this judge does not judge such ones", blame=blame, flags=(flag,))
