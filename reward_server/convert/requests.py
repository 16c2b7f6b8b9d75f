"""What a caller asks: bytes -> request -> rewards and samples."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import repeat
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from protos.reward.v1 import reward_pb2 as pb
from reward_server.convert.texts import json_from, texts_from
from reward_server.domain import NO_COLUMNS, Sample, Text
from reward_server.errors import MalformedRequest
from reward_server.scoring import Selector

M = TypeVar("M", pb.ScoreRequest, pb.ScoreStreamRequest, pb.ListRewardsRequest)


def score_request_from(data: bytes) -> pb.ScoreRequest:
    """Returns the request that the bytes hold."""
    request = _parsed(data, pb.ScoreRequest)
    if request.chunk_index >= max(1, request.chunk_count):
        raise MalformedRequest(f"`chunk_index` is {request.chunk_index}, but `chunk_count` is {request.chunk_count}")
    return request


def stream_request_from(data: bytes) -> pb.ScoreStreamRequest:
    """Returns the request that the bytes hold."""
    return _parsed(data, pb.ScoreStreamRequest)


def list_request_from(data: bytes) -> pb.ListRewardsRequest:
    """Returns the request that the bytes hold."""
    return _parsed(data, pb.ListRewardsRequest)


def _parsed(data: bytes, kind: type[M]) -> M:
    try:
        return kind.FromString(data)
    except DecodeError as error:
        raise MalformedRequest(
            f"these {len(data)} bytes are no {kind.DESCRIPTOR.full_name}: {error}. "
            "Does the client speak another version of the protocol?"
        ) from error


def selectors_from(request: pb.ScoreRequest | pb.ScoreStreamRequest) -> tuple[Selector, ...]:
    """Returns which rewards are asked for, in the order asked."""
    selectors = tuple([Selector(each.name, each.expected_version) for each in request.rewards])
    names = {selector.name for selector in selectors}
    if not selectors or "" in names:
        raise MalformedRequest("`rewards` must name at least one reward, and no name may be empty")
    if len(names) != len(selectors):
        raise MalformedRequest(f"`rewards` names a reward twice: {', '.join(each.name for each in selectors)}")
    return selectors


def samples_from(batch: pb.Batch) -> list[Sample]:
    """Returns the batch as (N,) samples."""
    completions = texts_from(batch.completions, "completions")
    count = len(completions)
    prompts = _prompts_from(batch, count)
    return list(
        map(
            Sample,
            completions,
            repeat(None) if prompts is None else prompts,
            _columns_from(batch.columns, count),
            _groups_from(batch, prompts, count),
            _per_sample(batch.completion_token_counts, "completion_token_counts", count) or repeat(None),
            _per_sample(batch.completions_truncated, "completions_truncated", count) or repeat(None),
        )
    )


def _prompts_from(batch: pb.Batch, count: int) -> list[Text] | None:
    """Returns (N,) prompts, or None where none were sent."""
    distinct = texts_from(batch.prompts, "prompts")
    indexes = batch.prompt_indexes
    if not distinct and not indexes:
        return None
    if len(indexes) != count:
        raise MalformedRequest(f"`prompt_indexes` has {len(indexes)} entries for {count} completions")
    try:
        return [distinct[index] for index in indexes]
    except IndexError:
        position, index = next((at, i) for at, i in enumerate(indexes) if i >= len(distinct))
        raise MalformedRequest(
            f"`prompt_indexes[{position}]` is {index}, but there are {len(distinct)} prompts"
        ) from None


def _groups_from(batch: pb.Batch, prompts: Sequence[Text] | None, count: int) -> Iterable[int]:
    """Returns (N,) group numbers: those sent, otherwise equal consecutive prompts are a group."""
    sent = _per_sample(batch.group_indexes, "group_indexes", count)
    if sent or prompts is None:
        return sent or repeat(0)
    groups, group = [], 0
    for position, prompt in enumerate(prompts):
        if position and prompt != prompts[position - 1]:
            group += 1
        groups.append(group)
    return groups


def _columns_from(columns: Iterable[pb.Column], count: int) -> Iterable[Mapping[str, Any]]:
    """Returns (N,) mappings from column to value."""
    values: dict[str, list[Any]] = {}
    for column in columns:
        if column.name in values:
            raise MalformedRequest(f"the column {column.name!r} was sent twice")
        values[column.name] = _column_values(column, count)
    if not values:
        return repeat(NO_COLUMNS)
    names = tuple(values)
    return [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _column_values(column: pb.Column, count: int) -> list[Any]:
    values = json_from(column.values_json, f"the column {column.name!r}")
    if not isinstance(values, list):
        raise MalformedRequest(f"the column {column.name!r} is no JSON array, but a {type(values).__name__}")
    if len(values) != count:
        raise MalformedRequest(f"the column {column.name!r} has {len(values)} values for {count} completions")
    return values


T = TypeVar("T")


def _per_sample(values: Sequence[T], name: str, count: int) -> Sequence[T]:
    if values and len(values) != count:
        raise MalformedRequest(f"`{name}` has {len(values)} entries for {count} completions")
    return values
