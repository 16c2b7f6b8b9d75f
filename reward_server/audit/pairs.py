"""Reads people's own preference pairs, in the formats that are common, and names every line that is none.

`{"prompt", "chosen", "rejected"}`, texts or conversations; the prompt may be the common beginning of both conversations.
`{"input", "output_1", "output_2", "label"}`, where the label names the better one: 1 or 2, 0 or 1, or "output_1".
A file is JSON lines, or one JSON array. Every other key is a column.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from reward_server.audit.probes import PAIRS, Probe
from reward_server.domain import Message, Text
from reward_server.errors import MalformedRequest

MAX_PROBLEMS: Final = 20
MAX_SHOWN_CHARS: Final = 60
TOPIC_KEYS: Final = ("topic", "subset", "category")
BLANKS: Final = re.compile(r"[\s,]*")
CHOSEN_KEYS: Final = frozenset({"prompt", "chosen", "rejected"})
LABEL_KEYS: Final = frozenset({"input", "output_1", "output_2", "label"})
NAMED: Final = {"output_1": 0, "output_2": 1}


@dataclass(frozen=True, slots=True)
class Entry:
    """One object of the file."""

    line: int  # where it begins, from 1
    value: Any


def read_pairs(path: Path, first_label: int | None = None) -> list[Probe]:
    """Returns the pairs of a file.

    Args:
        path: JSON lines or a JSON array, UTF-8.
        first_label: the label that means `output_1`, 0 or 1; None: the one that the file's labels leave open.

    Raises:
        MalformedRequest: the file can't be read, or lines of it are no pairs: each is named by file and line.
    """
    problems: list[tuple[int, str]] = []
    entries = list(_entries(path, problems))
    if first_label is None:
        first_label = _first_label(path, entries)
    pairs = []
    for entry in entries:
        try:
            pairs.append(_pair(entry, first_label))
        except MalformedRequest as error:
            problems.append((entry.line, str(error)))
    if problems:
        lines = [f"{path}:{line}: {what}" for line, what in sorted(problems, key=lambda problem: problem[0])]
        more = len(lines) - MAX_PROBLEMS
        rest = [f"{path}: ... and {more} more"] if more > 0 else []
        raise MalformedRequest("\n".join(lines[:MAX_PROBLEMS] + rest))
    if not pairs:
        example = '{"prompt": "...", "chosen": "...", "rejected": "..."}'
        raise MalformedRequest(f"{path}: holds no pairs: one JSON object a line, such as {example}")
    return pairs


def _entries(path: Path, problems: list[tuple[int, str]]) -> Iterator[Entry]:
    """Yields the file's objects; what is no JSON it adds to the problems."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise MalformedRequest(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"{path}: is not UTF-8 (at byte {error.start})") from None
    read = _of_array if text.lstrip().startswith("[") else _of_lines
    yield from read(text, lambda line, what: problems.append((line, what)))


def _of_lines(text: str, complain: Callable[[int, str], None]) -> Iterator[Entry]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield Entry(number, json.loads(line))
        except (json.JSONDecodeError, RecursionError) as error:
            complain(number, _no_json(error))


def _of_array(text: str, complain: Callable[[int, str], None]) -> Iterator[Entry]:
    """Reads the elements one by one, so that each is known by its line."""
    decoder, at = json.JSONDecoder(), text.index("[") + 1
    while True:
        at = _after_blanks(text, at)
        if text.startswith("]", at):
            return
        line = text.count("\n", 0, at) + 1
        try:
            value, at = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            complain(getattr(error, "lineno", line), _no_json(error))
            return
        yield Entry(line, value)


def _after_blanks(text: str, at: int) -> int:
    found = BLANKS.match(text, at)
    return found.end() if found else at


def _no_json(error: json.JSONDecodeError | RecursionError) -> str:
    return (
        f"is no JSON: {error.msg} at column {error.colno}" if isinstance(error, ValueError) else "is nested too deeply"
    )


def _first_label(path: Path, entries: list[Entry]) -> int:
    """Returns the number that means `output_1`: a 0 or a 2 anywhere in the file tells. Raises if nothing does."""
    labels = {
        str(entry.value["label"]).strip()
        for entry in entries
        if isinstance(entry.value, dict) and "label" in entry.value
    }
    if labels == {"1"}:
        raise MalformedRequest(
            f"{path}: every label is 1, which may mean output_1 (of 1 and 2) or output_2 (of 0 and 1): "
            "say the first one's label, --first-label 1 or --first-label 0"
        )
    return 0 if "0" in labels else 1


def _pair(entry: Entry, first_label: int) -> Probe:
    """Returns a line's pair. Raises `MalformedRequest` that says what is wrong with it."""
    fields = entry.value
    if not isinstance(fields, dict):
        raise MalformedRequest(f"is no JSON object: {_short(fields)}")
    if fields.keys() & {"chosen", "rejected"}:
        used, prompt, both = CHOSEN_KEYS, *_chosen(fields)
    elif fields.keys() & {"output_1", "output_2"}:
        used, prompt, both = LABEL_KEYS, *_labelled(fields, first_label)
    else:
        known = "prompt, chosen, rejected or input, output_1, output_2, label"
        raise MalformedRequest(f"is no pair: it has the keys {', '.join(fields) or 'none'}, and needs {known}")
    if both[0] == both[1]:
        raise MalformedRequest("both completions are the same text")
    topic = next((fields[key] for key in TOPIC_KEYS if isinstance(fields.get(key), str)), "all")
    columns = {key: value for key, value in fields.items() if key not in used}
    return Probe(PAIRS, f"line {entry.line}", topic, prompt, both, columns)


def _chosen(fields: Mapping[str, Any]) -> tuple[Text | None, tuple[Text, Text]]:
    """Returns prompt and completions, the better one first."""
    prompt, better, worse = _text(fields, "prompt"), _there(fields, "chosen"), _there(fields, "rejected")
    if prompt is None and isinstance(better, list) and isinstance(worse, list):
        count = _common_count(better, worse)
        return better[:count] or None, (better[count:], worse[count:])
    return prompt, (better, worse)


def _labelled(fields: Mapping[str, Any], first_label: int) -> tuple[Text | None, tuple[Text, Text]]:
    """Returns prompt and completions, the better one first."""
    outputs = _there(fields, "output_1"), _there(fields, "output_2")
    at = _better(fields, first_label)
    return _text(fields, "input"), (outputs[at], outputs[1 - at])


def _common_count(first: list[Message], second: list[Message]) -> int:
    """Returns how many messages two conversations begin with alike, their last ones excepted."""
    count = 0
    while count < min(len(first), len(second)) - 1 and first[count] == second[count]:
        count += 1
    return count


def _text(fields: Mapping[str, Any], key: str) -> Text | None:
    value = fields.get(key)
    conversation = isinstance(value, list) and all(
        isinstance(message, dict) and isinstance(message.get("role"), str) for message in value
    )
    if value is None or isinstance(value, str) or conversation:
        return value
    raise MalformedRequest(f"its {key} must be a text or a list of messages, found {_short(value)}")


def _there(fields: Mapping[str, Any], key: str) -> Text:
    text = _text(fields, key)
    if text is None:
        raise MalformedRequest(f"has no key '{key}'")
    return text


def _better(fields: Mapping[str, Any], first_label: int) -> int:
    """Returns which output is the better one, 0 or 1."""
    label = fields.get("label")
    text = "" if isinstance(label, bool) else str(label).strip()
    if text in NAMED:
        return NAMED[text]
    if text in (str(first_label), str(first_label + 1)):
        return int(text) - first_label
    raise MalformedRequest(
        f"its label must be {first_label} or {first_label + 1}, output_1 or output_2, found {_short(label)}"
    )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."
