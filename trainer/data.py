"""Prompts from files, the hub or the configuration itself, in the shape that TRL trains on.

A row out of here has `prompt`, a text or a conversation, and the data set's other columns. Nothing here needs torch.
"""

from __future__ import annotations

import difflib
import itertools
import json
import random
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protos.configfile import proposals
from trainer.config import DataError, DataSettings, TrainConfig

if TYPE_CHECKING:
    import datasets

Row = dict[str, Any]

TRL_KEYWORDS = ("prompts", "completion", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
"""What TRL itself passes to reward functions: columns of these names would collide with it, so they are left out."""

LIKELY_PROMPT_COLUMNS = ("question", "problem", "instruction", "input", "query", "prompts", "messages", "text")


def prompt_rows(config: TrainConfig, *, has_chat_template: bool = True) -> Iterator[Row]:
    """Yields the rows to train on. Raises `DataError`, naming file and line or column, at the first that is wrong.

    `has_chat_template` says whether the model's tokenizer can take conversations.
    """
    data = config.data
    conversational = _conversational(data, has_chat_template=has_chat_template)
    rows = itertools.islice(raw_rows(config), data.limit)
    for number, row in enumerate(rows, start=1):
        try:
            yield _prompt_row(row, data, conversational=conversational)
        except DataError as error:
            raise DataError(f"{source_name(data)}: row {number}: {error}") from None


def datasets_of(config: TrainConfig, *, has_chat_template: bool) -> tuple[datasets.Dataset, datasets.Dataset | None]:
    """Returns the prompts to train on, and those to evaluate if a split is configured, as GRPOTrainer takes them.

    Raises:
        DataError: Something is wrong in one of them, or a share holds out all or nothing.
    """
    rows = _all_rows(config, has_chat_template=has_chat_template)
    held_out = _all_rows(evaluated, has_chat_template=has_chat_template) if (evaluated := evaluation(config)) else []
    if config.data.eval_share is not None:
        rows, held_out = _split(rows, config.data.eval_share, config.run.seed)
        held_out = held_out[: config.data.eval_limit]
    return _dataset(rows, config), _dataset(held_out, config) if held_out else None


def evaluation(config: TrainConfig) -> TrainConfig | None:
    """Returns a configuration that reads the evaluation split in place of the prompts, None if it is no source of its own."""
    data = config.data
    if data.eval_path is not None:
        source: dict[str, Any] = {"path": data.eval_path, "hub_id": None, "prompts": None}
    elif data.eval_split is not None:
        source = {"split": data.eval_split}
    else:
        return None
    return replace(config, data=data.model_copy(update={**source, "limit": data.eval_limit}))


def _all_rows(config: TrainConfig, *, has_chat_template: bool) -> list[Row]:
    rows = list(prompt_rows(config, has_chat_template=has_chat_template))
    if not rows:
        raise DataError(f"{source_name(config.data)}: holds no prompt")
    return rows


def held_out_count(total: int, share: float) -> int:
    """Returns how many of so many prompts are only evaluated. Raises `DataError` where that leaves a side without any."""
    count = round(total * share)
    if not 0 < count < total:
        raise DataError(f"data.eval_share: {share:g} of {total} prompts holds out {count}; some must be on both sides")
    return count


def _split(rows: list[Row], share: float, seed: int) -> tuple[list[Row], list[Row]]:
    """Returns the rows that stay and those held out, each in their order."""
    count = held_out_count(len(rows), share)
    chosen = set(random.Random(seed).sample(range(len(rows)), count))  # noqa: S311  # no secret
    stay = [row for index, row in enumerate(rows) if index not in chosen]
    return stay, [row for index, row in enumerate(rows) if index in chosen]


def _dataset(rows: list[Row], config: TrainConfig) -> datasets.Dataset:
    import datasets  # noqa: PLC0415  # takes a second to import

    names = dict.fromkeys(name for row in rows for name in row)
    try:
        return datasets.Dataset.from_dict({name: [row.get(name) for row in rows] for name in names})
    except UnicodeEncodeError as error:
        raise DataError(
            f"{source_name(config.data)}: a text holds half a character (a lone surrogate): {error}"
        ) from None
    except (ValueError, TypeError) as error:  # pyarrow's errors are of these
        raise DataError(f"{source_name(config.data)}: a column holds values of different types: {error}") from None


def raw_rows(config: TrainConfig) -> Iterator[Row]:
    """Yields the rows as they stand at their source, unlimited."""
    data = config.data
    if data.prompts is not None:
        return ({data.prompt_column: prompt} for prompt in data.prompts)
    if data.hub_id is not None:
        return _hub_rows(data)
    path = config.at(data.path or "")
    if not path.is_file():
        key = "eval_path" if data.path == data.eval_path else "path"
        raise DataError(f"{path}: there is no such file (data.{key})")
    return _parquet_rows(path) if path.suffix == ".parquet" else jsonl_rows(path)


def source_name(data: DataSettings) -> str:
    """Returns what a person calls the data set."""
    if data.prompts is not None:
        return "data.prompts"
    if data.hub_id is not None:
        return data.hub_id if data.split == "train" else f"{data.hub_id} ({data.split})"
    return str(data.path)


def jsonl_rows(path: Path) -> Iterator[Row]:
    """Yields the objects of a file of JSON lines; empty lines are skipped."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield _json_object(line, f"{path}:{number}")


def _json_object(line: bytes, place: str) -> Row:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: is not UTF-8 text (byte {error.start} of the line)") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{place}: is not JSON: {error.msg} (column {error.colno}); each line is one object") from None
    except RecursionError:
        raise DataError(f"{place}: is nested too deeply") from None
    if not isinstance(row, dict):
        raise DataError(f'{place}: is not an object: write {{"prompt": ...}} on each line')
    return row


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow as pa  # noqa: PLC0415  # only where it is needed
    import pyarrow.parquet as pq  # noqa: PLC0415

    try:
        for batch in pq.ParquetFile(path).iter_batches(batch_size=1024):
            yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read as parquet: {error}") from None


def _hub_rows(data: DataSettings) -> Iterator[Row]:
    import datasets  # noqa: PLC0415  # takes a second to import

    try:
        found = datasets.load_dataset(data.hub_id, data.config, split=data.split)
    except Exception as error:  # the library raises what its back ends do
        raise DataError(
            f"{data.hub_id}: cannot be loaded from the hub: {error} (data.hub_id; data.config and data.split say which "
            "part of it; without a network, name a file with data.path)"
        ) from error
    yield from found


def _conversational(data: DataSettings, *, has_chat_template: bool) -> bool:
    """Decides whether texts become conversations."""
    asked_by = "data.conversational: true" if data.conversational is True else "data.system_prompt"
    wanted = data.conversational is True or data.system_prompt is not None
    if wanted and not has_chat_template:
        raise DataError(
            f"{asked_by} needs a chat template, and the model's tokenizer has none: see model.chat_template"
        )
    if data.system_prompt is not None and data.conversational is False:
        raise DataError("data.system_prompt makes conversations, and data.conversational is false: drop one of them")
    return has_chat_template if data.conversational == "auto" else data.conversational


def _prompt_row(row: Row, data: DataSettings, *, conversational: bool) -> Row:
    if data.prompt_column not in row:
        raise DataError(_missing_prompt(row, data.prompt_column))
    columns = {name: value for name, value in row.items() if name not in {*TRL_KEYWORDS, "prompt"}}
    for name, source in data.columns.items():
        if source not in row:
            raise DataError(f"data.columns.{name}: no column {source!r}{proposals(source, row)}")
        columns[name] = row[source]
    return {**columns, "prompt": _prompt(row, data, conversational=conversational)}


def _prompt(row: Row, data: DataSettings, *, conversational: bool) -> str | list[Row]:
    prompt = row[data.prompt_column]
    if isinstance(prompt, str):
        text = prompt if data.prompt_template is None else _filled(data.prompt_template, row, prompt)
        if not conversational:
            return text
        messages = [{"role": "user", "content": text}]
    elif is_conversation(prompt):
        if data.prompt_template is not None:
            raise DataError("data.prompt_template takes texts, and this prompt is a conversation")
        messages = prompt
    else:
        raise DataError(
            f"column {data.prompt_column!r} should hold a text or a list of messages "
            f'[{{"role": "user", "content": ...}}], not {str(prompt)[:60]!r}'
        )
    if data.system_prompt is not None and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": data.system_prompt}, *messages]
    return messages


def is_conversation(value: Any) -> bool:
    """Returns whether a value is a list of messages."""
    return (
        isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) and "role" in each for each in value)
    )


def _filled(template: str, row: Row, prompt: str) -> str:
    """Fills `{prompt}` and `{column}` in; other braces stay as they are, so that JSON may stand in a template."""
    values = {**row, "prompt": prompt}

    places = re.compile("|".join(rf"\{{{re.escape(name)}\}}" for name in values))
    text, count = places.subn(lambda place: str(values[place[0][1:-1]]), template)
    if not count:
        raise DataError(f"data.prompt_template {template!r} names no column; there is: {', '.join(values)}")
    return text


def _missing_prompt(row: Row, wanted: str) -> str:
    likely = next((name for name in LIKELY_PROMPT_COLUMNS if name in row), None)
    close = next(iter(difflib.get_close_matches(wanted, row, n=1)), likely)
    guess = f"; probably meant: data.prompt_column: {close}" if close else ""
    return f"no column {wanted!r} (data.prompt_column); there is: {', '.join(row) or 'none'}{guess}"
