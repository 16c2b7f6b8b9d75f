"""What the report shows beside rewards: signs of trouble, where the time goes, warnings, the last completions."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainer import charts
from trainer.history import History, is_number
from trainer.progress import number
from trainer.runs import RunRecord
from trainer.samples import readable

SIGNS = (
    ("groups that teach nothing", ("watch/zero_variance", "frac_reward_zero_std")),
    ("length with reward", ("watch/length_correlation",)),
    ("length, tokens", ("completions/mean_length",)),
    ("cut off", ("completions/clipped_ratio",)),
    ("copies within groups", ("watch/duplicates",)),
    ("KL, nats a token", ("kl",)),
    ("entropy, nats a token", ("entropy",)),
    ("gradient norm", ("grad_norm",)),
)
"""What is drawn besides the rewards, by title; the first metric that a run has."""

CALLS = (
    ("a call, as seen from the trainer", "reward_server/call_s"),
    ("of it on the wire", "wire"),
    ("a verdict's wait in the queue", "reward_server/queue_s"),
    ("a question to a judge's model", "reward_server/judge_s"),
)

COMPLETIONS_SHOWN = 4
MAX_CHARS = 2000

TABLE_COLUMNS = frozenset({"step", "prompt", "completion", "advantage"})
"""Of TRL's table of completions; the others are rewards, and what reward functions had to say."""

REASON = "/reason"


def signs(history: History) -> list[dict[str, Any]]:
    """Returns a small curve for each sign that the run has."""
    found = []
    for title, keys in SIGNS:
        for key in keys:
            if points := history.series(key):
                found.append({"title": title, "key": key, "svg": charts.svg_curve(title, points)})
                break
    return found


def times(history: History) -> dict[str, Any]:
    """Returns how long a step took and for what, and what a call to a reward server consists of; means over the run."""
    step_s = _mean(history, "time/step_s") or _mean(history, "step_time")
    parts = []
    if step_s:
        known = {"generation": _mean(history, "time/generate_s"), "rewards": _mean(history, "time/rewards_s")}
        spent = {name: min(seconds, step_s) for name, seconds in known.items() if seconds is not None}
        if spent:
            spent["training and the rest"] = max(0.0, step_s - sum(spent.values()))
        parts = [
            {
                "name": name,
                "seconds": f"{seconds:.2f} s",
                "share": f"{100 * seconds / step_s:.2f}",
                "percent": f"{seconds / step_s:.0%}",
            }
            for name, seconds in spent.items()
        ]
    return {"step": f"{step_s or 0:.2f} s", "parts": parts, "calls": _calls(history)}


def _calls(history: History) -> list[tuple[str, str]]:
    call_s, server_s = _mean(history, "reward_server/call_s"), _mean(history, "reward_server/server_s")
    wire_s = None if call_s is None or server_s is None else max(0.0, call_s - server_s)
    values = [(title, wire_s if key == "wire" else _mean(history, key)) for title, key in CALLS]
    said = [(title, f"{value:.3f} s") for title, value in values if value is not None]
    attempts = _mean(history, "reward_server/attempts")
    return [*said, *([("attempts a call", f"{attempts:.2f}")] if attempts is not None and attempts > 1 else [])]


def warnings(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns a run's warnings as the page shows them, notes last; of one that was told again, the last and worst."""
    steps: dict[tuple[Any, Any], list[str]] = {}
    last: dict[tuple[Any, Any], dict[str, Any]] = {}
    for row in rows:
        key = (row.get("illness"), row.get("subject"))
        steps.setdefault(key, []).append(str(row.get("step", "?")))
        last[key] = row
    shown = [
        {
            "illness": row.get("illness", ""),
            "steps": ", again ".join(steps[key]),
            "seen": row.get("seen", ""),
            "why": row.get("why", ""),
            "is_note": row.get("level") == "note",
            "remedies": [_remedy(each) for each in row.get("remedies", ())],
        }
        for key, row in last.items()
    ]
    return sorted(shown, key=lambda row: row["is_note"])


def _remedy(remedy: Mapping[str, str]) -> str:
    if not remedy.get("setting"):
        return remedy.get("why", "")
    why = f" ({remedy['why']})" if remedy.get("why") else ""
    return f"{remedy['setting']}: {remedy.get('present')} → {remedy.get('next')}{why}"


def version_changes(record: RunRecord, history: History) -> list[dict[str, Any]]:
    """Returns which rewards became others in the run, and when."""
    told: list[tuple[Any, Mapping[str, str]]] = [
        (0, {each.name: each.version for each in record.rewards if each.version})
    ]
    told += [(row["step"], row["versions"]) for row in history.rows if isinstance(row.get("versions"), dict)]
    return [
        {"name": name, "step": step, "version": version}
        for (_, before), (step, after) in itertools.pairwise(told)
        for name, version in after.items()
        if before.get(name, version) != version
    ]


def last_completions(folder: Path) -> dict[str, Any]:
    """Returns some completions of the last step that TRL kept (`log_completions`), those with most to tell apart first."""
    files = sorted((folder / "completions").glob("completions_*.parquet"))
    if not files:
        return {"step": None, "rows": []}
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415  # a tenth of a second

        rows = pq.read_table(files[-1]).to_pylist()
    except Exception:  # noqa: BLE001  # a file that was cut off: the report goes on without
        return {"step": None, "rows": []}
    rows.sort(key=lambda row: -abs(row["advantage"]) if is_number(row.get("advantage")) else 0.0)
    step = rows[0].get("step") if rows else None
    return {"step": step, "rows": [_completion(row) for row in rows[:COMPLETIONS_SHOWN]]}


def _completion(row: Mapping[str, Any]) -> dict[str, Any]:
    others = {name: value for name, value in row.items() if name not in TABLE_COLUMNS}
    scores = [
        (name, number(value) if is_number(value) else "missing") for name, value in others.items() if _is_score(value)
    ]
    reasons = [(name.removesuffix(REASON), value) for name, value in others.items() if isinstance(value, str) and value]
    return {
        "prompt": _text(row.get("prompt")),
        "completion": _text(row.get("completion")),
        "scores": [*scores, ("advantage", number(row.get("advantage")))],
        "reasons": reasons,
    }


def _is_score(value: Any) -> bool:
    return value is None or isinstance(value, (int, float))


def _text(value: Any) -> str:
    try:
        text = readable(value)
    except (AttributeError, TypeError, KeyError, IndexError):
        text = str(value)
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]} …"


def _mean(history: History, key: str) -> float | None:
    values = [value for _, value in history.series(key)]
    return sum(values) / len(values) if values else None
