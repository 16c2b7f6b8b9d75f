"""Packs samples of a batch into requests: only what the asked rewards read."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TypeVar

from protos.reward.v1 import reward_pb2 as pb
from trainer.client.batch import Batch
from trainer.client.catalog import RewardInfo
from trainer.client.wire import Encoder, packed_bytes, text_column

T = TypeVar("T")

SAMPLE_OVERHEAD_BYTES = 32
"""At least what indexes, flags and token counts of one sample take in a request."""


class Packer:
    """Packs samples of a batch into requests. Raises `MissingColumn` and `BadInput`."""

    def __init__(self, batch: Batch, infos: Sequence[RewardInfo]) -> None:
        self._batch = batch
        self._infos = infos
        self._encoder = Encoder()  # of the columns: their texts are counted once per plan
        names = dict.fromkeys(name for info in infos for name in info.columns_of(batch.given))
        self._columns = {name: batch.column(name) for name in names}
        self._columns_json = {name: self._encoder.column(values, name) for name, values in self._columns.items()}
        reads_prompts = batch.prompts is not None and any(info.reads_prompts for info in infos)
        self._prompts = batch.prompt_table if reads_prompts else None

    @property
    def replaced_surrogate_count(self) -> int:
        """Returns how many lone surrogates were replaced in all that the samples hold."""
        return self._batch.encoder.replaced_surrogate_count + self._encoder.replaced_surrogate_count

    def request(self, samples: Sequence[int], chunk_index: int = 0, chunk_count: int = 1) -> bytes:
        """Returns a serialised request with those samples. Chunks state the version they expect, so that they don't mix two."""
        request = pb.ScoreRequest(
            rewards=[
                pb.RewardSelector(name=info.name, expected_version=info.version if chunk_count > 1 else "")
                for info in self._infos
            ],
            batch=self._pack(samples, with_count=chunk_index == 0),
            chunk_index=chunk_index,
            chunk_count=chunk_count,
        )
        return request.SerializeToString()

    def size_of(self, samples: Sequence[int]) -> int:
        """Returns at least the bytes that the samples take in a request; prompts that they share count once."""
        items = self._batch.completion_items
        size = sum(SAMPLE_OVERHEAD_BYTES + packed_bytes(items[sample]) for sample in samples)
        if self._prompts is not None:
            indexes = {self._prompts.indexes[sample] for sample in samples}
            size += sum(packed_bytes(self._prompts.items[index]) for index in indexes)
        return size + sum(len(values[sample]) + 1 for values in self._value_jsons.values() for sample in samples)

    @cached_property
    def _value_jsons(self) -> dict[str, list[bytes]]:
        """Every value of every column as JSON by itself, for batches that are cut."""
        encoder = Encoder()  # what it replaces was counted with the whole column
        return {
            name: [encoder.column([value], name)[1:-1] for value in values] for name, values in self._columns.items()
        }

    def _pack(self, samples: Sequence[int], *, with_count: bool) -> pb.Batch:
        batch = self._batch
        whole = len(samples) == batch.sample_count
        packed = pb.Batch(
            completions=text_column(_pick(batch.completion_items, samples)),
            group_indexes=_pick(batch.group_numbers, samples),
            columns=[
                pb.Column(name=name, values_json=json if whole else self._joined(name, samples))
                for name, json in self._columns_json.items()
            ],
            completion_token_counts=_pick(batch.completion_token_counts, samples),
            completions_truncated=_pick(batch.truncated, samples),
            replaced_surrogate_count=self.replaced_surrogate_count if with_count else 0,
        )
        if self._prompts is not None:
            indexes = _pick(self._prompts.indexes, samples)
            seen = {index: position for position, index in enumerate(dict.fromkeys(indexes))}
            packed.prompts.CopyFrom(text_column([self._prompts.items[index] for index in seen]))
            packed.prompt_indexes.extend([seen[index] for index in indexes])
        return packed

    def _joined(self, name: str, samples: Sequence[int]) -> bytes:
        return b"[" + b",".join(_pick(self._value_jsons[name], samples)) + b"]"


def _pick(values: Sequence[T] | None, samples: Sequence[int]) -> Sequence[T]:
    """Returns the values of those samples; of all of them without a copy, of unknown values none."""
    if values is None or len(samples) == len(values):
        return values or ()
    return [values[sample] for sample in samples]
