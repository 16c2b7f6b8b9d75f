"""The warnings of a run on disk: one JSON object a line, `warnings.jsonl` in its folder."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

WARNINGS_NAME = "warnings.jsonl"


def read(folder: Path) -> list[dict[str, Any]]:
    """Reads a run's warnings, in order; of a file that was cut off in the middle of a line, all whole lines."""
    path = folder / WARNINGS_NAME
    rows: list[dict[str, Any]] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []:
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if isinstance(row, dict):
            rows.append(row)
    return rows


def keep_until(folder: Path, step: int) -> list[dict[str, Any]]:
    """Drops the warnings of later steps, which a resumed run takes again, and returns the others."""
    rows = read(folder)
    kept = [row for row in rows if row.get("step", 0) <= step]
    if len(kept) < len(rows):
        (folder / WARNINGS_NAME).unlink()
        append(folder, kept)
    return kept


def append(folder: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Adds warnings, on disk at once. Each is a line that any JSON reader takes."""
    lines = [json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows]
    if lines:
        with (folder / WARNINGS_NAME).open("a", encoding="utf-8", errors="replace") as file:
            file.writelines(lines)
