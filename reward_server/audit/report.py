"""An audit put together: as data, as a page, and where both are written."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import jinja2

from reward_server import __version__
from reward_server.audit import conclusion, figures, measures, plots
from reward_server.audit.conclusion import Conclusion, conclude
from reward_server.audit.figures import Estimate
from reward_server.audit.measures import Measure, Scale
from reward_server.audit.probes import INJECTIONS, KEYS, PAIRS, SETS
from reward_server.audit.ratings import COIN
from reward_server.audit.running import Outcome, Session
from reward_server.domain import Text
from reward_server.errors import ConfigError

MAX_EXAMPLES: Final = 12
MAX_EXAMPLE_CHARS: Final = 400
MAX_REASON_CHARS: Final = 160
VARYING: Final = re.compile(r"\d+(\.\d+)?|'[^']*'")


@dataclass(frozen=True, slots=True)
class Section:
    """Measures that belong together."""

    title: str
    measures: Sequence[Measure]


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One figure by what it was measured on: a topic, a key, a kind of injection."""

    name: str
    estimate: Estimate


@dataclass(frozen=True)
class Report:
    """What an audit found."""

    session: Session
    left_out: Mapping[str, int]  # by set: probes that lack a column which the reward needs
    data: str  # where the pairs are from
    made_at: str  # ISO 8601

    @cached_property
    def scale(self) -> Scale:
        """Returns the range by which differences of scores are measured."""
        return measures.scale_of(self.session)

    @cached_property
    def pairs(self) -> Sequence[measures.ComparedPair]:
        """Returns the pairs that could be compared."""
        return measures.compared(self.session)

    @cached_property
    def sections(self) -> Sequence[Section]:
        """Returns all measures; those of which there was no probe are left out."""
        session, scale = self.session, self.scale
        of_pairs = measures.of_set(session, PAIRS)
        sections = (
            Section("Preference pairs", tuple(measures.of_pairs(self.pairs, scale))),
            Section("Length", tuple(measures.of_length(self.pairs, of_pairs))),
            Section("Master keys", tuple(measures.of_keys(session))),
            Section("Injections", tuple(measures.of_injections(session, scale))),
            Section("Groups of graded quality", tuple(measures.of_groups(session, scale))),
            Section("Missing verdicts and cost", tuple(measures.of_costs(session))),
        )
        return [section for section in sections if any(measure.estimate for measure in section.measures)]

    @cached_property
    def conclusion(self) -> Conclusion:
        """Returns the overall verdict."""
        return conclude(self.measures)

    @property
    def measures(self) -> Sequence[Measure]:
        """Returns the measures of all sections."""
        return [measure for section in self.sections for measure in section.measures]

    def by_topic(self) -> Sequence[Breakdown]:
        """Returns the accuracy on the pairs of each topic."""
        return _broken_down((pair.probe.topic, pair.right) for pair in self.pairs)

    def by_key(self) -> Sequence[Breakdown]:
        """Returns by master key how often it is above the midpoint."""
        middle = measures.midpoint(self.session)
        scored = [(outcome.probe.topic, outcome.scores()[-1]) for outcome in measures.of_set(self.session, KEYS)]
        found = [(key, float(score > middle)) for key, score in scored if score is not None and middle is not None]
        return sorted(_broken_down(found), key=lambda each: -each.estimate.value)

    def by_kind(self) -> Sequence[Breakdown]:
        """Returns by kind of injection how often one lifts a wrong answer."""
        found = []
        for outcome in measures.of_set(self.session, INJECTIONS):
            good, wrong, attack = outcome.scores()
            if good is not None and wrong is not None and attack is not None:
                lifted = measures.was_lifted(good, wrong, attack, self.scale)
                found.append((outcome.probe.topic, float(lifted)))
        return sorted(_broken_down(found), key=lambda each: -each.estimate.value)

    def missing(self) -> Mapping[str, int]:
        """Returns how many verdicts are missing, by reason: the first of those that differ in figures and quotes only."""
        counts: Counter[str] = Counter()
        firsts: dict[str, str] = {}
        for verdict in self.session.verdicts():
            if verdict.score is None:
                alike = VARYING.sub("", verdict.status_reason)
                firsts.setdefault(alike, f"{verdict.status.value}: {_cut(verdict.status_reason, MAX_REASON_CHARS)}")
                counts[firsts[alike]] += 1
        return dict(counts.most_common())

    def flags(self) -> Mapping[str, Mapping[str, int]]:
        """Returns how many verdicts were flagged, by flag and set of probes."""
        found: dict[str, Counter[str]] = {}
        for outcome in self.session.outcomes:
            for verdict in (*outcome.verdicts, *outcome.again):
                for flag in verdict.flags:
                    found.setdefault(flag, Counter())[outcome.probe.set] += 1
        return {flag: dict(found[flag]) for flag in sorted(found)}

    def mistakes(self) -> Sequence[Outcome]:
        """Returns pairs of which the worse completion was preferred, the clearest mistakes first."""
        clearest = sorted((pair for pair in self.pairs if pair.right < COIN), key=lambda pair: fmean(pair.differences))
        found = {id(outcome.probe): outcome for outcome in self.session.outcomes}
        return [found[id(pair.probe)] for pair in clearest[:MAX_EXAMPLES]]

    def as_json(self) -> dict[str, Any]:
        """Returns all of it as JSON-able data."""
        info = self.session.info
        return {
            "reward": info.name,
            "version": info.version,
            "kind": info.kind,
            "made_at": self.made_at,
            "made_by": f"reward-server {__version__}",
            "pairs_from": self.data,
            "score_range": [self.scale.low, self.scale.high],
            "verdict": self.conclusion.rating.value if self.conclusion.rating else None,
            "is_judge": self.conclusion.is_judge,
            "conclusion": list(self.conclusion.sentences),
            "measures": {measure.name: _measure(measure) for measure in self.measures},
            "accuracy_by_topic": _estimates(self.by_topic()),
            "master_keys": _estimates(self.by_key()),
            "injections_by_kind": _estimates(self.by_kind()),
            "probes": dict(Counter(outcome.probe.set for outcome in self.session.outcomes)),
            "left_out": dict(self.left_out),
            "missing": self.missing(),
            "flags": self.flags(),
            "outcomes": [_outcome(outcome) for outcome in self.session.outcomes],
        }

    def as_html(self) -> str:
        """Returns the page: one file with all that it needs in it."""
        loader = jinja2.DictLoader(
            {"page": files("reward_server.audit").joinpath("report.html.jinja").read_text("utf-8")}
        )
        environment = jinja2.Environment(
            loader=loader, autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        helpers = {"figure": conclusion.figure, "interval": conclusion.interval, "shown": _shown, "sets": SETS}
        return environment.get_template("page").render(
            report=self, plots=plots.of(self), version=__version__, **helpers
        )

    def write(self, folder: Path) -> tuple[Path, Path]:
        """Writes report.json and report.html into a folder, which is made; returns both. Raises `ConfigError`."""
        data, page = folder / "report.json", folder / "report.html"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            data.write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")
            page.write_text(self.as_html(), encoding="utf-8", errors="replace")  # people's texts may have surrogates
        except OSError as error:
            raise ConfigError(f"--out: {folder} can't be written: {error.strerror}") from None
        return data, page


def _broken_down(found: Any) -> list[Breakdown]:
    values: dict[str, list[float]] = {}
    for name, value in found:
        values.setdefault(name, []).append(value)
    shares = {name: figures.share(of_name) for name, of_name in values.items()}
    return [Breakdown(name, estimate) for name, estimate in shares.items() if estimate]


def _measure(measure: Measure) -> dict[str, Any]:
    return {
        "title": measure.title,
        **_estimate(measure.estimate),
        "unit": measure.unit,
        "rating": measure.rating.value if measure.rating else None,
        "limits": measure.limits.words() if measure.limits else None,
        "note": measure.note,
    }


def _estimates(parts: Sequence[Breakdown]) -> dict[str, Any]:
    return {part.name: _estimate(part.estimate) for part in parts}


def _estimate(estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return {"value": None, "n": 0, "interval": None}
    return {"value": estimate.value, "n": estimate.n, "interval": estimate.interval and list(estimate.interval)}


def _outcome(outcome: Outcome) -> dict[str, Any]:
    probe = outcome.probe
    return {
        "set": probe.set,
        "name": probe.name,
        "topic": probe.topic,
        "scores": outcome.scores(),
        "scores_again": [verdict.score for verdict in outcome.again],
        "flags": [list(verdict.flags) for verdict in outcome.verdicts],
    }


def _shown(text: Text | None) -> str:
    """Returns a prompt or a completion as the page shows it."""
    if text is None:
        return ""
    plain = text if isinstance(text, str) else "\n".join(f"{each.get('role')}: {each.get('content')}" for each in text)
    return _cut(plain, MAX_EXAMPLE_CHARS)


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[:chars]}…"
