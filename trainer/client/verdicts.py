"""Verdicts as a trainer sees them, and how they are read from answers and merged from chunks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum

from protos.reward.v1 import reward_pb2 as pb
from trainer.errors import ServerBroke


class Status(StrEnum):
    """What a verdict is. Only SCORED has a score."""

    SCORED = "scored"
    ABSTAINED = "abstained"  # the scorer looked and could not judge this sample
    FAILED = "failed"  # no score for a technical reason


class Blame(StrEnum):
    """What a missing verdict is owed to."""

    UNKNOWN = "unknown"
    COMPLETION = "completion"  # it breaks its grader, and the reward declares no floor for that
    REFERENCE = "reference"  # the sample's own columns or prompt
    OUTAGE = "outage"  # what would have scored it was away: a later call may do


@dataclass(frozen=True, slots=True)
class Cost:
    """What the verdicts of one reward on one batch cost. Sums by `+`.

    Chunks run side by side: `total_ms` is theirs added up, not a wall time.
    """

    total_ms: float = 0.0  # from the start of scoring to the last verdict
    queue_ms: float = 0.0  # sum over verdicts of the wait for a free worker or host
    judge_call_count: int = 0
    judge_ms: float = 0.0  # sum over judge calls of their time at the model's host
    prompt_token_count: int = 0
    decoded_token_count: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


@dataclass(frozen=True, slots=True)
class RewardScores:
    """The verdicts of one reward on N samples, in columns."""

    name: str
    version: str  # hash of everything that shapes a score; empty = no server was reached
    scores: list[float | None]  # N, in the reward's own range; None = missing, see statuses
    statuses: list[Status]  # N
    reasons: list[str]  # N: why it is missing; empty where there is a score
    explanations: list[str]  # N: what the scorer said (a judge's reason); empty = nothing
    parts: Mapping[str, list[float | None]]  # scores of a recipe's parts, N each; None = that part is missing
    cost: Cost
    flags: Mapping[str, Sequence[int]]  # name -> positions of the samples that bear it, ascending
    blames: list[Blame]  # N: what it is missing for; UNKNOWN where there is a score

    def flags_of(self, sample: int) -> list[str]:
        """Returns the flags of one sample."""
        return [flag for flag, samples in self.flags.items() if sample in samples]

    def missing_counts(self) -> Counter[str]:
        """Returns how many verdicts are missing, by reason."""
        return Counter(
            reason or str(status)
            for status, reason in zip(self.statuses, self.reasons, strict=True)
            if status is not Status.SCORED
        )


@dataclass(frozen=True, slots=True)
class ScoreResult:
    """The verdicts of one batch."""

    rewards: Mapping[str, RewardScores]  # by name, in the order asked
    request_id: str
    attempt_count: int  # of the chunk that needed most: 1 = it went through at once, 0 = nothing was sent
    server_ms: float  # wall time in the server, of the slowest chunk
    wall_ms: float  # from the call to its result, outages included
    chunk_count: int
    replaced_surrogate_count: int  # lone surrogates in the texts sent, which travelled as U+FFFD

    def missing(self, name: str) -> Counter[str]:
        """Returns how many verdicts of a reward are missing, by reason."""
        return self.rewards[name].missing_counts()


class Columns:
    """Collects the verdicts of one reward on N samples, chunk by chunk. Every sample starts as missing."""

    def __init__(self, name: str, version: str, sample_count: int) -> None:
        self.name = name
        self.version = version
        self.scores: list[float | None] = [None] * sample_count
        self.statuses = [Status.FAILED] * sample_count
        self.reasons = [""] * sample_count
        self.explanations = [""] * sample_count
        self.parts: dict[str, list[float | None]] = {}
        self.cost = Cost()
        self.flags: dict[str, set[int]] = {}
        self.blames = [Blame.UNKNOWN] * sample_count

    def fail(self, sample: int, reason: str) -> None:
        """Gives a sample a failed verdict."""
        self.statuses[sample] = Status.FAILED
        self.reasons[sample] = reason

    def fill(self, verdicts: pb.RewardVerdicts, samples: Sequence[int]) -> None:
        """Puts a chunk's verdicts in their places.

        Args:
            verdicts: One reward's verdicts on M samples.
            samples: (M,) position in the whole batch of each of the chunk's samples.

        Raises:
            ServerBroke: The verdicts are not one per sample.
        """
        places = _places(verdicts, samples)
        try:
            if len(places) == len(self.scores) and _all_scored(verdicts):
                self.scores, self.statuses = list(verdicts.scores), [Status.SCORED] * len(places)
            else:
                self._fill(verdicts, places)
            self._fill_extras(verdicts, samples, places)
        except (ValueError, IndexError) as error:
            raise ServerBroke(f"reward {verdicts.name!r}: the server's answer contradicts itself: {error}") from error
        self.version = verdicts.version
        self.cost += _cost(verdicts.cost)

    def _fill(self, verdicts: pb.RewardVerdicts, places: Sequence[int]) -> None:
        statuses = [_STATUSES.get(status, Status.FAILED) for status in verdicts.statuses]
        for place, score, status, reason in zip(places, verdicts.scores, statuses, _reasons(verdicts), strict=True):
            if status is Status.SCORED and not math.isfinite(score):
                self.fail(place, f"the server sent {score} as a score")
                continue
            self.scores[place] = score if status is Status.SCORED else None
            self.statuses[place] = status
            self.reasons[place] = reason

    def _fill_extras(self, verdicts: pb.RewardVerdicts, samples: Sequence[int], places: Sequence[int]) -> None:
        for explanation in verdicts.explanations:
            self.explanations[samples[explanation.sample_index]] = explanation.text.decode(errors="replace")
        for part in verdicts.parts:
            column = self.parts.setdefault(part.name, [None] * len(self.scores))
            for place, score in zip(places, part.scores, strict=True):
                column[place] = None if math.isnan(score) else score
        for flag in verdicts.flags:
            self.flags.setdefault(flag.name, set()).update(samples[index] for index in flag.sample_indexes)
        if verdicts.blames:
            for place, blame in zip(places, verdicts.blames, strict=True):
                self.blames[place] = _BLAMES.get(blame, Blame.UNKNOWN)

    def done(self) -> RewardScores:
        """Returns what was collected."""
        return RewardScores(
            self.name,
            self.version,
            self.scores,
            self.statuses,
            self.reasons,
            self.explanations,
            self.parts,
            self.cost,
            {flag: sorted(samples) for flag, samples in self.flags.items()},
            self.blames,
        )


_STATUSES = {
    int(pb.STATUS_SCORED): Status.SCORED,
    int(pb.STATUS_ABSTAINED): Status.ABSTAINED,
    int(pb.STATUS_FAILED): Status.FAILED,
}

_BLAMES = {
    int(pb.BLAME_COMPLETION): Blame.COMPLETION,
    int(pb.BLAME_REFERENCE): Blame.REFERENCE,
    int(pb.BLAME_OUTAGE): Blame.OUTAGE,
}


def _places(verdicts: pb.RewardVerdicts, samples: Sequence[int]) -> Sequence[int]:
    """Returns each verdict's position in the whole batch, having checked that there is one per sample."""
    there = list(verdicts.sample_indexes) or range(len(samples))
    if not len(there) == len(verdicts.scores) == len(verdicts.statuses) == len(samples):
        raise ServerBroke(
            f"reward {verdicts.name!r}: the server sent {len(verdicts.scores)} scores and {len(verdicts.statuses)} "
            f"statuses for {len(samples)} samples; its release and this client's do not fit together"
        )
    if verdicts.sample_indexes:
        if sorted(there) != list(range(len(samples))):
            raise ServerBroke(f"reward {verdicts.name!r}: the server's verdicts are not one per sample")
        return [samples[index] for index in there]
    return samples


def _all_scored(verdicts: pb.RewardVerdicts) -> bool:
    """Returns whether there is a score for every sample, in order: the common case, read faster."""
    return (
        not verdicts.sample_indexes
        and not verdicts.status_reason_indexes
        and {pb.STATUS_SCORED}.issuperset(verdicts.statuses)
        and all(map(math.isfinite, verdicts.scores))
    )


def _reasons(verdicts: pb.RewardVerdicts) -> list[str]:
    if not verdicts.status_reason_indexes:
        return [""] * len(verdicts.scores)
    texts = ["", *verdicts.status_reasons]
    return [texts[index] for index in verdicts.status_reason_indexes]


def _cost(cost: pb.Cost) -> Cost:
    return Cost(
        cost.total_ms,
        cost.queue_ms,
        cost.judge_call_count,
        cost.judge_ms,
        cost.prompt_token_count,
        cost.decoded_token_count,
    )
