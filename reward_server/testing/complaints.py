"""What the contract's tests say of verdicts that are not as they should be: one line for each, with what it is about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from reward_server.domain import Sample, Status, Verdict

Range = tuple[float, float] | None

MOST_TOLD: Final = 12


def no_complaints(found: Mapping[str, str], claim: str) -> None:
    """Raises `AssertionError` with all that was found against a claim, line by line."""
    __tracebackhide__ = True
    if found:
        lines = [f"  {what}: {complaint}" for what, complaint in found.items()]
        more = [f"  and {len(lines) - MOST_TOLD} more"] if len(lines) > MOST_TOLD else []
        raise AssertionError("\n".join([f"{claim}. But:", *lines[:MOST_TOLD], *more]))


def told(verdict: Verdict) -> str:
    """Returns a verdict in few words."""
    if verdict.status is Status.SCORED:
        return f"scored {verdict.score!r}"
    return f"{verdict.status.value}: {verdict.status_reason or 'and it does not say why'}"


def out_of(score_range: Range, verdict: Verdict) -> str | None:
    """Returns what is wrong with a score that is outside the range."""
    if score_range is None or verdict.score is None or score_range[0] <= verdict.score <= score_range[1]:
        return None
    return f"{told(verdict)}, outside its score_range of {score_range[0]!r} to {score_range[1]!r}"


def unsound(score_range: Range, verdicts: Mapping[str, Verdict]) -> dict[str, str]:
    """Returns what is wrong with verdicts that may be missing, by what they are about."""
    found = {}
    for what, verdict in verdicts.items():
        if complaint := out_of(score_range, verdict):
            found[what] = complaint
        elif verdict.score is None and not verdict.status_reason:
            found[what] = told(verdict)
    return found


def missing(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> dict[str, str]:
    """Returns what became of the samples that have no score."""
    pairs = enumerate(zip(samples, verdicts, strict=True))
    return {named(index, sample): told(verdict) for index, (sample, verdict) in pairs if verdict.score is None}


def differing(
    samples: Sequence[Sample], verdicts: Sequence[Verdict], expected: Sequence[Verdict], wobble: float
) -> dict[str, str]:
    """Returns where two lists of verdicts on the same samples differ in status, or in score by more than `wobble`."""
    return {
        named(index, sample): f"{told(one)}, not {told(other)}"
        for index, (sample, one, other) in enumerate(zip(samples, verdicts, expected, strict=True))
        if one.status is not other.status or abs((one.score or 0.0) - (other.score or 0.0)) > wobble
    }


def named(index: int, sample: Sample) -> str:
    """Returns what a person finds a sample by: its place and how it begins."""
    return f"sample {index} ({str(sample.completion)[:40]!a})"
