"""Texts and columns as bytes of the contract. Knows nothing of calls and connections.

What travels unchanged: strings; conversations (lists of messages, each a mapping with a `role`) whose other values are
JSON-able; column values that are JSON-able, NaN and infinity included. As with any JSON, tuples arrive as lists and the
keys of mappings as strings. NumPy and torch scalars and arrays travel as the numbers and lists they hold. Lone
surrogates, which no UTF-8 can hold, become U+FFFD and are counted. A message without `content` arrives with `None`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

from protos.reward.v1 import reward_pb2 as pb
from trainer.errors import BadInput

_FRAME_BYTES = 24  # at least what lengths and counts around one text, role and extras take
_MAX_UTF8_BYTES = 4  # of one character
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Conversation(NamedTuple):
    """A conversation, ready to travel; hashable, so that equal ones are found."""

    texts: tuple[bytes, ...]  # one per message
    roles: tuple[str, ...]  # one per message
    extras_json: tuple[bytes, ...]  # one per message: its other keys, or empty


Item = bytes | Conversation
"""A plain text or a conversation, ready to travel."""


def _number_or_list(value: Any) -> Any:
    """Returns what a NumPy or torch value holds; anything else cannot travel."""
    as_list = getattr(value, "tolist", None)
    if callable(as_list) and not isinstance(value, memoryview):
        return as_list()
    raise TypeError(f"{type(value).__name__} is no text, number, list or mapping")


_JSON = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), default=_number_or_list)


class Encoder:
    """Turns the texts and columns of one batch into bytes, and counts the lone surrogates it had to replace."""

    def __init__(self) -> None:
        self.replaced_surrogate_count = 0

    def text(self, text: str) -> bytes:
        """Returns UTF-8 bytes."""
        try:
            return text.encode()
        except UnicodeEncodeError:
            return self._without_lone_surrogates(text).encode()

    def items(self, items: Sequence[Any], what: str) -> list[Item]:
        """Returns prompts or completions ready to travel. `what` names them in errors: "prompt", "completion"."""
        try:
            return [item.encode() for item in items]  # the common case, all of them clean strings
        except (AttributeError, UnicodeEncodeError):
            return [self.item(item, f"{what} {index}") for index, item in enumerate(items)]

    def item(self, item: Any, where: str) -> Item:
        """Returns one text or conversation ready to travel."""
        if isinstance(item, str):
            return self.text(item)
        if not isinstance(item, (list, tuple)):
            raise BadInput(f"{where} is of type {type(item).__name__}: pass a text, or a list of messages")
        texts, roles, extras = [], [], []
        for position, message in enumerate(item):
            text, role, extra = self._message(message, f"{where}, message {position}")
            texts.append(text)
            roles.append(role)
            extras.append(extra)
        return Conversation(tuple(texts), tuple(roles), tuple(extras))

    def column(self, values: Sequence[Any], name: str) -> bytes:
        """Returns the values of a column as one JSON array."""
        try:
            return self.text(_JSON.encode(values if isinstance(values, list) else list(values)))
        except (TypeError, ValueError, RecursionError) as error:
            raise BadInput(f"column {name!r}, {_first_culprit(values, error)}; {_COLUMN_REMEDY}") from None

    def _message(self, message: Any, where: str) -> tuple[bytes, str, bytes]:
        if not isinstance(message, Mapping):
            raise BadInput(f"{where} is of type {type(message).__name__}: a message is a mapping with role and content")
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str):
            raise BadInput(f"{where} has no role: a message is a mapping with role and content")
        extras = {key: value for key, value in message.items() if key not in ("role", "content")}
        text = b""
        if isinstance(content, str):
            text = self.text(content)
        else:
            extras["content"] = content
        return text, self.text(role).decode(), self._extras(extras, where) if extras else b""

    def _extras(self, extras: dict[str, Any], where: str) -> bytes:
        try:
            return self.text(_JSON.encode(extras))
        except (TypeError, ValueError, RecursionError) as error:
            key, cause = next(((k, e) for k, v in extras.items() if (e := _refusal(v))), ("a key", str(error)))
            raise BadInput(f"{where}: {key!r} cannot travel: {cause}") from None

    def _without_lone_surrogates(self, text: str) -> str:
        clean, count = _LONE_SURROGATE.subn("\ufffd", text)
        self.replaced_surrogate_count += count
        return clean


_COLUMN_REMEDY = "drop it from the dataset, or let the reward's `columns` on the server name only what it reads"


def _refusal(value: Any) -> str:
    """Returns why a value cannot travel, or nothing."""
    try:
        _JSON.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        return str(error)
    return ""


def _first_culprit(values: Sequence[Any], error: Exception) -> str:
    for index, value in enumerate(values):
        if refusal := _refusal(value):
            return f"value {index} cannot travel: {refusal}"
    return f"it cannot travel: {error}"


def text_column(items: Sequence[Item]) -> pb.TextColumn:
    """Returns the items as a column of the contract, in order."""
    if _all_plain(items):
        return pb.TextColumn(texts=cast("Sequence[bytes]", items))
    texts: list[bytes] = []
    counts: list[int] = []
    roles: list[str] = []
    extras: list[bytes] = []
    for item in items:
        if isinstance(item, bytes):
            texts.append(item)
            counts.append(-1)
            continue
        texts += item.texts
        counts.append(len(item.texts))
        roles += item.roles
        extras += item.extras_json
    return pb.TextColumn(
        texts=texts, message_counts=counts, roles=roles, message_extras_json=extras if any(extras) else ()
    )


def _all_plain(items: Sequence[Item]) -> bool:
    return {bytes}.issuperset(map(type, items))


def all_short(items: Sequence[Item], limit: int) -> bool:
    """Returns whether no item is longer than so many bytes; quickly, so it may say no to conversations."""
    return _all_plain(items) and max(map(len, items), default=0) <= limit


def item_bytes(item: Item) -> int:
    """Returns the size of a text, or of all that a conversation holds, in bytes."""
    if isinstance(item, bytes):
        return len(item)
    return sum(map(len, item.texts)) + sum(map(len, item.extras_json))


def packed_bytes(item: Item) -> int:
    """Returns at least the bytes that an item takes in a `TextColumn`."""
    if isinstance(item, bytes):
        return len(item) + _FRAME_BYTES
    return item_bytes(item) + sum(map(len, item.roles)) * _MAX_UTF8_BYTES + (len(item.roles) + 1) * _FRAME_BYTES


def in_turn(items: Sequence[Item]) -> tuple[list[Item], list[int]]:
    """Returns the distinct items in order of appearance, and for each item its position among them."""
    position: dict[Item, int] = {}
    indexes = [position.setdefault(item, len(position)) for item in items]
    return list(position), indexes
