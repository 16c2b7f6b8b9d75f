"""What a detector has found: an illness in numbers, why it matters, and which setting to change from what to what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to try: a setting's present value and the next one; or, without a setting, something to do."""

    setting: str  # "grpo.beta"; "" = `why` says what to do
    present: str = ""
    next: str = ""
    why: str = ""

    @property
    def text(self) -> str:
        """Returns the remedy as a part of a sentence."""
        if not self.setting:
            return self.why
        change = f"{self.setting} from {self.present} to {self.next}"
        return f"{change} ({self.why})" if self.why else change


@dataclass(frozen=True, slots=True)
class Finding:
    """A sign of an illness."""

    illness: str  # "zero variance"
    seen: str  # what, with numbers
    why: str  # why it matters
    remedies: Sequence[Remedy]
    severity: float  # more is worse; only compared with another finding of the same illness and subject
    subject: str = ""  # the reward it is about, where it is about one
    is_note: bool = False  # nothing is wrong, but a person should know

    @property
    def key(self) -> str:
        """Returns what it is told once of."""
        return f"{self.illness}: {self.subject}" if self.subject else self.illness

    @property
    def text(self) -> str:
        """Returns all of it as a person reads it."""
        tries = "; ".join(remedy.text for remedy in self.remedies)
        return f"{self.illness}: {self.seen}. {self.why}." + (f" Try: {tries}." if tries else "")

    def as_row(self, step: int) -> dict[str, Any]:
        """Returns it as a line of the run's `warnings.jsonl`."""
        return {
            "step": step,
            "level": "note" if self.is_note else "warning",
            "illness": self.illness,
            "subject": self.subject,
            "severity": self.severity,
            "seen": self.seen,
            "why": self.why,
            "remedies": [
                {"setting": each.setting, "present": each.present, "next": each.next, "why": each.why}
                for each in self.remedies
            ],
            "text": self.text,
        }


def change(setting: str, present: object, to: object, why: str = "") -> Remedy:
    """Returns the remedy of changing a setting; numbers are written as short as they go."""
    return Remedy(setting, _written(present), _written(to), why)


def do(what: str) -> Remedy:
    """Returns a remedy that is no setting."""
    return Remedy("", why=what)


def _written(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)
