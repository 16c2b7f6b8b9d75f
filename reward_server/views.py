"""What of a completion a reward sees.

A policy's completion may be a plain text or a conversation, and may open with a thinking block. A reward's view decides
what its scorer gets, so that a function written for strings works on conversations, and one written for answers is not
shown the thinking.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Any, Final

from reward_server.domain import Message, Sample, Text

THINKING_OPENS: Final = "<think>"
THINKING_ENDS: Final = "</think>"
THOUGHT_KEYS: Final = ("reasoning_content", "thinking")
"""Where a parser of chat templates puts a message's thoughts, apart from its content."""


class View(Enum):
    """What a scorer gets of a sample's texts."""

    FULL = "full"  # a text; of a conversation the text of the last assistant message
    ANSWER = "answer"  # the same, what follows the thinking block
    MESSAGES = "messages"  # the texts exactly as the trainer has them: lists of messages stay lists

    def show(self, sample: Sample, *, whole_prompt: bool = False) -> Sample:
        """Returns the sample as a scorer with this view sees it; the same object where nothing changes.

        Args:
            sample: as it was sent.
            whole_prompt: a conversational prompt is shown with all its messages.
        """
        if self is View.MESSAGES:
            return sample
        completion, prompt = sample.completion, sample.prompt
        text = plain_text(completion, "assistant")
        seen = sample.still_thinking is not None  # then the block that the prompt opened is gone already
        thinking = sample.still_thinking or still_thinking(text, None if seen else prompt)
        if self is View.ANSWER:
            text = "" if thinking else answer_of(text)
        if prompt is not None and not isinstance(prompt, str) and not whole_prompt:
            prompt = last_text(prompt, "user")
        if text is completion and prompt is sample.prompt and not thinking:
            return sample
        return sample.seen_as(text, prompt, still_thinking=thinking)

    def show_all(self, samples: Sequence[Sample], *, whole_prompts: bool = False) -> Sequence[Sample]:
        """Returns the samples as a scorer with this view sees them; see `show`."""
        if self is View.MESSAGES or (self is View.FULL and all(map(_is_plain, samples))):
            return samples
        return [self.show(sample, whole_prompt=whole_prompts) for sample in samples]


def _is_plain(sample: Sample) -> bool:
    completion = sample.completion
    return (
        type(completion) is str
        and (sample.prompt is None or type(sample.prompt) is str)
        and not still_thinking(completion, sample.prompt)
    )


def answer_of(text: str) -> str:
    """Returns what follows the thinking block, without the line breaks that part the two.

    The block ends at the *first* closing tag: what a policy writes behind it is read by people, so nothing there may
    be hidden from a reward by a second tag. A closing tag alone counts too, since many chat templates open the block
    in the prompt. A text that never ends the block was cut while thinking: its answer is empty. A text without the block
    is all answer.
    """
    _, ended, answer = text.partition(THINKING_ENDS)
    if ended:
        return answer.lstrip("\r\n")
    return "" if still_thinking(text) else text


def still_thinking(text: str, prompt: Text | None = None) -> bool:
    """Returns whether a text never ends the thinking block that it opens, or that its prompt opens for it."""
    if THINKING_ENDS in text:
        return False
    opened = isinstance(prompt, str) and prompt.rstrip().endswith(THINKING_OPENS)
    return opened or text.lstrip().startswith(THINKING_OPENS)


def plain_text(text: Text | None, role: str) -> str:
    """Returns a text as it is; of a conversation the text of the last message of that role."""
    return text if isinstance(text, str) else last_text(text or (), role)


def last_text(conversation: Sequence[Message], role: str) -> str:
    """Returns the text of the last message of that role, empty where there is none."""
    for message in reversed(conversation):
        if message.get("role") == role:
            return message_text(message)
    return ""


def message_text(message: Message) -> str:
    """Returns a message's text as it was written.

    TRL parses completions where the tokenizer has a response template: thoughts then stand beside the content. They are put
    before it again, so that every view means the same with and without such a parser. Whether the block was closed is
    not told; thoughts that nothing follows count as unfinished.
    """
    text = content_text(message.get("content"))
    thoughts = next((said for key in THOUGHT_KEYS if isinstance(said := message.get(key), str) and said.strip()), "")
    if not thoughts:
        return text
    if not text and not message.get("tool_calls"):
        return f"{THINKING_OPENS}\n{thoughts}"
    return f"{THINKING_OPENS}\n{thoughts}\n{THINKING_ENDS}\n\n{text}"


def content_text(content: str | Sequence[Any] | None) -> str:
    """Returns the text of a message's content: the text itself, of a list of parts its text parts joined."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def text_bytes(text: Text) -> int:
    """Returns the size of all text in it, in bytes of UTF-8; a conversation's is that of its messages' contents."""
    if isinstance(text, str):
        return len(text) if text.isascii() else len(text.encode(errors="surrogatepass"))
    return sum(text_bytes(message_text(message)) for message in text)
