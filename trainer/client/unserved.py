"""Rewards that a living server cannot serve for now: how they are told, waited for and asked for again.

The host of a judge is away, say: its verdicts are missing for no fault of a completion's. A batch with such verdicts is
sent again, under the same request id, when the server says that the reward is served again; and now and then without,
since what the server knows of a host may be old.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from protos.reward.v1 import reward_pb2 as pb
from trainer.client.catalog import Catalog, Health
from trainer.client.options import ClientOptions
from trainer.client.outage import Wait, since
from trainer.errors import RewardUnavailable

FIRST_PAUSE_S = 0.5
"""Before a batch is sent again; twice as long each time, since the server's word has proved wrong."""

ASK_AGAIN_S = 30.0
"""At most; and this long where the server says that it cannot serve the reward."""

_MEND = "mend what stands behind it, `reward-server check` on the server's side says more"


def unserved_in(responses: Sequence[pb.ScoreResponse]) -> dict[str, str]:
    """Returns the rewards of which verdicts are missing since what would score them is away, and why."""
    found: dict[str, str] = {}
    for response in responses:
        for verdicts in response.results:
            for position, blame in enumerate(verdicts.blames):
                if blame == pb.BLAME_OUTAGE:
                    found.setdefault(verdicts.name, _reason(verdicts, position))
    return found


class Unserved(Wait):
    """The rewards of one call that cannot be served, from the first answer without their verdicts to one with them."""

    def __init__(self, options: ClientOptions) -> None:
        super().__init__(options)
        self._reasons: dict[str, str] = {}  # by reward
        self._asked = 0.0
        self._pause_s = FIRST_PAUSE_S / 2

    def note(self, reasons: Mapping[str, str]) -> None:
        """Notes an answer without verdicts of these rewards, name -> why."""
        self._asked = time.monotonic()
        if self._began is None:
            self._began = self._asked
        self._pause_s = min(2 * self._pause_s, ASK_AGAIN_S)
        self._reasons = dict(reasons)

    def goes_on(self) -> None:
        """Says now and then what is waited for; at once the first time, as the server has waited before it answered.

        Raises:
            RewardUnavailable: The options don't allow to wait, or not any longer.
        """
        why = "; ".join(dict.fromkeys(reason for reason in self._reasons.values() if reason)) or "no reason given"
        state = f"{self._names()} cannot be served{since(self.away_s)} ({why})"
        if not self._may_go_on:
            wait = (
                "on_outage='wait' would wait for it"
                if self._options.on_outage == "stop"
                else "outage_limit_s says how long to wait"
            )
            raise RewardUnavailable(f"reward server {self._options.target}: {state}; {_MEND}; {wait}")
        self._tell_now_and_then(state, _MEND)

    def is_time(self, catalog: Catalog) -> bool:
        """Returns whether to send the batch again, by what the server says of the rewards now."""
        sick = {
            name: info.health_reason
            for name in self._reasons
            if (info := catalog.rewards.get(name)) is not None and info.health is Health.NOT_SERVING
        }
        self._reasons |= {name: reason for name, reason in sick.items() if reason}
        return time.monotonic() - self._asked >= (ASK_AGAIN_S if sick else self._pause_s)

    def over(self) -> None:
        """Notes that all verdicts are there."""
        if self._began is not None:
            self._tell(
                f"{self._names()} {'is' if len(self._reasons) == 1 else 'are'} served again after {self.away_s:.0f} s"
            )

    def _names(self) -> str:
        return f"reward{'s' if len(self._reasons) > 1 else ''} {', '.join(map(repr, self._reasons))}"


def _reason(verdicts: pb.RewardVerdicts, position: int) -> str:
    """Returns why a verdict is missing, as far as the server says so in a way that can be read."""
    indexes = verdicts.status_reason_indexes
    index = indexes[position] if position < len(indexes) else 0
    return verdicts.status_reasons[index - 1] if 0 < index <= len(verdicts.status_reasons) else ""
