"""What a worker is given at a time, as the server sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from reward_server.errors import WorkerError
from reward_server.workers.frames import Result
from reward_server.workers.messages import Pieces


@dataclass(frozen=True, slots=True)
class Loss:
    """How a worker was lost while a chunk was its own."""

    error: WorkerError
    running: int | None  # the place in the chunk of the item that ran
    known: bool  # some item ran, here or in another chunk
    begun: int  # how many of the chunk's items it had begun
    suspects: int  # how many items of all its chunks it had begun without their results having come


class Chunk:
    """Items that one worker runs one after another; their results arrive in `take`."""

    def __init__(
        self,
        head: Pieces,
        packed: Pieces,
        indexes: Sequence[int],
        *,
        name: str,
        memory_mb: int | None = None,
        on_results: Callable[[Chunk, list[Result]], None] | None = None,
    ) -> None:
        self.head = head  # a pickle of the function and its first arguments
        self.packed = packed  # a pickle of the items
        self.indexes = indexes  # what its owner calls them
        self.name = name  # for logs
        self.memory_mb = memory_mb
        self.first_code = 0  # that of its first item, once it is sent
        self.sent_s = time.monotonic()
        self.took_ns = 0  # once it has ended
        self.kept: int | None = None  # the only place that is still its own, after the others were given to others
        self.revoked = False
        self.by_itself = False  # nothing else is to be sent before its end
        self.results: list[Result] = []  # where nobody else takes them
        self.result_count = 0
        self._on_results = on_results
        self.done: asyncio.Future[Loss | None] = asyncio.get_running_loop().create_future()

    def take(self, results: list[Result]) -> None:
        """Takes results as they come."""
        self.result_count += len(results)
        if self._on_results is None:
            self.results += results
        else:
            self._on_results(self, results)

    def place_of(self, code: int) -> int | None:
        """Returns the place of the item with that code, None if it is not in this chunk."""
        place = code - self.first_code
        return place if 0 <= place < len(self.indexes) else None

    def owns(self, place: int) -> bool:
        """Returns whether the item at that place has not been given to others."""
        return not self.revoked or place == self.kept

    def end(self, loss: Loss | None) -> None:
        """Wakes whoever waits for its end."""
        if not self.done.done():
            self.done.set_result(loss)
