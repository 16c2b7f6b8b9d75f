"""How many questions to have at a host at a time, found from how long its answers take. Pure: no clock, no I/O.

With `n` questions always at a host and answers that take `r` seconds on average, it gives n / r answers a second. That
is a steadier measure than counting answers, which come in bursts: slots that began together end together.

1. Climb: double the limit as long as that brings more answers a second.
2. Seek: find the smallest limit that gives nearly as many as the best one: the knee. At a host with slots that is
   their number; at one that batches without end it is where more questions only make each other wait.
3. Verify that one more is not one more slot. Then try one more than the knee, so that a slot finds its next question at
   the host when it has answered one. Where that costs (a single slot whose prefix cache two works would overwrite by
   turns) it is taken back.
4. Where more than that one still wait at the host (the way there and back looks like a lack of slots), try as many as fit
   its rate, and keep that if it gives nearly as many answers.
5. Stay there. Climb again after minutes, or when the host has become faster.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from statistics import fmean
from typing import Final

FIRST_LIMIT: Final = 4
"""Too much at first costs little, since what is too much waits at the host; too little leaves slots idle."""
GROWTH: Final = 1.1
"""Twice the limit is worth it for so many times the answers."""
NEARLY_ALL: Final = 0.9
"""A limit with this share of the best throughput is as good. Of eight slots seven give 0.875, and the one more that
step 3 adds makes up for a knee that is found one too low."""
WORSE: Final = 0.93
"""One more than the knee is taken back when it gives less than this share of the knee's throughput."""
AT_ONCE: Final = 1.3
"""While answers take less than so many times the shortest one there was, no question waits at the host for a slot."""
FAR_BELOW: Final = 0.75
SOME_ANSWERS: Final = 6
"""A limit with less than that share of the best throughput is too low: so few answers are enough to see it."""
ONE_MORE_SLOT: Final = 0.8
"""One more than the knee is the knee if it brings this share of what one more slot would."""
WAITING: Final = 1.7
"""So many questions that wait at the host are more than the one that is meant to."""
SLIM_KEEPS: Final = 0.97
"""Fewer questions are kept if they give this share of the answers."""
FASTER: Final = 1.25
"""A host that gives so many times the answers, twice in a row, at the same limit, has changed."""
CLIMB_AGAIN_S: Final = 300.0
BUSY_ONCE_S: Final = 1.0
"""A host that is too busy refuses many questions at once; they count as one refusal."""

UNSTEADY: Final = -1
"""The mark of a question sent while there were fewer at the host than the limit: its time tells nothing."""


def _enough(limit: int) -> float:
    """Returns the share of the best rate from which a limit is as good: half-way to what one slot too few would give.

    The way to the host and back keeps a slot idle, which looks like a lack of slots; more so where they are few.
    """
    return min(NEARLY_ALL, 1 - 0.5 / (limit + 1))


class _Step(Enum):
    CLIMB = auto()
    SEEK = auto()
    VERIFY = auto()
    TRY = auto()
    SLIM = auto()
    STAY = auto()


class Parallelism:
    """The limit of one host.

    Args:
        most: the limit is never more than this.
        first: where to begin; the number of slots, if it is known.
        fixed: stay at `first`.
    """

    def __init__(self, most: int, first: int | None = None, *, fixed: bool = False) -> None:
        self._most = self._ceiling = most
        self._fixed = fixed
        self.limit = min(most, first or FIRST_LIMIT)
        self._step = _Step.STAY if fixed else _Step.CLIMB
        self._full = False
        self._epoch = 0  # counts the limits
        self._count, self._sum_s = 0, 0.0  # of the answers at this limit
        self._rates: dict[int, float] = {}  # answers a second, by limit
        self._rough_rate = 0.0  # the best one that was seen in passing
        self._shortest_s = math.inf  # of all answers but those counted at this limit
        self._shortest_here_s = math.inf  # of those
        self._stride = 1  # of the search downwards
        self.knee: int | None = None
        """The smallest limit that keeps the host busy, as far as it is known."""
        self._stayed_since_s = -math.inf
        self._may_slim = False
        self._before_slim = 0  # the limit
        self._faster_windows = 0
        self._busy_s = -math.inf

    @property
    def settled(self) -> bool:
        """Returns whether the limit was found and is kept."""
        return self._step is _Step.STAY

    @property
    def answers_per_s(self) -> float:
        """Returns how many answers the limit gives, as measured when it was settled."""
        return self._rates.get(self.limit, 0.0)

    @property
    def slot_count(self) -> int | None:
        """Returns how many questions are worked on at a time, any more having to wait; None while that is unknown."""
        return self.knee if self._step in (_Step.TRY, _Step.SLIM, _Step.STAY) else None

    def hold(self, held_count: int) -> None:
        """Notes how many places are held, after all that can be filled are."""
        self._full = held_count == self.limit

    def mark(self) -> int:
        """Returns what `answered` needs to know of a question that is sent now, or whose place is given now."""
        return self._epoch if self._full else UNSTEADY

    def answered(self, mark: int, took_s: float, now_s: float) -> None:
        """Notes an answer, and moves the limit when enough of them have been seen at the present one."""
        if self._fixed or took_s <= 0:
            return
        if mark != self._epoch:
            self._shortest_s = min(self._shortest_s, took_s)
            return
        self._shortest_here_s = min(self._shortest_here_s, took_s)
        self._count += 1
        self._sum_s += took_s
        rate = self.limit * self._count / self._sum_s
        if self._count >= self._window() or self._is_far_below(rate):
            self._decide(rate, now_s)
        elif self._climbs_freely():
            self._rough_rate = max(rate, self._rough_rate)
            self._move(_Step.CLIMB, min(2 * self.limit, self._ceiling))

    def busy(self, now_s: float) -> None:
        """Notes that the host refused a question because it has too many."""
        if self._fixed or now_s - self._busy_s < BUSY_ONCE_S:
            return
        self._busy_s = now_s
        self._ceiling = max(1, self.limit - 1)
        self._rates = {}
        self._move(_Step.CLIMB, max(1, self.limit // 2))

    def _window(self) -> int:
        """Returns how many answers it takes to know a rate to some percent when their times vary by a fifth."""
        return max(32, 4 * self.limit) if self._step in (_Step.SLIM, _Step.STAY) else max(16, 2 * self.limit)

    def _is_far_below(self, rate: float) -> bool:
        """Tells whether it is plain, before the rate is known well, that the limit is too low."""
        seen = self._step is _Step.SEEK and self._count >= max(SOME_ANSWERS, self.limit)
        return seen and rate < FAR_BELOW * self._best()

    def _climbs_freely(self) -> bool:
        """Tells whether it is plain, before the rate is known well, that the host can do with more."""
        at_once = self._sum_s < AT_ONCE * self._count * self._shortest_s < math.inf
        return self._step is _Step.CLIMB and self._count >= self.limit < self._ceiling and at_once

    def _decide(self, rate: float, now_s: float) -> None:
        self._count, self._sum_s = 0, 0.0
        if self._step is _Step.STAY:
            self._look_for_change(rate, now_s)
        elif self._step is _Step.SLIM:
            before = self._rates[self._before_slim]
            kept = rate >= SLIM_KEEPS * before
            self._stay(self.limit if kept else self._before_slim, rate if kept else before, now_s, may_slim=kept)
        elif self._step is _Step.VERIFY and self.knee is not None:
            if rate >= (1 + ONE_MORE_SLOT / self.knee) * self._rates[self.knee]:
                self._rates[self.limit] = rate
                self._verify(self.limit, now_s)
            else:
                self._move(_Step.TRY, self.limit)
        elif self._step is _Step.TRY and self.knee is not None:
            worse = rate < WORSE * self._rates[self.knee]
            self._stay(self.knee if worse else self.limit, max(rate, self._rates[self.knee]), now_s)
        else:
            grown = rate >= GROWTH * max(self._rates.values(), default=self._rough_rate)
            self._rates[self.limit] = rate
            if self._step is _Step.CLIMB and grown and self.limit < self._ceiling:
                self._move(_Step.CLIMB, min(2 * self.limit, self._ceiling))
            else:
                self._seek(now_s)

    def _seek(self, now_s: float) -> None:
        """Narrows down where the knee is: above `low`, which is too little, and at most at `high`."""
        if self._step is _Step.CLIMB:
            self._stride = 1
        best = self._best()
        high = min(limit for limit, rate in self._rates.items() if rate >= _enough(limit) * best)
        low = max((limit for limit in self._rates if limit < high), default=0)
        if high - low <= max(1, high // 8):
            self._verify(high, now_s)
            return
        slots = round(
            best * min(self._shortest_s, self._shortest_here_s)
        )  # so many answers of the shortest kind fit into the best rate
        middle = (low + high) // 2
        if slots >= high:
            slots = high - self._stride
            self._stride *= 2
        self._move(_Step.SEEK, max(middle, min(high - 1, slots)))

    def _best(self) -> float:
        """Returns the rate of the limits that are good enough: that of the very best one has had luck."""
        top = max(self._rates.values())
        return fmean(rate for rate in self._rates.values() if rate >= NEARLY_ALL * top)

    def _verify(self, knee: int, now_s: float) -> None:
        """Goes one beyond the knee: first as if that were one more slot, then as one more in the line before them."""
        self.knee = knee
        if knee < self._ceiling:
            self._move(_Step.VERIFY, knee + 1)
        else:
            self._stay(knee, self._rates[knee], now_s)

    def _stay(self, limit: int, rate: float, now_s: float, *, may_slim: bool = True) -> None:
        self._may_slim = may_slim
        self._rates, self._rough_rate = {limit: rate}, 0.0
        self._stayed_since_s = now_s
        self._faster_windows = 0
        self._move(_Step.STAY, limit)

    def _slims(self, rate: float) -> bool:
        """Tries fewer where clearly more than one question waits at the host; not again once that was too few."""
        shortest_s = min(self._shortest_s, self._shortest_here_s)
        fewer = max(math.ceil(rate * shortest_s) + 1, self.limit - max(1, self.limit // 4))
        if not self._may_slim or self.limit - rate * shortest_s < WAITING or fewer >= self.limit:
            return False
        self._may_slim, self._before_slim = False, self.limit
        self._rates[self.limit] = max(rate, self._rates[self.limit])
        self._move(_Step.SLIM, fewer)
        return True

    def _look_for_change(self, rate: float, now_s: float) -> None:
        if self._slims(rate):
            return
        faster = rate > FASTER * self._rates[self.limit]
        self._faster_windows = self._faster_windows + 1 if faster else 0
        if self._faster_windows >= 2 or now_s - self._stayed_since_s > CLIMB_AGAIN_S:  # noqa: PLR2004  # see FASTER
            self._rates, self._ceiling = {self.limit: rate}, self._most
            self._move(_Step.CLIMB, min(2 * self.limit, self._ceiling))

    def _move(self, step: _Step, limit: int) -> None:
        self._shortest_s = min(self._shortest_s, self._shortest_here_s)
        self._shortest_here_s = math.inf
        self._full = self._full and limit == self.limit
        self._epoch += 1
        self._count, self._sum_s = 0, 0.0
        self._step, self.limit = step, limit
