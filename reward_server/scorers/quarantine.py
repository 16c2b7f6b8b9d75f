"""What a scorer remembers of the completions that broke it, by their hashes."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

from reward_server.domain import Blame, Sample, Verdict, failed

QUARANTINED: Final = "quarantined"
"""The flag of a completion that is not run again."""

BLAMES_TO_QUARANTINE: Final = 2
REMEMBERED: Final = 10_000
"""So many blamed completions a scorer remembers; the longest unseen is forgotten first."""


class Record:
    """What a scorer remembers of the completions that broke it. One for each scorer: so it is of one version of it."""

    def __init__(self) -> None:
        self._blamed: OrderedDict[bytes, tuple[int, str]] = OrderedDict()  # by hash: how often, and why at last
        self._lengths: set[int] = set()  # of completions in quarantine: spares most others their hash

    def sentences(self, samples: Sequence[Sample], item_of: Callable[[int], Any]) -> dict[int, Verdict]:
        """Returns by index the verdicts on those samples whose completions are in quarantine."""
        if not self._lengths:
            return {}
        found = {
            index: self._sentence(item_of(index))
            for index, sample in enumerate(samples)
            if len(sample.completion) in self._lengths
        }
        return {index: sentence for index, sentence in found.items() if sentence is not None}

    def _sentence(self, item: Any) -> Verdict | None:
        key = digest(item)
        if key is None or key not in self._blamed:
            return None
        times, reason = self._blamed[key]
        if times < BLAMES_TO_QUARANTINE:
            return None
        self._blamed.move_to_end(key)
        reason = f"it broke its scorer {times} times and is not run again; at last: {reason}"
        return failed(reason, blame=Blame.COMPLETION, flags=(QUARANTINED,))

    def blame(self, sample: Sample, item: Any, reason: str) -> None:
        """Remembers that a sample's completion was blamed."""
        if (key := digest(item)) is None:
            return
        times = self._blamed.pop(key, (0, ""))[0] + 1
        self._blamed[key] = times, reason
        if times >= BLAMES_TO_QUARANTINE:
            self._lengths.add(len(sample.completion))
        if len(self._blamed) > REMEMBERED:
            self._blamed.popitem(last=False)


def digest(item: Any) -> bytes | None:
    """Returns a hash of plain data; None where it is nested too deeply to have one."""
    try:
        text = repr(item)
    except RecursionError:
        return None
    return hashlib.blake2b(text.encode(errors="backslashreplace"), digest_size=16).digest()
