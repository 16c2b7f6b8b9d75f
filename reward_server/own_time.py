"""How much of its time the code of others had to itself, as Linux tells of its process.

A machine that is busy must not make anybody late. So what is limited, of an item in a worker and of a program in a
sandbox, is its *own time*: that by the clock, less the time in which its main thread was ready but got no processor,
was stopped, or waited for a disk.

Own time is told as processor time plus time asleep. The first is known exactly. Of the rest of the clock's time the
kernel tells, once a thread runs again, for how long it had waited for a processor; what remains is sleep, unless the
thread is just waiting (then the wait is not told yet), or was held back by a limit on processors (never told; but then
it has not given up the processor of its own accord).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_RELATIVES: Final = 16
"""So many threads and child processes of a worker are looked at."""

LATE_NS: Final = 300_000_000
"""A look that comes so much later than due says that the server, and perhaps all the machine, stood still."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What Linux tells of a thread, since its start."""

    cpu_ns: int
    delay_ns: int  # ready, but without a processor
    state: str = "S"  # one letter: R(unning or ready), S(leeping), D(isk), T (stopped)
    switches: int = -1  # how often it gave up the processor of its own accord; -1 = not known


class OwnTime:
    """The own time of one item or program, from look to look."""

    def __init__(self, pid: int, begin_ns: int, begin: Reading, most_idle_ns: int | None = None) -> None:
        """Begins with what was read when the item was begun.

        `most_idle_ns`: for how long it is believed that it waits for a disk or is stopped; None = for ever. A program
        can look like that of its own will, by `vfork` or SIGSTOP.
        """
        self._pid = pid
        self._begin_ns = begin_ns
        self._begin = self._last = begin
        self._last_ns = begin_ns
        self._rest_ns = 0  # of the clock's time, what was neither spent on a processor nor is known as waiting for one
        self._awake_ns = 0  # of that, what was no sleep for all that is known
        self._asleep_ns = 0
        self._idle_ns, self._most_idle_ns = 0, most_idle_ns
        self._relatives: dict[int, int] = {}  # threads and children: what each has waited for a processor

    def look(self, now_ns: int, due_ns: int) -> float | None:
        """Returns the seconds of its own so far, None where the system does not tell. `due_ns`: when this was due."""
        reading = read_thread(f"/proc/{self._pid}")
        if reading is None:
            return None
        cpu_ns = reading.cpu_ns - self._begin.cpu_ns
        rest_ns = now_ns - self._begin_ns - cpu_ns - (reading.delay_ns - self._begin.delay_ns)
        grown_ns, self._rest_ns = rest_ns - self._rest_ns, rest_ns
        self._awake_ns += self._no_sleep(reading, grown_ns, late=now_ns - due_ns > LATE_NS)
        if reading.state != "R":
            self._asleep_ns = max(0, rest_ns - self._awake_ns)
        self._last, self._last_ns = reading, now_ns
        return (cpu_ns + self._asleep_ns) / 1e9

    def _no_sleep(self, now: Reading, grown_ns: int, *, late: bool) -> int:
        """Returns how much of the rest that came since the last look was no sleep of the item's."""
        if now.state in "DTt" and not late:
            self._idle_ns += grown_ns
            return grown_ns if self._most_idle_ns is None or self._idle_ns <= self._most_idle_ns else 0
        if late:
            return grown_ns
        if now.state == "R":
            return grown_ns if self._last.state == "R" and now.switches == self._last.switches else 0
        return min(max(grown_ns, 0), self._relatives_delay_ns())

    def _relatives_delay_ns(self) -> int:
        """Returns the longest that a thread or child for which the main thread may wait has waited since last asked."""
        before, self._relatives = self._relatives, {}
        for place in relatives(self._pid):
            with suppress(OSError, ValueError, IndexError):
                self._relatives[int(place.name)] = int((place / "schedstat").read_text().split()[1])
        return max((delay - before.get(each, delay) for each, delay in self._relatives.items()), default=0)


def read_thread(place: str) -> Reading | None:
    """Returns what there is to be read under a folder of /proc, None where it is not there or does not tell."""
    try:
        with open(f"{place}/schedstat", "rb") as file:  # noqa: PTH123  # several times a second for each worker
            cpu_ns, delay_ns = map(int, file.read().split()[:2])
        with open(f"{place}/status", "rb") as file:  # noqa: PTH123
            status = file.read()
        state = status.partition(b"State:\t")[2][:1].decode()
        switches = int(status.partition(b"\nvoluntary_ctxt_switches:")[2].split(None, 1)[0])
    except (OSError, ValueError, IndexError):
        return None
    return Reading(cpu_ns, delay_ns, state, switches)


def relatives(pid: int) -> Iterator[Path]:
    """Yields the folders of a process's other threads and of the processes that it and they started, a few of them."""
    folders = [Path(f"/proc/{pid}")]
    for count, folder in enumerate(folders):
        if count > MAX_RELATIVES:
            return
        if count:
            yield folder
        with suppress(OSError):
            for thread in (folder / "task").iterdir():
                if folder is folders[0] and thread.name != str(pid):
                    folders.append(thread)
                folders += [Path("/proc") / child for child in (thread / "children").read_text().split()]
