"""One call's way through a judge: from samples of one group to a verdict on each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import structlog

from reward_server.domain import NO_COST, Blame, Cost, Sample, Verdict, scored
from reward_server.errors import EngineError, NotComparable, PromptTooLong
from reward_server.judge import blame, detectors, materials, prefilter
from reward_server.judge.asking import Asking, Read
from reward_server.judge.fit import CUT_FLAG, MAX_CUTS, Fit
from reward_server.judge.material import Material
from reward_server.judge.methods.base import Method, Miss, Opinion, Unit
from reward_server.judge.suspects import Suspects
from reward_server.scorers.base import YIELD_AFTER_CHARS
from reward_server.views import text_bytes

PREFILTERED_FLAG: Final = "prefiltered"
CAPPED_FLAG: Final = "capped"
REPLACED_FLAG: Final = "opponents_replaced"
"""Of a completion that was compared with bland ones in place of those that break the judge or say nothing."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Scale:
    """From grades, 0 to 1, to scores."""

    low: float
    high: float
    subtracts_baseline: bool = False

    @property
    def range(self) -> tuple[float, float]:
        """Returns the lowest and the highest score."""
        span = self.high - self.low
        return (-span, span) if self.subtracts_baseline else (self.low, self.high)

    def score(self, grade: float, baseline: float = 0.0) -> float:
        """Returns the score of a grade; where a baseline is subtracted, that of their difference."""
        low, high = self.range
        score = (0.0 if self.subtracts_baseline else self.low) + (grade - baseline) * (self.high - self.low)
        return min(high, max(low, score))


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that a judge grades by, settled once."""

    name: str
    method: Method
    materials: materials.Materials
    fit: Fit
    scale: Scale
    cap: float | None  # highest grade of a suspicious completion; None = it is only flagged


def filters_identity(*, capping: bool) -> Mapping[str, Any]:
    """Returns, as JSON-able data, what settles completions without asking; and what caps grades, where something does."""
    return {"prefilter": prefilter.identity(), "detectors": detectors.identity() if capping else None}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A sample that is to be asked about."""

    material: Material  # as it came
    trimmed: Material  # without what fits no context
    flags: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A group as it was asked about, and what was read."""

    materials: Sequence[Material]  # (M,) cut where they had to be
    reads: Sequence[Read]  # (U,) of `method.units(materials)`
    spent: Cost = NO_COST  # on what was too long


class Grading:
    """Grades the groups of one call.

    Args:
        recipe: what to grade by.
        asking: gets questions asked.
    """

    def __init__(self, recipe: Recipe, asking: Asking) -> None:
        self._recipe = recipe
        self._method = recipe.method
        self._asking = asking
        self._suspects = Suspects(recipe.method, asking)
        self._long_texts = asyncio.Lock()

    async def verdicts(self, samples: Sequence[Sample]) -> list[Verdict]:
        """Returns the verdicts on a group: one sample, or several that are compared.

        A bug here is a failed verdict, never a dead call.
        """
        try:
            settled = [await self._settled(sample) for sample in samples]
            prepared = [each for each in settled if isinstance(each, Prepared)]
            if self._method.compares and len(prepared) == 1 < len(samples):
                graded = iter([await self._graded_beside_nothing(prepared[0])])
            else:
                graded = iter(await self._graded(prepared) if prepared else ())
            return [next(graded) if isinstance(each, Prepared) else each for each in settled]
        except Exception as error:
            log.exception("judge broke", judge=self._recipe.name)
            return [blame.missing(self._recipe.name, error, Blame.UNKNOWN, NO_COST, ())] * len(samples)

    async def _settled(self, sample: Sample) -> Verdict | Prepared:
        """Returns what to ask about one sample, or the verdict where there is nothing to ask.

        Long texts are looked at one at a time, and other calls have a turn after each.
        """
        if text_bytes(sample.completion) <= YIELD_AFTER_CHARS:
            return self._settle(sample)
        async with self._long_texts:
            settled = self._settle(sample)
            await asyncio.sleep(0)
        return settled

    def _settle(self, sample: Sample) -> Verdict | Prepared:
        recipe = self._recipe
        material = recipe.materials.of(sample)
        if isinstance(material, Verdict):
            return material
        flags = materials.flags_of(material)
        if reason := prefilter.settled(material):
            return scored(recipe.scale.range[0], f"not asked: {reason}", flags=(*flags, PREFILTERED_FLAG))
        flags = (*flags, *detectors.flags_of(material.completion, material.task))
        try:
            return Prepared(material, recipe.fit.trimmed(material), flags)
        except PromptTooLong as error:
            return blame.missing(recipe.name, error, recipe.fit.blame_before(material), NO_COST, flags)

    async def _graded(self, prepared: Sequence[Prepared]) -> list[Verdict]:
        """Returns (M,) verdicts on what has to be asked about."""
        shown = await self._shown(prepared)
        opinions = self._method.opinions(shown.materials, [read.reading for read in shown.reads])
        suspects = [
            position
            for position, opinion in enumerate(opinions)
            if isinstance(opinion, Miss) and blame.is_suspicious(opinion.error, compared=self._method.compares)
        ]
        opinions, guilty, spent = await self._cleared(shown, opinions, suspects)
        costs = _shares([read.meter.total for read in shown.reads], len(prepared))
        costs[suspects[0] if suspects else 0] += shown.spent + spent
        found: list[Verdict] = []
        for position, opinion in enumerate(opinions):
            cut = (CUT_FLAG,) if shown.materials[position].left_out_chars else ()
            flags = (*prepared[position].flags, *cut)
            if isinstance(opinion, Miss):
                owed_to = Blame.COMPLETION if position in guilty else self._owed_to(shown, position, opinion.error)
                found.append(blame.missing(self._recipe.name, opinion.error, owed_to, costs[position], flags))
            else:
                found.append(await self._scored(shown.materials[position], opinion, costs[position], flags))
        return found

    async def _cleared(
        self, shown: Shown, opinions: Sequence[Opinion | Miss], suspects: Sequence[int]
    ) -> tuple[Sequence[Opinion | Miss], set[int], Cost]:
        """Returns the opinions with what was found out about the suspects, who of them is guilty, and what it cost."""
        if not suspects:
            return opinions, set(), NO_COST
        if not self._method.compares:
            (read,) = shown.reads
            tried = await self._suspects.tried(shown.materials, read)
            if tried.read is not read:
                opinions = self._method.opinions(shown.materials, [tried.read.reading])
            return opinions, set(suspects) if tried.guilty else set(), tried.spent
        guilty, spent = await self._suspects.guilty(shown.materials, shown.reads, suspects)
        innocent = set(suspects) - guilty
        if guilty and innocent:
            found, more = await self._suspects.without(shown.materials, shown.reads, guilty)
            spent += more
            opinions = [_flagged(found[at]) if at in innocent else each for at, each in enumerate(opinions)]
        return opinions, guilty, spent

    async def _graded_beside_nothing(self, only: Prepared) -> Verdict:
        """Returns the verdict on the only one of a group that says anything, compared with a bland one.

        The others have been settled, mostly at the lowest score. Were it missing, it would be worth no more than they
        are, and a policy that has come to say nothing would never come back.
        """
        bland = blame.bland(only.material, 1)
        verdict, stand_in = await self._graded([only, Prepared(bland, bland, ())])
        flags = verdict.flags if verdict.score is None else (*verdict.flags, REPLACED_FLAG)
        return replace(verdict, cost=verdict.cost + stand_in.cost, flags=tuple(dict.fromkeys(flags)))

    async def _shown(self, prepared: Sequence[Prepared]) -> Shown:
        """Returns the group as it was read in the end: where a host said that it is too long, it is cut, and asked again."""
        shown: Sequence[Material] = [each.trimmed for each in prepared]
        original = [each.material for each in prepared]
        spent: list[Read] = []
        for cuts in range(MAX_CUTS + 1):
            reads = await self._read(self._method.units(shown))
            too_long = [read for read in reads if isinstance(_error(read), PromptTooLong)]
            shorter = None
            if too_long and cuts < MAX_CUTS:
                worst = max(too_long, key=lambda read: _error(read).prompt_token_count or 0)
                shorter = self._recipe.fit.shorter(original, shown, worst.unit, _error(worst), cuts)
            if shorter is None:
                break
            spent += reads
            shown = shorter
        return Shown(shown, reads, sum((read.meter.total for read in spent), NO_COST))

    async def _read(self, units: Sequence[Unit]) -> list[Read]:
        """Returns (U,) units read, all asked at once."""
        reads = list(await asyncio.gather(*(self._asking.read(unit) for unit in units)))
        for read in reads:
            self._suspects.note(read)
        return reads

    async def _scored(self, material: Material, opinion: Opinion, cost: Cost, flags: tuple[str, ...]) -> Verdict:
        """Returns the verdict on a graded completion, capped and against the baseline where the recipe says so."""
        recipe = self._recipe
        grade, flags = opinion.grade, (*flags, *opinion.flags)
        if recipe.cap is not None and grade > recipe.cap and not set(flags).isdisjoint(detectors.FLAGS):
            grade, flags = recipe.cap, (*flags, CAPPED_FLAG)
        baseline = 0.0
        if recipe.scale.subtracts_baseline:
            null = [blame.bland(material)]
            (read,) = await self._read(self._method.units(null))
            (found,) = self._method.opinions(null, [read.reading])
            cost += read.meter.total
            if isinstance(found, Miss):
                return self._without_baseline(found.error, cost, flags)
            baseline = found.grade
        score = recipe.scale.score(grade, baseline)
        return scored(score, opinion.explanation, parts=opinion.parts, cost=cost, flags=flags)

    def _without_baseline(self, error: Exception, cost: Cost, flags: tuple[str, ...]) -> Verdict:
        owed_to = Blame.REFERENCE if isinstance(error, PromptTooLong) else blame.by_error(error)
        verdict = blame.missing(self._recipe.name, error, owed_to, cost, flags)
        return replace(verdict, status_reason=f"no baseline: {verdict.status_reason}")

    def _owed_to(self, shown: Shown, position: int, error: Exception) -> Blame:
        """Returns what a miss is owed to, as far as its error tells by itself."""
        if not isinstance(error, EngineError | NotComparable):
            log.error("judge broke", judge=self._recipe.name, exc_info=error)
        if isinstance(error, PromptTooLong) and not self._method.compares:
            return self._recipe.fit.blame(shown.materials[position], shown.reads[position].unit, error)
        return blame.by_error(error)


def _flagged(opinion: Opinion | Miss) -> Opinion | Miss:
    """Returns an opinion on a completion of which some opponents were replaced, with the flag that says so."""
    return opinion if isinstance(opinion, Miss) else replace(opinion, flags=(*opinion.flags, REPLACED_FLAG))


def _error(read: Read) -> Any:
    """Returns why a unit was not read, None if it was."""
    return read.reading.error if isinstance(read.reading, Miss) else None


def _shares(costs: Sequence[Cost], count: int) -> list[Cost]:
    """Returns what each of `count` samples is told to have cost: their sum is that of all units, each told once."""
    shares = [NO_COST] * count
    for number, cost in enumerate(costs):
        shares[number % count] += cost
    return shares
