"""Cuts a batch that is over a server's limit into few even chunks.

Chunks end at group boundaries, since a reward may compare the completions of a group. A group that is too large alone
is cut between its samples all the same, with a warning: rewards that look at samples one by one don't mind, and
refusing would stop a run for a limit that the server's configuration can raise.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from trainer.errors import TooLarge

_log = logging.getLogger(__name__)

REMEDY = "raise limits.max_request_mb in the server's configuration"


@dataclass(frozen=True, slots=True)
class _Piece:
    """Samples that stay together."""

    samples: Sequence[int]
    size: int  # bytes


def cut(
    samples: Sequence[int], groups: Sequence[int] | None, size_of: Callable[[Sequence[int]], int], limit: int
) -> list[list[int]]:
    """Returns the fewest chunks of at most `limit` bytes, as even as whole groups in their order allow.

    Args:
        samples: The samples to cut, in order; at least one.
        groups: (N,) group numbers by sample, or None where they are unknown: then every sample stands alone.
        size_of: Returns at least the bytes that some samples take together. What they share counts once, so it never
            grows by more than the size of a sample alone when that sample is added.
        limit: Bytes that a chunk may have.

    Returns:
        Lists of samples; every one of `samples` is in exactly one.

    Raises:
        TooLarge: A single sample is over the limit.
    """
    pieces = _pieces(samples, groups, size_of, limit)
    count = len(_filled(pieces, limit))
    low, high = max(piece.size for piece in pieces), limit
    while low < high:  # the smallest capacity that needs no more chunks gives the most even cut
        middle = (low + high) // 2
        if len(_filled(pieces, middle)) > count:
            low = middle + 1
        else:
            high = middle
    return _filled(pieces, low)


def _filled(pieces: Iterable[_Piece], capacity: int) -> list[list[int]]:
    """Returns chunks of consecutive pieces, each filled as far as it goes."""
    chunks: list[list[int]] = []
    room = -1
    for piece in pieces:
        if piece.size > room:
            chunks.append([])
            room = capacity
        chunks[-1].extend(piece.samples)
        room -= piece.size
    return chunks


def _pieces(
    samples: Sequence[int], groups: Sequence[int] | None, size_of: Callable[[Sequence[int]], int], limit: int
) -> list[_Piece]:
    """Returns whole groups in order of appearance; a group over the limit as several pieces."""
    members: dict[int, list[int]] = {}
    for sample in samples:
        members.setdefault(sample if groups is None else groups[sample], []).append(sample)
    pieces = []
    for group in members.values():
        size = size_of(group)
        if size <= limit:
            pieces.append(_Piece(group, size))
            continue
        parts = _filled([_alone(sample, size_of([sample]), limit) for sample in group], limit)
        pieces += [_Piece(part, size_of(part)) for part in parts]
        _log.warning(
            "a group of %d completions has %d bytes, over the server's limit of %d for one request: it is scored in %d "
            "parts, so a reward that compares the completions of a group sees only one part at a time; to keep it "
            "whole, %s",
            len(group),
            size,
            limit,
            len(parts),
            REMEDY,
        )
    return pieces


def _alone(sample: int, size: int, limit: int) -> _Piece:
    if size > limit:
        raise TooLarge(
            f"sample {sample} alone has {size} bytes with its prompt and columns, over the server's limit of {limit} for "
            f"one request: {REMEDY}, or send shorter columns"
        )
    return _Piece([sample], size)
