"""All detectors, and who asks them: each illness is told once, and again only if it has become clearly worse."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.history import History
from trainer.watching import gaming, stability, supply
from trainer.watching.finding import Finding
from trainer.watching.settings import Settings
from trainer.watching.signals import Detector, Signals

_log = logging.getLogger(__name__)

DETECTORS: tuple[Detector, ...] = (
    stability.note_without_kl,
    stability.not_finite,
    stability.kl,
    stability.stuck,
    stability.spikes,
    stability.scale,
    stability.drift,
    stability.entropy,
    gaming.zero_variance,
    gaming.same_length,
    gaming.duplicates,
    gaming.saturation,
    gaming.follows_length,
    gaming.pulled_apart,
    supply.missing,
    supply.floors,
    supply.truncation,
    supply.versions,
    supply.waiting,
)

CLEARLY_WORSE = 1.5
"""How many times worse an illness must have become to be told again."""

AGAIN_AFTER = 20
"""Steps before it is told again: what was changed needs time to be seen, and so does a person."""


class Watcher:
    """Looks at a run's history after each logged step."""

    def __init__(
        self, settings: Settings, told: Iterable[Mapping[str, Any]] = (), detectors: Iterable[Detector] = DETECTORS
    ) -> None:
        """Takes the run's settings, and the lines of `warnings.jsonl` from before the run was resumed."""
        self.settings = settings
        self._detectors = tuple(detectors)
        self._broken: set[Detector] = set()
        self._told: dict[str, tuple[float, float]] = {}  # illness and subject -> (step, severity)
        for row in told:
            self._remember(row)

    def look(self, history: History) -> list[Finding]:
        """Returns what is to be told after the newest step. Never raises: a detector that does is logged and left out."""
        if not history.rows:
            return []
        signals = Signals(history, self.settings)
        news: list[Finding] = []
        for detector in self._detectors:
            if detector in self._broken:
                continue
            try:
                found = list(detector(signals))
            except Exception:  # noqa: BLE001  # a bug here must not end a run
                self._broken.add(detector)
                _log.exception("the detector %s failed and is left out from now on", _name(detector))
                continue
            news += [each for each in found if self._is_news(each, history.last_step)]
        return news

    def _is_news(self, finding: Finding, step: int) -> bool:
        if finding.key in self._told:
            told_at, severity = self._told[finding.key]
            if step < told_at + AGAIN_AFTER or finding.severity < CLEARLY_WORSE * severity:
                return False
        self._told[finding.key] = (step, finding.severity)
        return True

    def _remember(self, row: Mapping[str, Any]) -> None:
        subject = row.get("subject") or ""
        illness = str(row.get("illness", ""))
        key = f"{illness}: {subject}" if subject else illness
        self._told[key] = (float(row.get("step") or 0), float(row.get("severity") or 0))


def _name(detector: Detector) -> str:
    return getattr(detector, "__qualname__", repr(detector))
