"""Reads a YAML configuration so that every mistake can be told by file, line and key.

Both sides have a configuration file and share nothing but this package, so the way to read one lives here, beside the
contract. It knows nothing of what a configuration means.

    document = read(Path("server.yaml"))
    config = validated(document, ServerSettings)   # or all mistakes in one ConfigFileError

A problem reads `server.yaml:12: rewards.brevity.length.unti: unknown key; did you mean 'unit'? known: steps, unit`.
"""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Keys = tuple[str | int, ...]
Model = TypeVar("Model", bound=BaseModel)

MAX_NODES = 200_000
"""Values in one file, aliases counted as often as they are used: a bomb of nested aliases ends here."""

MAX_DEPTH = 64


class ConfigFileError(Exception):
    """The file is wrong. `problems` holds a line for each mistake."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True)
class Document:
    """A configuration file as plain data, and where in the file each key stands."""

    path: Path
    data: Mapping[str, Any]
    lines: Mapping[Keys, int]

    def line_of(self, keys: Sequence[str | int]) -> int:
        """Returns the line of a key, or of the nearest key around it that is in the file."""
        for end in range(len(keys), 0, -1):
            if (line := self.lines.get(tuple(keys[:end]))) is not None:
                return line
        return 1

    def problem(self, keys: Sequence[str | int], message: str) -> str:
        """Returns `file:line: dotted.key: message`."""
        dotted = ".".join(str(key) for key in keys)
        return f"{self.path.name}:{self.line_of(keys)}: {dotted + ': ' if dotted else ''}{message}"


def read(path: Path) -> Document:
    """Reads a YAML file whose top level is a mapping. Raises `ConfigFileError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigFileError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigFileError(f"{path}: this is a folder; name the YAML file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigFileError(f"{path}: not UTF-8 text (byte {error.start}); save the file as UTF-8") from None
    except OSError as error:
        raise ConfigFileError(f"{path}: cannot be read: {error.strerror}") from None
    return parse(text, path)


def parse(text: str, path: Path) -> Document:
    """Parses YAML text that stands in `path`. Raises `ConfigFileError`."""
    reader = _Reader(path)
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if root is None:
            raise ConfigFileError(f"{path.name}:1: the file is empty")
        if not isinstance(root, yaml.MappingNode):
            raise ConfigFileError(f"{path.name}:1: expected `key: value` lines at the top level")
        data = reader.value_of(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path.name}:{mark.line + 1}" if mark else path.name
        column = f" (column {mark.column + 1})" if mark else ""
        raise ConfigFileError(f"{where}: not valid YAML{column}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigFileError(f"{path.name}: not valid YAML: {error}") from None
    except RecursionError:
        raise ConfigFileError(f"{path.name}: nested deeper than {MAX_DEPTH} levels") from None
    if reader.problems:
        raise ConfigFileError(*reader.problems)
    return Document(path, data, reader.lines)


class _Reader:
    """Turns YAML nodes into plain data, noting lines and refusing duplicate keys and alias bombs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Keys, int] = {}
        self.problems: list[str] = []
        self._seen_count = 0
        self._scalars = yaml.SafeLoader("")

    def value_of(self, node: yaml.Node, keys: Keys) -> Any:
        self._seen_count += 1
        line = node.start_mark.line + 1
        if self._seen_count > MAX_NODES:
            raise ConfigFileError(f"{self.path.name}:{line}: more than {MAX_NODES} values (aliases nested in aliases?)")
        if len(keys) > MAX_DEPTH:
            raise ConfigFileError(f"{self.path.name}:{line}: nested deeper than {MAX_DEPTH} levels")
        self.lines.setdefault(keys, line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, keys)
        if isinstance(node, yaml.SequenceNode):
            return [self.value_of(item, (*keys, position)) for position, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, keys: Keys) -> dict[Any, Any]:
        found: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(f"{self.path.name}:{line}: a key must be a plain word")
                continue
            key = self._scalar(key_node)
            if not isinstance(key, (str, int, float)) or isinstance(key, bool):
                key = key_node.value  # `on:` and `null:` are words here
            if key in found:
                dotted = ".".join(map(str, (*keys, key)))
                self.problems.append(f"{self.path.name}:{line}: {dotted}: this key stands here twice; keep one")
            self.lines[(*keys, key)] = line
            found[key] = self.value_of(value_node, (*keys, key))
        return found

    def _scalar(self, node: yaml.Node) -> Any:
        try:
            return self._scalars.construct_object(node, deep=True)
        except ValueError as error:  # for example the date 2026-02-31
            line = node.start_mark.line + 1
            raise ConfigFileError(
                f"{self.path.name}:{line}: {node.value!r}: {error}; quote it if it is a text"
            ) from None


def validated(document: Document, model: type[Model], data: Any = None, keys: Keys = ()) -> Model:
    """Returns `data` (the whole file if absent), found under `keys`, as a `model`. Raises `ConfigFileError`."""
    try:
        return model.model_validate(document.data if data is None else data)
    except ValidationError as error:
        raise ConfigFileError(*problems_of(document, error, model, keys)) from None


def problems_of(document: Document, error: ValidationError, model: type[BaseModel], keys: Keys = ()) -> list[str]:
    """Returns one line for each mistake that pydantic found."""
    return [
        document.problem((*keys, *_keys_in_file(document, keys, detail["loc"])), in_words(detail, model))
        for detail in error.errors(include_url=False)
    ]


def did_you_mean(word: object, known: Iterable[object]) -> str:
    """Returns `; did you mean 'x'? known: x, y`, as far as there is something to say."""
    names = sorted(str(name) for name in known)
    close = difflib.get_close_matches(str(word), names, n=1)
    guess = f"; did you mean '{close[0]}'?" if close else ""
    return f"{guess}{' ' if guess else '; '}known: {', '.join(names)}" if names else guess


def in_words(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """Returns what is wrong and what would be right, without pydantic's vocabulary."""
    kind, found, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key" + did_you_mean(detail["loc"][-1], _fields_at(model, detail["loc"][:-1]))
    if kind == "missing":
        return "this key is missing"
    if kind == "literal_error":
        return f"found {_shown(found)}, expected one of {context.get('expected')}"
    if kind == "enum":
        return f"found {_shown(found)}, expected {context.get('expected')}"
    if kind in {"value_error", "assertion_error"}:
        return str(context.get("error", detail["msg"]))
    return f"found {_shown(found)}: {_EXPECTED.get(kind) or _plain(detail['msg'])}"


_EXPECTED = {
    "string_type": "expected a text",
    "int_type": "expected a whole number",
    "int_parsing": "expected a whole number",
    "int_from_float": "expected a whole number",
    "float_type": "expected a number",
    "float_parsing": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
    "bool_parsing": "expected true or false",
    "list_type": "expected a list",
    "tuple_type": "expected a list",
    "dict_type": "expected `key: value` lines",
    "model_type": "expected `key: value` lines",
    "model_attributes_type": "expected `key: value` lines",
    "mapping_type": "expected `key: value` lines",
}


def _plain(message: str) -> str:
    return message.replace("Input should be", "expected").replace("String should", "the text should")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."  # noqa: PLR2004  # what fits a line


def _keys_in_file(document: Document, prefix: Keys, location: Keys) -> Keys:
    """Drops the parts of pydantic's location that are no keys of the file (tags of unions, `[key]`)."""
    kept: Keys = ()
    last = len(location) - 1
    for position, key in enumerate(location):
        if (*prefix, *kept, key) in document.lines or (position == last and key != "[key]"):
            kept = (*kept, key)
    return kept


def _fields_at(model: type[BaseModel], location: Keys) -> list[str]:
    """Returns the names of the fields that the model has at a location, as far as its annotations tell."""
    here: Any = model
    for key in location:
        fields = _models_in(here)
        inner = next((m.model_fields[str(key)].annotation for m in fields if str(key) in m.model_fields), None)
        here = inner if inner is not None else here
    return sorted({name for found in _models_in(here) for name in found.model_fields})


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    origin = typing.get_origin(annotation)
    if origin is None and not isinstance(annotation, types.UnionType):
        return []
    return [found for argument in typing.get_args(annotation) for found in _models_in(argument)]
