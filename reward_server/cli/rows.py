"""A file of prompts and completions, JSON lines, read and checked as a whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reward_server.domain import Sample, Verdict
from reward_server.errors import MalformedRequest

STDIN: Final = Path("-")
MAX_PROBLEMS: Final = 20
"""So many bad lines are named one by one."""

MAX_SHOWN_CHARS: Final = 60
VERDICTS: Final = "verdicts"
"""The key under which a scored line carries its verdicts; no column, so that such a file can be scored again."""
TOKEN_COUNT: Final = "completion_token_count"  # noqa: S105  # no secret
TOKEN_IDS: Final = "completion_ids"  # noqa: S105  # no secret
"""The completion's tokens, where they are to be counted here; functions may read them too, as TRL's do."""

NO_COLUMNS: Final = frozenset({"prompt", "completion", TOKEN_COUNT, VERDICTS})


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the file."""

    fields: Mapping[str, Any]
    sample: Sample
    line: int  # where it stands, from 1


def read_rows(path: Path) -> list[Row]:
    """Returns the file's lines; "-" is stdin. Raises `MalformedRequest` that names every bad one by file and line."""
    read: list[tuple[int, dict[str, Any]]] = []
    problems: list[str] = []
    for number, line in _lines(path):
        try:
            read.append((number, _fields(line)))
        except MalformedRequest as error:
            problems.append(f"{path}:{number}: {error}")
    if problems:
        raise MalformedRequest(listed(path, problems))
    if not read:
        raise MalformedRequest(f'{path}: holds no samples: one JSON object a line, such as {{"completion": "Hello."}}')
    columns = tuple(dict.fromkeys(key for _, fields in read for key in fields if key not in NO_COLUMNS))
    rows: list[Row] = []
    for number, fields in read:
        rows.append(Row(fields, _sample(fields, columns, rows), number))
    return rows


def listed(path: Path, problems: Sequence[str]) -> str:
    """Returns problems one a line, and not without end."""
    more = len(problems) - MAX_PROBLEMS
    return "\n".join(problems[:MAX_PROBLEMS]) + (f"\n{path}: ... and {more} more" if more > 0 else "")


def batches(rows: Sequence[Row], size: int) -> Iterator[list[int]]:
    """Yields positions of rows, `size` at a time or more: a group is never parted."""
    batch: list[int] = []
    for index, row in enumerate(rows):
        if len(batch) >= size and row.sample.group != rows[index - 1].sample.group:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """Returns a verdict as JSON-able data."""
    return {
        "score": verdict.score,
        "status": verdict.status.value,
        "reason": verdict.status_reason,
        "explanation": verdict.explanation,
        "parts": dict(verdict.parts),
        "flags": list(verdict.flags),
    }


def short(text: str) -> str:
    """Returns a text as a table or a message can show it: cut, and without what would move a terminal's cursor."""
    shown = "".join(char if char.isprintable() else "\ufffd" for char in text[:MAX_SHOWN_CHARS])
    return shown if len(text) <= MAX_SHOWN_CHARS else f"{shown}..."


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yields the number, from 1, and the bytes of each line that is not blank."""
    try:
        with sys.stdin.buffer if path == STDIN else path.open("rb") as stream:
            for number, line in enumerate(stream, start=1):
                if stripped := line.strip():
                    yield number, stripped
    except OSError as error:
        raise MalformedRequest(f"{path}: can't be read: {error.strerror}") from None


def _fields(line: bytes) -> dict[str, Any]:
    """Returns a line's object. Raises `MalformedRequest` that says what is wrong with it."""
    try:
        fields = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"is not UTF-8 (byte 0x{line[error.start]:02x} at column {error.start + 1})") from None
    except json.JSONDecodeError as error:
        raise MalformedRequest(f"is no JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise MalformedRequest("is nested too deeply") from None
    if not isinstance(fields, dict):
        example = '{"prompt": "...", "completion": "..."}'
        raise MalformedRequest(f"is no JSON object such as {example}, found {short(json.dumps(fields))}")
    if "completion" not in fields:
        raise MalformedRequest(f"has no key 'completion'; it has: {', '.join(fields) or 'none'}")
    for key in ("prompt", "completion"):
        value = fields.get(key, "")
        if not (_is_text(value) or (key == "prompt" and value is None)):
            wanted = 'a text or a list of messages such as [{"role": "user", "content": "Hello."}]'
            raise MalformedRequest(f"its {key} must be {wanted}, found {short(json.dumps(value))}")
    _token_count(fields)
    return fields


def _token_count(fields: Mapping[str, Any]) -> int | None:
    """Returns how many tokens the completion has, None where nothing says so. Raises `MalformedRequest`."""
    ids, count = fields.get(TOKEN_IDS), fields.get(TOKEN_COUNT)
    if ids is not None and not (isinstance(ids, list) and all(type(each) is int for each in ids)):
        raise MalformedRequest(f"its {TOKEN_IDS} must be a list of whole numbers, found {short(json.dumps(ids))}")
    if count is not None and not (type(count) is int and count >= 0):
        raise MalformedRequest(f"its {TOKEN_COUNT} must be a whole number, found {short(json.dumps(count))}")
    if ids is not None and count is not None and len(ids) != count:
        raise MalformedRequest(f"its {TOKEN_COUNT} is {count}, but it has {len(ids)} {TOKEN_IDS}: keep one of them")
    return len(ids) if ids is not None else count


def _is_text(value: Any) -> bool:
    """Returns whether a value is a plain text or a conversation."""
    if isinstance(value, list):
        return all(isinstance(message, dict) and isinstance(message.get("role"), str) for message in value)
    return isinstance(value, str)


def _sample(fields: Mapping[str, Any], columns: Sequence[str], before: Sequence[Row]) -> Sample:
    """Returns a line's sample: of columns that only other lines have it has None, as in a dataset.

    Completions of one prompt that follow one another are a group, as trainers send them.
    """
    prompt = fields.get("prompt")
    group = 0
    if before:
        last = before[-1].sample
        group = last.group if prompt is not None and prompt == last.prompt else last.group + 1
    values = {column: fields.get(column) for column in columns}
    return Sample(fields["completion"], prompt, values, group, _token_count(fields))
