"""What is sent of a batch to a server with a given catalogue, and how its answers become one result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from protos.reward.v1 import reward_pb2 as pb
from trainer.client.batch import Batch
from trainer.client.catalog import Catalog, RewardInfo
from trainer.client.chunks import cut
from trainer.client.packing import Packer
from trainer.client.verdicts import Columns, RewardScores
from trainer.client.wire import all_short, item_bytes
from trainer.errors import ServerBroke

HEADROOM_BYTES = 64
"""Left free in a chunk for the numbers around its parts, which grow with them."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One request and the samples it holds."""

    samples: Sequence[int]  # (M,) positions in the batch, ascending
    request: bytes  # a ScoreRequest, serialised once however often it is sent


@dataclass(frozen=True, slots=True)
class Plan:
    """The requests that score a batch, and the samples that are not sent."""

    catalog: Catalog  # by which it was made
    infos: Sequence[RewardInfo]  # of the rewards asked for
    sample_count: int
    chunks: Sequence[Chunk]
    kept_back: Mapping[int, str]  # sample -> why it is not sent
    replaced_surrogate_count: int

    def merged(self, responses: Sequence[pb.ScoreResponse]) -> dict[str, RewardScores]:
        """Returns the verdicts of the whole batch, by reward. Raises `ServerBroke`."""
        results = {info.name: Columns(info.name, info.version, self.sample_count) for info in self.infos}
        for sample, reason in self.kept_back.items():
            for columns in results.values():
                columns.fail(sample, reason)
        for chunk, response in zip(self.chunks, responses, strict=True):
            if [verdicts.name for verdicts in response.results] != list(results):
                raise ServerBroke(f"asked for {', '.join(results)}, the server answered for other rewards")
            for verdicts in response.results:
                results[verdicts.name].fill(verdicts, chunk.samples)
        return {name: columns.done() for name, columns in results.items()}

    def suits(self, catalog: Catalog) -> bool:
        """Returns whether the same would be sent to a server with this catalogue."""
        return all(
            info.name in catalog.rewards and info.needs == catalog.rewards[info.name].needs for info in self.infos
        )


def plan(batch: Batch, catalog: Catalog) -> Plan:
    """Returns what to send. Raises `UnknownReward`, `MissingColumn`, `BadInput` and `TooLarge` before anything is."""
    infos = catalog.asked(batch.rewards)
    packer = Packer(batch, infos)
    kept_back = _too_long(batch, catalog.max_completion_bytes)
    samples = [sample for sample in range(batch.sample_count) if sample not in kept_back]
    chunks = _chunks(packer, samples, batch.group_numbers, catalog.max_request_bytes) if samples else []
    return Plan(catalog, infos, batch.sample_count, chunks, kept_back, packer.replaced_surrogate_count)


def _too_long(batch: Batch, limit: int) -> dict[int, str]:
    """Returns the completions that the server would not score anyway, and why."""
    items = batch.completion_items
    if not limit or all_short(items, limit):
        return {}
    return {
        sample: f"the completion has {size} bytes, over the server's limit of {limit} "
        f"(limits.max_completion_kb in its configuration)"
        for sample, item in enumerate(items)
        if (size := item_bytes(item)) > limit
    }


def _chunks(packer: Packer, samples: Sequence[int], groups: Sequence[int] | None, limit: int) -> list[Chunk]:
    whole = packer.request(samples)
    if not limit or len(whole) <= limit:
        return [Chunk(samples, whole)]
    frame = len(packer.request([], 0, len(samples))) + HEADROOM_BYTES
    parts = [sorted(part) for part in cut(samples, groups, packer.size_of, max(1, limit - frame))]
    return [Chunk(part, packer.request(part, index, len(parts))) for index, part in enumerate(parts)]
