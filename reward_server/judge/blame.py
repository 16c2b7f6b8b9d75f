"""What a missing grade is owed to, and the verdict that says so.

Only what the completion itself does is held against it. So a suspicion is tested: the same question, with a bland
completion in the place of the suspect, must be answered well at a host where the suspect failed, or a neighbour of the
same task must have been since. A host that is sick answers neither. See `suspects`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from reward_server.bland import BLAND
from reward_server.domain import Blame, Cost, Verdict, abstained, failed
from reward_server.errors import (
    BadAnswer,
    EngineError,
    HostBusy,
    HostFailed,
    HostUnreachable,
    ModelChanged,
    ModelMissing,
    NotComparable,
    PromptTooLong,
)
from reward_server.judge.material import Material
from reward_server.scorers.base import MAX_REASON_CHARS

MIN_ATTEMPTS: Final = 2
"""Once is chance: a completion is suspected after so many failed attempts."""

OUTAGES: Final = (HostUnreachable, HostBusy, ModelMissing, ModelChanged)


def bland(material: Material, number: int | None = None) -> Material:
    """Returns the material with a completion that says nothing and breaks nothing; a number tells it from others."""
    said = BLAND if number is None else f"{BLAND} ({number + 1})"
    return replace(material, completion=said, clipped=False, still_thinking=False, left_out_chars=0)


def is_suspicious(error: Exception, *, compared: bool = False) -> bool:
    """Returns whether an error may be the completion's own doing, to be tested by a control.

    Args:
        error: what went wrong.
        compared: the prompt held other completions too: only a control tells which of them made it too long.
    """
    if isinstance(error, PromptTooLong):
        return compared
    if isinstance(error, BadAnswer) and error.nearly:
        return False
    return isinstance(error, BadAnswer | HostFailed) and error.attempts >= MIN_ATTEMPTS


def by_error(error: Exception) -> Blame:
    """Returns what an error is owed to as far as it tells by itself."""
    return Blame.OUTAGE if isinstance(error, OUTAGES) else Blame.UNKNOWN


def missing(judge: str, error: Exception, blame: Blame, cost: Cost, flags: tuple[str, ...]) -> Verdict:
    """Returns the verdict for a miss: abstained where the judge gave no grade, failed where it could not."""
    said = str(error)[:MAX_REASON_CHARS]
    if isinstance(error, BadAnswer):
        times = "1 attempt" if error.attempts == 1 else f"{error.attempts} attempts"
        return abstained(f"the judge gave no grade in {times}, at last: {said}", cost=cost, blame=blame, flags=flags)
    if isinstance(error, PromptTooLong | NotComparable):
        return abstained(said, cost=cost, blame=blame, flags=flags)
    if isinstance(error, EngineError):
        times = f" ({error.attempts} attempts)" if error.attempts > 1 else ""
        return failed(f"{said}{times}", cost=cost, blame=blame, flags=flags)
    return failed(f"judge `{judge}` broke: {type(error).__name__}: {said}", cost=cost, flags=flags)
