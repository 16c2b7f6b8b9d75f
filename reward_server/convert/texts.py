"""Columns of texts: plain ones, and conversations with all that their messages hold."""

from __future__ import annotations

import json
from itertools import repeat
from typing import Any, Final

from protos.reward.v1 import reward_pb2 as pb
from reward_server.domain import Message, Text
from reward_server.errors import MalformedRequest

PLAIN_TEXT: Final = -1
"""In `message_counts`: the item is a plain text, not a conversation."""


def texts_from(column: pb.TextColumn, what: str) -> list[Text]:
    """Returns the column's items: plain texts, or conversations as lists of messages."""
    try:
        texts = list(map(bytes.decode, column.texts))
    except UnicodeDecodeError as error:
        position = next(at for at, text in enumerate(column.texts) if text == error.object)
        raise MalformedRequest(f"`{what}.texts[{position}]` is not UTF-8: {error}") from error
    if column.message_counts or column.roles or column.message_extras_json:
        return _items_from(column, texts, what)
    return texts  # type: ignore[return-value]  # a list of str is a list of Text that nobody writes to


def _items_from(column: pb.TextColumn, texts: list[str], what: str) -> list[Text]:
    counts = column.message_counts
    _check_counts(column, what)
    roles, extras = iter(column.roles), iter(column.message_extras_json or repeat(b"", len(column.roles)))
    entries = iter(texts)
    items: list[Text] = []
    for count in counts:
        if count == PLAIN_TEXT:
            items.append(next(entries))
        else:
            items.append([_message(next(roles), next(entries), next(extras), what) for _ in range(count)])
    return items


def _check_counts(column: pb.TextColumn, what: str) -> None:
    """Refuses a column whose numbers of items, messages and texts do not fit one another."""
    low = next((count for count in column.message_counts if count < PLAIN_TEXT), None)
    if low is not None:
        raise MalformedRequest(f"`{what}.message_counts` holds {low}; the least is {PLAIN_TEXT}, a plain text")
    messages = sum(count for count in column.message_counts if count > 0)
    texts = messages + sum(1 for count in column.message_counts if count == PLAIN_TEXT)
    if texts != len(column.texts):
        raise MalformedRequest(
            f"`{what}.message_counts` stand for {texts} texts, but `{what}.texts` has {len(column.texts)}"
        )
    if messages != len(column.roles):
        raise MalformedRequest(f"`{what}.roles` has {len(column.roles)} entries for {messages} messages")
    if len(column.message_extras_json) not in (0, messages):
        raise MalformedRequest(
            f"`{what}.message_extras_json` has {len(column.message_extras_json)} entries for {messages} messages"
        )


def _message(role: str, text: str, extras_json: bytes, what: str) -> Message:
    message: dict[str, Any] = {"role": role, "content": text}
    if not extras_json:
        return message
    extras = json_from(extras_json, f"an entry of `{what}.message_extras_json`")
    if not isinstance(extras, dict) or "role" in extras:
        raise MalformedRequest(f"an entry of `{what}.message_extras_json` is no JSON object, or it holds the role")
    if "content" in extras and (text or not isinstance(extras["content"], list | None)):
        raise MalformedRequest(
            f"an entry of `{what}.message_extras_json` holds a content that is neither null nor a list of parts, "
            "or one beside a text"
        )
    message.update(extras)
    return message


def json_from(data: bytes, what: str) -> Any:
    """Returns what the bytes hold; `what` names them in a complaint."""
    try:
        return json.loads(data.decode())
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise MalformedRequest(f"{what} is not JSON in UTF-8: {error}") from error
