"""Renders what TRL has, a plain text or a conversation, as text for a judge to read."""

from __future__ import annotations

import json
from typing import Any

from reward_server.domain import Message, Text
from reward_server.views import content_text


def readable(text: Text) -> str:
    """Returns a plain text as it is, and a conversation with one message a paragraph: "user: …"."""
    if isinstance(text, str):
        return text
    return "\n\n".join(_message(message) for message in text)


def readable_value(value: Any) -> str:
    """Returns a dataset column's value: a text as it is, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _message(message: Message) -> str:
    """Returns a message's role and text, with its tool calls where it has some."""
    line = f"{message.get('role', 'unknown')}: {content_text(message.get('content'))}"
    calls = message.get("tool_calls")
    return f"{line}\n(tool calls: {json.dumps(calls, ensure_ascii=False, default=str)})" if calls else line
