"""The clock of an outage, what the options say about it, and the words in which a person hears of it."""

from __future__ import annotations

import logging
import math
import time

from trainer.client.failures import Failure, error_for, in_words
from trainer.client.options import ClientOptions
from trainer.errors import ServerUnreachable

_log = logging.getLogger("trainer.client")

TELL_EVERY_S = 5.0

_START = "start it with `reward-server serve --config server.yaml`, or check the address"


class Wait:
    """From the first failed try of a call to its answer. Its clock is not the call's deadline, which starts anew."""

    def __init__(self, options: ClientOptions) -> None:
        self._options = options
        self._tell = options.progress or _log.warning
        self._began: float | None = None
        self._told = -math.inf

    @property
    def away_s(self) -> float:
        """Seconds since the first failed try."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    @property
    def left_s(self) -> float:
        """Seconds that may still be waited."""
        return max(0.0, self._options.outage_limit_s - self.away_s)

    @property
    def _may_go_on(self) -> bool:
        return self._options.on_outage == "wait" and self.left_s > 0

    def _tell_now_and_then(self, state: str, remedy: str) -> None:
        now = time.monotonic()
        if now - self._told >= TELL_EVERY_S:
            self._told = now
            limit_s = self._options.outage_limit_s
            self._tell(f"{state}; waiting up to {limit_s:.0f} s; the run goes on when it is back ({remedy})")


def since(away_s: float) -> str:
    """Returns for how long, in words; nothing where it has only begun."""
    return f" for {away_s:.0f} s" if away_s >= 1 else ""


class Outage(Wait):
    """A server that is away, or late."""

    def __init__(self, options: ClientOptions) -> None:
        super().__init__(options)
        self._was_late = False

    def goes_on(self, failure: Failure, failed_at: float) -> None:
        """Notes another failed try, and now and then says so.

        Args:
            failure: What came of it.
            failed_at: When the call failed, before anybody looked why, by the monotonic clock.

        Raises:
            ServerUnreachable: The options don't allow to wait, or not any longer.
        """
        self._was_late = False
        if self._began is None:
            self._began = self._told = failed_at
        state = f"reward server {self._options.target} is not reachable"
        cause = in_words(failure)
        if self._options.on_outage == "missing":
            raise ServerUnreachable(f"{state} ({cause})")  # becomes the verdicts' reason, which should not vary
        if not self._may_go_on:
            raise ServerUnreachable(f"{state}{since(self.away_s)} ({cause}); {self._remedy()}")
        self._tell_now_and_then(f"{state}{since(self.away_s)} ({cause})", _START)

    def late(self, failure: Failure) -> None:
        """Notes that a server that lives gave no answer in time, and says that it is asked once more.

        It may have stalled, or the connection was lost without a word: a host that vanishes closes none.

        Raises:
            DeadlineExceeded: The options don't allow to wait, or it was the second time in a row.
        """
        if self._options.on_outage != "wait" or self._was_late:
            raise error_for(failure, self._options)
        self._was_late = True
        self._tell(
            f"reward server {self._options.target} lives, but did not answer in time ({in_words(failure)}); it is asked "
            f"once more"
        )

    def over(self) -> None:
        """Notes that the server answers again."""
        if self._began is not None and self._told > self._began:
            self._tell(f"reward server {self._options.target} is back after {time.monotonic() - self._began:.0f} s")

    def _remedy(self) -> str:
        if self._options.on_outage == "stop":
            return f"{_START}; on_outage='wait' would wait for it"
        return f"{_START}; outage_limit_s says how long to wait"
