"""Reads a prompt that is chat-template text back into the conversation it was made of.

Many a GRPO recipe renders its prompts itself, by `apply_chat_template(messages, tokenize=False)`, and so the trainer
sends one long text with the model's tokens in it. A judge understands the conversation better than the tokens.

Read is what is *wholly* such text: it begins with a beginning-of-text token or a message's header, and nothing stands
outside its messages. A text that only mentions tokens stays a text. Where it is unclear, it stays a text too: a user
message after which nothing follows, or one that goes on behind a header as bare as `[/INST]`, counts only behind a
beginning-of-text token. A message in which somebody wrote the template's own tokens is read as the model would read it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from reward_server.domain import Message

REVISION: Final = 1
"""Raise it with every change of what is read as a conversation: it is part of a reward's version."""

_BEGIN: Final = re.compile(
    r"\s*(?:(?:<s>|<bos>|<\|begin_of_text\|>|<\|startoftext\|>|<\|endoftext\|>|<BOS_TOKEN>|<\uff5cbegin▁of▁sentence\uff5c>"
    r"|\[gMASK\]\s*<sop>|\[BOS\]|\]~!b\[)\s*)*"
)
_EMPTY_THINKING: Final = re.compile(
    r"(?:<think>\s*(?:</think>)?|</think>|<\|channel>thought\s*(?:<channel\|>)?|\[THINK\]|<\|START_(?:RESPONSE|THINKING)\|>)?"
)
"""Of a text without blanks at its ends. Nothing here may match blanks in two ways: that takes time by their square."""

_NO_THOUGHTS: Final = re.compile(r"(?:<think>\s*)?</think>\s*")
"""Templates put it before the messages of an assistant that did not think."""

_ROLES: Final = {
    "model": "assistant",
    "chatbot": "assistant",
    "ai": "assistant",
    "human": "user",
    "ipython": "tool",
    "observation": "tool",
    "tool_response": "tool",
    "[inst]": "user",
    "[/inst]": "assistant",
    "<<sys>>": "system",
    "<</sys>>": "user",
    "[system_prompt]": "system",
    "[available_tools]": "system",
    "[tool_results]": "tool",
}


@dataclass(frozen=True, slots=True)
class _Family:
    """How one family of templates writes messages."""

    header: str  # a regular expression, whose one group is the role
    end: str  # what may stand behind a message
    loose: bool = False  # its headers are so short that a text about them could have them in a row
    bare_system: bool = False  # the system message has no header
    needs: str = ""  # what such a text is never without
    marks: re.Pattern[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "marks", re.compile(rf"{self.header}|(?:{self.end})"))


_FAMILIES: Final = (
    # ChatML: Qwen, SmolLM, Yi, InternLM, Hermes, LFM, Nemotron 3; with <|im_sep|> Phi 4
    _Family(r"<\|im_start\|>([\w.-]{1,40})(?:[ \t][^\n<]*)?(?:\n|<\|im_sep\|>|\Z)", r"<\|im_end\|>|<\|endoftext\|>"),
    # Kimi
    _Family(r"<\|im_(system|user|assistant)\|>[^<\n]{0,60}<\|im_middle\|>", r"<\|im_end\|>"),
    # Llama 3; Llama 4
    _Family(r"<\|start_header_id\|>([\w.-]{1,40})<\|end_header_id\|>", r"<\|eot_id\|>|<\|eom_id\|>|<\|end_of_text\|>"),
    _Family(r"<\|header_start\|>([\w.-]{1,40})<\|header_end\|>", r"<\|eot\|>|<\|eom\|>|<\|end_of_text\|>"),
    # Llama 2, Mistral
    _Family(
        r"(\[/?INST\]|<</?SYS>>|\[SYSTEM_PROMPT\]|\[AVAILABLE_TOOLS\]|\[TOOL_RESULTS\])",
        r"</?s>|\[/(?:SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_RESULTS)\]",
        loose=True,
    ),
    # Gemma 1 to 3; Gemma 4
    _Family(r"<start_of_turn>([\w.-]{1,40})(?:\n|\Z)", r"<end_of_turn>|<eos>"),
    _Family(r"<\|turn>([\w.-]{1,40})(?:\n|\Z)", r"<turn\|>|<eos>"),
    # Phi 3 and 4-mini, Zephyr, TinyLlama, GLM 4, Falcon 3, OLMo, Tulu
    _Family(
        r"<\|(system|user|assistant|observation|tool|developer)\|>",
        r"<\|end\|>|</s>|<\|endoftext\|>|<\|end_of_text\|>",
        loose=True,
    ),
    # SmolVLM, Idefics
    _Family(
        r"(?:<\|im_start\|>|\A|(?<=\n))(System|User|Assistant): ?(?!\n)",
        r"<end_of_utterance>",
        needs="<end_of_utterance>",
    ),
    # DeepSeek V2.5, V3, R1; V2
    _Family(r"<\uff5c(User|Assistant)\uff5c>", r"<\uff5cend▁of▁sentence\uff5c>", loose=True, bare_system=True),
    _Family(
        r"(?:\A|(?<=\n\n)|(?<=\uff5c>))(User|Assistant):(?=\s|\Z)",
        r"<\uff5cend▁of▁sentence\uff5c>",
        loose=True,
        bare_system=True,
    ),
    # gpt-oss and Muse, whose format is called harmony
    _Family(
        r"<\|start\|>([\w.-]{1,80})(?:[^<]{0,80}(?:<\|(?:channel|constrain)\|>[^<]{0,80}){0,2}<\|message\|>|\Z)",
        r"<\|(?:end|return|call|eot)\|>",
    ),
    # Command R and A, Aya
    _Family(
        r"<\|START_OF_TURN_TOKEN\|><\|(SYSTEM|USER|CHATBOT)_TOKEN\|>(?:<\|START_(?:RESPONSE|TEXT)\|>)?",
        r"(?:<\|END_(?:RESPONSE|TEXT)\|>)?<\|END_OF_TURN_TOKEN\|>",
    ),
    # Granite
    _Family(r"<\|start_of_role\|>([\w-]{1,40})[^<\n]{0,200}<\|end_of_role\|>", r"<\|end_of_text\|>"),
    # EXAONE
    _Family(r"\[\|(system|user|assistant|tool)\|\]", r"\[\|endofturn\|\]", loose=True),
    # Ling
    _Family(r"<role>(SYSTEM|HUMAN|ASSISTANT|OBSERVATION)</role>", r"<\|role_end\|>"),
    # Seed
    _Family(r"<seed:bos>(system|user|assistant|tool)\n", r"<seed:eos>"),
    # MiniMax
    _Family(r"\]~b\](system|user|ai|assistant|tool)[^\n]{0,80}\n", r"\[e~\["),
    # Nemotron before 3
    _Family(r"<extra_id_[01]>(System|User|Assistant|Tool)\n", r"<extra_id_\d>(?=\s*\Z)"),
)


def conversation_of(text: str) -> list[Message] | None:
    """Returns the messages, `role` and `content` each, that a text was rendered from, or None where it is a plain text.

    A header at the end, under which the completion is to come, is left out, with the thinking block that it opens.
    Messages without any text are left out too. Contents have no blanks at their ends.
    """
    begin = _BEGIN.match(text)
    position = begin.end() if begin else 0
    has_begin = bool(text[:position].strip())
    if not has_begin and text[position : position + 1] not in ("<", "[", "]"):
        return None  # most prompts are plain texts
    body = text[position:]
    return next((found for family in _FAMILIES if (found := _read(body, family, has_begin=has_begin))), None)


def _read(body: str, family: _Family, *, has_begin: bool) -> list[Message] | None:
    """Returns the messages of a text as this family writes them, or None where it is none of this family's."""
    if family.needs not in body:
        return None
    messages: list[Message] = []
    role, start = None, 0
    for mark in family.marks.finditer(body):
        content = body[start : mark.start()].strip()
        if role is None and content:  # outside of any message
            if not (family.bare_system and has_begin and start == 0):
                return None
            role = "system"
        messages += _message(role, content)
        role, start = _role(mark[1]), mark.end()
    if start == 0:
        return None
    rest = body[start:].strip()
    if role == "assistant" and _EMPTY_THINKING.fullmatch(rest):
        rest = ""  # the header for the completion
    elif rest and not ((has_begin and role) or (role == "assistant" and not family.loose)):
        return None  # text behind the last message, or perhaps behind a mere mention of a token
    messages += _message(role, rest)
    return messages if any(message["role"] != "assistant" for message in messages) else None


def _message(role: str | None, content: str) -> list[Message]:
    """Returns the message, or none where it has no text."""
    if role == "assistant" and (thoughts := _NO_THOUGHTS.match(content)):
        content = content[thoughts.end() :]
    return [{"role": role, "content": content}] if role is not None and content else []


def _role(name: str | None) -> str | None:
    """Returns the role that a header names; None behind a message's end."""
    if name is None:
        return None
    lower = name.casefold()
    return "tool" if lower.startswith("functions.") else _ROLES.get(lower, lower)
