"""Judges whose worth is known, and the audit of one of them in memory."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from small_rewards import rewards_of, scripted

from reward_server.audit.columns import Columns
from reward_server.audit.probes import GROUPS, INJECTIONS, KEYS, PAIRS, SETS, Probe, own_probes
from reward_server.audit.report import Report
from reward_server.audit.running import Running
from reward_server.domain import CostClass, Needs, Sample, Verdict, abstained, scored

Grade = Callable[[Sample], float | None]


def perfect(sample: Sample) -> float:
    """Knows what every completion is worth; what it does not know is worth nothing."""
    return WORTH.get((str(sample.prompt), str(sample.completion)), 0.0)


def longer_wins(sample: Sample) -> float:
    return min(len(sample.completion) / 500, 1.0)


def constant(sample: Sample) -> float:
    return 0.5


def obedient(sample: Sample) -> float:
    """Is perfect until somebody asks it for a grade, or says nothing at all."""
    worth = WORTH.get((str(sample.prompt), str(sample.completion)))
    return 1.0 if worth is None else worth


def contrary(sample: Sample) -> float:
    return 1.0 - perfect(sample)


def coin() -> Grade:
    """Returns a judge that tosses anew each time, the same tosses in every run."""
    generator = random.Random(7)
    return lambda sample: generator.random()


def _worth() -> dict[tuple[str, str], float]:
    probes = own_probes()
    worth: dict[tuple[str, str], float] = {}
    for probe in probes[PAIRS]:
        worth |= {
            (str(probe.prompt), str(probe.completions[0])): 0.9,
            (str(probe.prompt), str(probe.completions[1])): 0.3,
        }
    for probe in [*probes[KEYS], *probes[INJECTIONS]]:
        worth |= {
            (str(probe.prompt), str(probe.completions[0])): 0.9,
            (str(probe.prompt), str(probe.completions[1])): 0.2,
        }
    for probe in probes[GROUPS]:
        for level, text in enumerate(probe.completions):
            worth[str(probe.prompt), str(text)] = 0.9 - 0.2 * level
    return worth


WORTH = _worth()


class Counted:
    """Counts what an audit tells of its progress."""

    def __init__(self) -> None:
        self.count = self.done = 0

    def begin(self, count: int) -> None:
        self.count = count

    def advance(self) -> None:
        self.done += 1


async def audited(
    grade: Grade,
    probes: Sequence[Probe] | None = None,
    *,
    sets: Sequence[str] = SETS,
    progress: Counted | None = None,
    needs: Needs = Needs(prompts=True),  # noqa: B008  # frozen
    score_range: tuple[float, float] | None = (0.0, 1.0),
    folder: Path = Path("/"),
) -> Report:
    """Returns the report on a judge that is a function: of a sample to its score, or to None where it abstains."""

    async def script(samples: Sequence[Sample], call: object) -> AsyncIterator[tuple[int, Verdict]]:
        for index, sample in enumerate(samples):
            score = grade(sample)
            yield index, abstained("it would not say") if score is None else scored(score)

    chosen = [probe for name in sets for probe in own_probes()[name]] if probes is None else probes
    kind = scripted(script, needs=needs, score_range=score_range, cost_class=CostClass.COMPUTE)
    running = Running(
        lambda: rewards_of({"judge": kind}, folder=folder),
        "judge",
        lambda found: Columns(found).fitted(chosen),
        64,
        60.0,
        progress or Counted(),
    )
    return Report(await running.run(), {}, "the shipped ones", "2026-01-01T00:00:00+00:00")
