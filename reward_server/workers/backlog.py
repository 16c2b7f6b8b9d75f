"""Which of many items wait to be done, in what order, and how long each may take."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable

from reward_server.deadlines import before_deadline
from reward_server.errors import WorkTimedOut
from reward_server.workers.jobs import ItemJob

CHUNK_S = 0.02
"""About so long should a chunk take at most: then those that wait for its worker have their turn."""

FAST_S = 0.002
"""Chunks that take less are not made smaller for the sake of an even spread."""

MAX_AHEAD = 16
"""So many chunks a worker has at a time at most."""

LOSSES_ALLOWED = 3
"""So often is an item begun again that was lost with a worker and not to blame for that, as far as one knows."""


class Backlog:
    """The items that wait: most in chunks, behind them some that are to be run one at a time."""

    def __init__(self, done: bytearray, job: ItemJob, lanes: int, chunk: int, remaining_s: Callable[[], float]) -> None:
        self.done = done  # by index, whether it needs nothing more
        self.pace_s = 0.0  # what an item takes, by and large; 0 = not known
        self._again: deque[int] = deque()  # done already, in next to no time, but the results are lost
        self._waiting = deque(range(len(done)))
        self._single: deque[int] = deque()  # each in a chunk of its own
        self._alone: deque[int] = deque()  # while nothing else of this run is under way
        self._by_itself: set[int] = set()  # those that have been taken out of the two above
        self._had_s: dict[int, float] = {}  # the limit under which an item was stopped
        self._stopped: dict[int, WorkTimedOut] = {}  # and how
        self._limits_s: dict[int, float] = {}  # of second attempts
        self._losses: dict[int, int] = {}
        self._job = job
        self._lanes = lanes
        self._chunk = chunk
        self._remaining_s = remaining_s
        self._first_s = min(job.timeout_s, job.first_timeout_s or job.timeout_s)

    def __len__(self) -> int:
        return len(self._again) + len(self._waiting) + len(self._single) + len(self._alone)

    def ripe(self, *, others: bool) -> bool:
        """Returns whether anything waits that need not wait for `others` to end."""
        return bool(self._again or self._waiting or self._single or (self._alone and not others))

    @property
    def fast(self) -> bool:
        """Returns whether a whole chunk takes next to no time."""
        return 0 < self.pace_s * self._chunk < FAST_S

    def ahead(self) -> int:
        """Returns how many chunks a worker should have at a time: several of those that take next to no time."""
        if not self.fast:
            return 1
        left = math.ceil(len(self._waiting) / (self._chunk * self._lanes))
        return max(1, int(min(MAX_AHEAD, left, FAST_S / (self.pace_s * self._chunk))))

    def limit_s(self, index: int) -> float:
        """Returns how long the item may take this time."""
        return self._limits_s.get(index, self._first_s)

    def next(self, *, others: bool, free: bool) -> list[int]:
        """Takes the indexes of the next chunk out, none if there is none for now.

        `others` says that something of this run is under way anywhere, `free` that nothing is at this worker.
        """
        for queue in (self._again, self._waiting):
            while queue:
                indexes = [queue.popleft() for _ in range(min(self._size(len(queue)), len(queue)))]
                if left := [index for index in indexes if not self.done[index]]:
                    return left
        while self._single and free:
            if not self.done[index := self._single.popleft()]:
                self._by_itself.add(index)
                return [index]
        while self._alone and not others:
            if not self.done[index := self._alone.popleft()]:
                self._by_itself.add(index)
                return [index]
        return []

    def runs_by_itself(self, indexes: list[int]) -> bool:
        """Returns whether these, taken out, are one item that is to be run by itself."""
        return len(indexes) == 1 and indexes[0] in self._by_itself

    def _size(self, waiting: int) -> int:
        """Returns how many items the next chunk has: so few that all workers have some, and that it is soon over."""
        spread = math.ceil(waiting / (self._lanes * (1 if self.fast else 2)))
        size = min(self._chunk, spread)
        return max(1, int(min(size, CHUNK_S / self.pace_s))) if self.pace_s else max(1, size)

    def note_pace(self, took_ns: int, count: int) -> None:
        """Learns how long items take."""
        item_s = took_ns / 1e9 / count
        self.pace_s = item_s if not self.pace_s else 0.5 * (self.pace_s + item_s)

    def put_back(self, indexes: Iterable[int]) -> None:
        """Takes back, in front of the others, items that have not been begun."""
        self._waiting.extendleft(reversed([index for index in indexes if not self.done[index]]))

    def put_again(self, indexes: Iterable[int]) -> None:
        """Takes back, in front of all, items that have been done before without their results having come."""
        self._again.extend(index for index in indexes if not self.done[index])

    def put_single(self, indexes: Iterable[int]) -> None:
        """Takes back items that are each to be run in a chunk of its own."""
        self._single.extend(indexes)

    def put_lost(self, index: int, *, single: bool) -> bool:
        """Takes back an item lost with a worker; returns whether it has not been lost too often.

        `single` has it run by itself: it had been begun, so it may have had to do with the loss.
        """
        self._losses[index] = self._losses.get(index, 0) + 1
        if self._losses[index] >= LOSSES_ALLOWED:
            return False
        if single:
            self._single.append(index)
        else:
            self._waiting.append(index)
        return True

    def put_suspect(self, index: int) -> bool:
        """Takes back an item that ran when all workers were lost, to be run alone; returns whether it may."""
        self._losses[index] = self._losses.get(index, 0) + 1
        if self._losses[index] > 1:
            return False
        self._alone.append(index)
        return True

    def put_stopped(self, index: int, error: WorkTimedOut) -> bool:
        """Takes back an item stopped at its first limit, for twice the time; returns whether it may have any more."""
        if (had_s := self.limit_s(index)) >= self._job.timeout_s:
            return False
        self._had_s[index], self._stopped[index] = had_s, error
        self._limits_s[index] = min(2 * had_s, self._job.timeout_s)
        self._single.append(index)
        return True

    def out_of_time(self, index: int) -> WorkTimedOut | None:
        """Fits a second attempt into what is left; returns how the first one ended if there is no more time than then.

        All second attempts that wait should have as much of it.
        """
        if index not in self._stopped:
            return None
        rounds = math.ceil((len(self._single) + 1) / self._lanes)
        fair_s = before_deadline(self._remaining_s()) / rounds
        if fair_s <= self._had_s[index]:
            return self._stopped[index]
        self._limits_s[index] = min(self._limits_s[index], fair_s)
        return None
