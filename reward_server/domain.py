"""The words of the server as small frozen types. Nothing here does I/O, and nothing here knows the wire format."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from types import MappingProxyType
from typing import Any

Message = Mapping[str, Any]
"""One message of a conversation: at least `role`, usually `content`."""

Text = str | list[Message]
"""A plain text, or a conversation: a list of messages, as TRL has them."""

NO_COLUMNS: Mapping[str, Any] = MappingProxyType({})


class Status(Enum):
    """What a verdict is. Only SCORED has a score."""

    SCORED = "scored"
    ABSTAINED = "abstained"
    FAILED = "failed"


class Blame(Enum):
    """What a missing verdict is owed to. Only what the completion itself did is answered with a recipe's floor."""

    UNKNOWN = "unknown"  # nobody could tell: never held against the completion
    COMPLETION = "completion"  # it breaks its grader: again, alone, while the grader serves others
    REFERENCE = "reference"  # the sample's own columns or prompt: an empty reference, a task too long to be read
    OUTAGE = "outage"  # what would have scored it is away: a later try may do


class CostClass(Enum):
    """What one verdict costs, roughly."""

    TRIVIAL = "trivial"  # microseconds, computed on the event loop
    COMPUTE = "compute"  # up to seconds of a CPU, computed in a worker process
    JUDGE = "judge"  # a model is asked


@dataclass(frozen=True, slots=True)
class Sample:
    """One prompt, one completion and its columns."""

    completion: Text
    prompt: Text | None = None  # None: the reward did not ask for prompts
    columns: Mapping[str, Any] = field(default_factory=lambda: NO_COLUMNS)
    group: int = 0  # samples of one call with the same number are completions of one prompt
    token_count: int | None = None  # of the completion, in the policy's tokens; None = unknown
    truncated: bool | None = None  # generation stopped at its length limit; None = unknown
    still_thinking: bool | None = None  # its thinking block was opened and never closed; None = no view has looked

    def seen_as(self, completion: Text, prompt: Text | None, *, still_thinking: bool) -> Sample:
        """Returns this sample with what a view shows in place of its texts."""
        return replace(self, completion=completion, prompt=prompt, still_thinking=still_thinking)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a verdict cost. Sums by `+`."""

    queue_ms: float = 0.0  # waiting for a free worker or host
    judge_call_count: int = 0
    judge_ms: float = 0.0  # at the model's host
    prompt_token_count: int = 0
    decoded_token_count: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.queue_ms + other.queue_ms,
            self.judge_call_count + other.judge_call_count,
            self.judge_ms + other.judge_ms,
            self.prompt_token_count + other.prompt_token_count,
            self.decoded_token_count + other.decoded_token_count,
        )


NO_COST = Cost()


@dataclass(frozen=True, slots=True)
class Verdict:
    """For one sample: a score, or none and why not. Make one with `scored`, `abstained` or `failed`."""

    score: float | None  # in the reward's own range; None = missing, see status
    status: Status
    status_reason: str = ""  # for a person: why it is missing
    explanation: str = ""  # a judge's reason
    # scores of a recipe's parts, None = that part is missing
    parts: Mapping[str, float | None] = field(default_factory=lambda: NO_COLUMNS)
    cost: Cost = NO_COST
    blame: Blame = Blame.UNKNOWN  # of a missing verdict
    # what a person should be able to count: "floor", "addresses_grader", "cut_for_judge", ...
    flags: tuple[str, ...] = ()
    # of a recipe's score, which is the worst that the parts that the completion breaks can make of it: the best
    ceiling: float | None = None


def scored(
    score: float,
    explanation: str = "",
    *,
    parts: Mapping[str, float | None] = NO_COLUMNS,
    cost: Cost = NO_COST,
    flags: tuple[str, ...] = (),
) -> Verdict:
    """Returns a verdict with a score; a score that is not finite makes it a failed one (Law: never a wrong number)."""
    value = float(score)
    if value - value != 0.0:  # NaN or infinite
        return failed(f"the scorer returned {value}, which is not a finite number", parts=parts, cost=cost, flags=flags)
    return Verdict(value, Status.SCORED, "", explanation, parts, cost, flags=flags)


def abstained(
    reason: str,
    explanation: str = "",
    *,
    parts: Mapping[str, float | None] = NO_COLUMNS,
    cost: Cost = NO_COST,
    blame: Blame = Blame.UNKNOWN,
    flags: tuple[str, ...] = (),
) -> Verdict:
    """Returns a verdict without a score: the scorer looked and could not judge this sample."""
    return Verdict(None, Status.ABSTAINED, reason, explanation, parts, cost, blame, flags)


def failed(
    reason: str,
    explanation: str = "",
    *,
    parts: Mapping[str, float | None] = NO_COLUMNS,
    cost: Cost = NO_COST,
    blame: Blame = Blame.UNKNOWN,
    flags: tuple[str, ...] = (),
) -> Verdict:
    """Returns a verdict without a score, for a technical reason: time-out, crash, exception, a dead host."""
    return Verdict(None, Status.FAILED, reason, explanation, parts, cost, blame, flags)


@dataclass(frozen=True, slots=True)
class Needs:
    """What of a sample a scorer reads."""

    required_columns: frozenset[str] = frozenset()
    optional_columns: frozenset[str] = frozenset()
    all_columns: bool = False  # any column there is (a function with **kwargs)
    prompts: bool = False
    prompts_optional: bool = False  # of one that reads prompts: it can do without

    @property
    def prompts_required(self) -> bool:
        """Returns whether it cannot score without prompts."""
        return self.prompts and not self.prompts_optional

    def __or__(self, other: Needs) -> Needs:
        required = self.required_columns | other.required_columns
        prompts = self.prompts or other.prompts
        return Needs(
            required,
            (self.optional_columns | other.optional_columns) - required,
            self.all_columns or other.all_columns,
            prompts,
            prompts and not (self.prompts_required or other.prompts_required),
        )


@dataclass(frozen=True, slots=True)
class Health:
    """Whether something can serve now."""

    serving: bool = True
    reason: str = ""  # where it is not serving: why, and the remedy
    refuses: bool = False  # calls are refused outright: only another configuration or machine can mend it


HEALTHY = Health()


@dataclass(frozen=True, slots=True)
class Call:
    """Who asks, for which run and step, until when. Never changes a score."""

    deadline: float = float("inf")  # on time.monotonic()'s clock, seconds; answer before it, not at it
    experiment: str = ""
    run_id: str = ""
    step: int | None = None
    request_id: str = ""
    attempt_count: int = 1  # 1 = the first time this call is made
    peer: str = field(default="", compare=False)

    def remaining_s(self) -> float:
        """Returns the seconds left, never negative; infinite without a deadline."""
        return max(0.0, self.deadline - time.monotonic())
