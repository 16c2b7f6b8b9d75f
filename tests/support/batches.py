"""Samples -> the contract's batch: what `reward_server.convert` reads back, written for tests without any client."""

from __future__ import annotations

import json
from collections.abc import Sequence

from protos.reward.v1 import reward_pb2 as pb
from reward_server.convert.texts import PLAIN_TEXT
from reward_server.domain import Sample, Text


def batch_from(samples: Sequence[Sample]) -> pb.Batch:
    """Returns the batch that `samples_from` reads back as these samples; what one of them has, all must have."""
    batch = pb.Batch(
        completions=text_column_from([sample.completion for sample in samples]),
        group_indexes=[sample.group for sample in samples],
        completion_token_counts=[s.token_count for s in samples if s.token_count is not None],
        completions_truncated=[s.truncated for s in samples if s.truncated is not None],
    )
    prompts = [json.dumps(sample.prompt) for sample in samples if sample.prompt is not None]
    positions = {prompt: position for position, prompt in enumerate(dict.fromkeys(prompts))}
    batch.prompts.CopyFrom(text_column_from([json.loads(prompt) for prompt in positions]))
    batch.prompt_indexes.extend(positions[prompt] for prompt in prompts)
    for name in samples[0].columns if samples else ():
        batch.columns.add(name=name, values_json=json.dumps([sample.columns[name] for sample in samples]).encode())
    return batch


def text_column_from(items: Sequence[Text]) -> pb.TextColumn:
    """Returns the column that `texts_from` reads back as these items."""
    column = pb.TextColumn()
    for item in items:
        if isinstance(item, str):
            column.message_counts.append(PLAIN_TEXT)
            column.texts.append(item.encode())
        else:
            column.message_counts.append(len(item))
            for message in item:
                _add_message(column, dict(message))
    if not column.roles and max(column.message_counts, default=PLAIN_TEXT) == PLAIN_TEXT:
        column.message_counts.clear()  # all plain
    return column


def _add_message(column: pb.TextColumn, message: dict[str, object]) -> None:
    column.roles.append(str(message.pop("role")))
    content = message.pop("content", None)
    if not isinstance(content, str):
        message["content"] = content
    column.texts.append(content.encode() if isinstance(content, str) else b"")
    column.message_extras_json.append(json.dumps(message).encode() if message else b"")
