"""What a person looks at after a run: one HTML page that needs nothing else, and the reward curves as a picture."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2

from trainer import charts, report_parts
from trainer.history import EDGE_STEPS, History, reward_key
from trainer.progress import duration, number
from trainer.runs import RunFolder, RunRecord
from trainer.samples import Sample
from trainer.watching import kept

TEMPLATES = Path(__file__).parent

WEIGHTED_SUM = "reward"
"""TRL's name for the weighted sum of all rewards, which is what the policy is trained on."""

TOO_LITTLE = 0.005
"""A change that rounds to 0.00 is shown as neither up nor down."""


def write(folder: RunFolder) -> None:
    """Writes the curves and the report from what the run's folder holds; of a run that broke off, what there is."""
    record, history = folder.read_record(), History.read(folder.metrics)
    curves = [(title, history.series(key)) for title, key in metrics(record)]
    charts.write_png(folder.curves, [curve for curve in curves if curve[1]])
    before, after = folder.read_samples()
    page = template("report.html.jinja").render(
        name=folder.path.name,
        record=record,
        history=history,
        when=_when(record),
        edge=EDGE_STEPS,
        rewards=[_reward_row(title, key, record, history) for title, key in metrics(record)],
        curves=[{"title": title, "svg": charts.svg_curve(title, points)} for title, points in curves],
        samples=_pairs(before, after),
        missing=_missing(record, history),
        flagged=_flagged(record, history),
        advice=record.advice,
        warnings=report_parts.warnings(kept.read(folder.path)),
        signs=report_parts.signs(history),
        kl_is_measured=bool(history.series("kl")),
        times=report_parts.times(history),
        last_completions=report_parts.last_completions(folder.path),
        changed=report_parts.version_changes(record, history),
    )
    folder.report.write_text(page, encoding="utf-8", errors="replace")


def template(name: str) -> jinja2.Template:
    """Returns one of the pages; what is put into it is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(name)


def _when(record: RunRecord) -> str:
    """Returns when the run was and how long it took, as far as is known."""
    started = dt.datetime.fromisoformat(record.started)
    when = f"{started:%Y-%m-%d %H:%M} UTC{started:%z}".removesuffix("+0000")
    if record.starts[1:]:
        when += f", resumed after step {', '.join(str(start.step) for start in record.starts[1:])}"
    if not record.ended:
        return when
    return f"{when}, {duration((dt.datetime.fromisoformat(record.ended) - started).total_seconds())}"


def metrics(record: RunRecord) -> list[tuple[str, str]]:
    """Returns (title, key in the metrics) of each reward, and of their weighted sum if there are several."""
    rewards = [(reward.name, reward_key(reward.name)) for reward in record.rewards]
    return [*rewards, ("weighted sum", WEIGHTED_SUM)] if len(rewards) > 1 else rewards


def _reward_row(title: str, key: str, record: RunRecord, history: History) -> dict[str, Any]:
    reward = next((each for each in record.rewards if reward_key(each.name) == key), None)
    first, last = history.first(key), history.last(key)
    change = None if first is None or last is None else last - first
    return {
        "name": title,
        "description": reward.description if reward else "what the model was trained on",
        "weight": f"{reward.weight:g}" if reward else "",
        "source": f"{reward.kind}, {reward.source}" if reward else "",
        "first": number(first),
        "last": number(last),
        "change": number(change, sign=True),
        "held_out": _held_out(history.evaluated(key)),
        "spread": number(None if reward is None else history.last(f"rewards/{reward.name}/group_std")),
        "direction": "" if change is None or abs(change) < TOO_LITTLE else "up" if change > 0 else "down",
    }


def _held_out(points: Sequence[tuple[int, float]]) -> str:
    """Returns what the evaluation split got in the first evaluation, and in the last."""
    return " → ".join(number(value) for _, value in [*points[:1], *points[1:][-1:]])


def _pairs(before: Sequence[Sample], after: Sequence[Sample]) -> list[dict[str, Any]]:
    return [
        {"prompt": (old or new).prompt, "before": old, "after": new}
        for old, new in itertools.zip_longest(before, after)
    ]


def _missing(record: RunRecord, history: History) -> list[dict[str, Any]]:
    """Returns how many verdicts of each reward were missing over the run, if any were."""
    counts = ((reward.name, history.total(f"rewards/{reward.name}/missing")) for reward in record.rewards)
    return [{"name": name, "count": f"{count:.0f}"} for name, count in counts if count]


def _flagged(record: RunRecord, history: History) -> list[dict[str, Any]]:
    """Returns how many verdicts of each reward bore each flag over the run."""
    return [
        {"name": reward.name, "flag": flag, "count": f"{count:.0f}"}
        for reward in record.rewards
        for flag, count in history.flag_totals(reward.name).items()
    ]
