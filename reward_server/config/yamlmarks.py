"""YAML that remembers where everything stands, so that a mistake in a file can be pointed at.

Read is plain data by YAML 1.2's core schema: mappings, lists, text, numbers, true, false and null. `no`, `1:30` and
`2026-01-01` are text, `1e-4` is a number. Aliases are followed, within bounds; tags and merge keys are refused, since
nothing here could mean them. The reader is its own because PyYAML's loaders keep no places, keep the last of two equal
keys without a word, hang on nested aliases and (libyaml's) overflow the stack on deep nesting.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from reward_server.errors import ConfigError

MAX_BYTES = 1 << 20
"""Largest file that is read; a configuration has some kilobytes."""

MAX_DEPTH = 50
"""Deepest nesting that is followed."""

MAX_VALUES = 50_000
"""Most values in a file once its aliases are followed."""

Place = tuple[str | int, ...]
"""Where a value stands: the keys and list positions that lead to it from the top."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # only its parser is used: the C one is 10x faster
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOL = re.compile(r"(true|True|TRUE)|false|False|FALSE")
_INT = re.compile(r"[-+]?[0-9]{1,18}")  # a longer one is a float: no digits are of use there, and int() has a limit
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a value stands in the file, and how it is written there."""

    line: int  # from 1; of the key, or of a list's item
    text: str | None  # a scalar as written, quotes removed; None for mappings and lists


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a file."""

    file: str
    line: int | None
    place: Place
    words: str  # what is wrong, and what would be right

    def __str__(self) -> str:
        where = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{where}: {dotted(self.place)}: {self.words}" if self.place else f"{where}: {self.words}"


@dataclass(slots=True)
class Document:
    """A file's data, where each value of it stands, and what has been found wrong with it."""

    file: str  # as the person named it
    value: Any = None
    marks: dict[Place, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def complain(self, place: Place, words: str) -> None:
        """Notes what is wrong at `place`; where the file lacks it, the line is that of what would hold it."""
        nearest: Place = ()
        for step in place:
            if (*nearest, step) in self.marks:
                nearest = (*nearest, step)
        self.problems.append(Problem(self.file, self.marks[nearest].line if nearest else None, place, words))

    def find(self, place: Place, text: str) -> Place:
        """Returns the first key or scalar below `place` that reads `text`, else `place`."""
        below = (p for p in self.marks if len(p) > len(place) and p[: len(place)] == place)
        return next((p for p in below if p[-1] == text or self.marks[p].text == text), place)


def dotted(place: Place) -> str:
    """Returns a place in one word: `rewards.steps.length.steps[0].below`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).removeprefix(".")


def read(path: Path) -> Document:
    """Reads a file. Raises `ConfigError` for one that can't be read or is no YAML; see also `Document.problems`."""
    return parse(_text_of(path), str(path))


def parse(text: str, file: str) -> Document:
    """Reads YAML text; `file` is its name in messages. Raises `ConfigError` if it is no YAML."""
    if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, unprintable.start()) + 1
        raise ConfigError(f"{file}:{line}: the character {unprintable[0]!r} can't stand in YAML: remove it")
    try:
        tree = _Tree(file, yaml.parse(text, Loader=_LOADER)).whole()
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_words(file, text, error)) from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: is no YAML: {error}") from None
    document = Document(file)
    if tree is not None:
        document.value = _value(tree, (), document)
    return document


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file; `reward-server example` prints one to start from") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; name the YAML file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigError(f"{path}: can't be read: {reason}") from None
    if len(content) > MAX_BYTES:
        raise ConfigError(f"{path}: is larger than {MAX_BYTES >> 20} MiB; a configuration has some kilobytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = content[error.start]
        raise ConfigError(f"{path}:{line}: is not UTF-8 (byte 0x{wrong:02x}): save it as UTF-8") from None


def _syntax_words(file: str, text: str, error: yaml.MarkedYAMLError) -> str:
    mark, begun = error.problem_mark or error.context_mark, error.context_mark
    since = f" (begun in line {begun.line + 1})" if mark and begun and begun.line < mark.line else ""
    said = f"{error.context}{since}, {error.problem}" if error.context else str(error.problem)
    if mark is None:
        return f"{file}: is no YAML: {said}"
    lines = text.split("\n")
    rest = lines[mark.line][mark.column :] if mark.line < len(lines) else ""
    hint = ": a tab, where YAML wants spaces" if rest.startswith("\t") else ""
    return f"{file}:{mark.line + 1}:{mark.column + 1}: is no YAML: {said}{hint}"


@dataclass(slots=True)
class _Node:
    """One value as the parser sees it; exactly one of `text`, `items` and `pairs` is not None."""

    line: int
    tag: str | None = None
    plain: bool = False  # a scalar without quotes: it may be a number
    text: str | None = None
    items: list[_Node] | None = None
    pairs: list[tuple[_Node, _Node]] | None = None


class _Tree:
    """Makes nodes of the parser's events. An alias becomes the very node that its anchor names."""

    def __init__(self, file: str, events: Iterator[Any]) -> None:
        self._file = file
        self._events = events
        self._anchors: dict[str, _Node | None] = {}  # None: begun, not complete

    def whole(self) -> _Node | None:
        """Returns the file's one document, or None if it has none."""
        root: _Node | None = None
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                if root is not None:
                    raise self._error(event, "a second document begins here (---): one file has one")
                root = self._node(next(self._events), 0)
        return root

    def _node(self, event: Any, depth: int) -> _Node:
        if isinstance(event, yaml.AliasEvent):
            return self._anchored(event)
        if depth > MAX_DEPTH:
            raise self._error(event, f"is nested deeper than {MAX_DEPTH} levels")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        node = _Node(event.start_mark.line + 1, tag=event.tag)
        if isinstance(event, yaml.ScalarEvent):
            node.text, node.plain = event.value, event.implicit[0]
        elif isinstance(event, yaml.SequenceStartEvent):
            node.items = [self._node(e, depth + 1) for e in self._until(yaml.SequenceEndEvent)]
        else:
            node.pairs = [
                (self._node(e, depth + 1), self._node(next(self._events), depth + 1))
                for e in self._until(yaml.MappingEndEvent)
            ]
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _until(self, end: type) -> Iterator[Any]:
        while not isinstance(event := next(self._events), end):
            yield event

    def _anchored(self, event: Any) -> _Node:
        if event.anchor not in self._anchors:
            raise self._error(event, f"the alias *{event.anchor} has no anchor &{event.anchor} above it")
        node = self._anchors[event.anchor]
        if node is None:
            raise self._error(event, f"the alias *{event.anchor} stands inside what it names")
        return node

    def _error(self, event: Any, words: str) -> ConfigError:
        mark = event.start_mark
        return ConfigError(f"{self._file}:{mark.line + 1}:{mark.column + 1}: {words}")


def _value(node: _Node, place: Place, document: Document) -> Any:
    """Returns a node as data, all aliases followed, and notes in `document` where everything stands."""
    if len(document.marks) > MAX_VALUES:
        raise ConfigError(f"{document.file}:{node.line}: holds more than {MAX_VALUES} values once aliases are followed")
    if node.tag not in (None, "!", "tag:yaml.org,2002:str"):
        words = f"has the tag {node.tag}: tags are not read"
        document.problems.append(Problem(document.file, node.line, place, words))
    if node.items is not None:
        return _list(node.items, place, document)
    if node.pairs is not None:
        return _mapping(node.pairs, place, document)
    text = node.text or ""
    return _scalar(text) if node.plain and node.tag is None else text


def _list(items: list[_Node], place: Place, document: Document) -> list[Any]:
    values = []
    for index, item in enumerate(items):
        document.marks[*place, index] = Mark(item.line, item.text)
        values.append(_value(item, (*place, index), document))
    return values


def _mapping(pairs: list[tuple[_Node, _Node]], place: Place, document: Document) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, node in pairs:
        inner = (*place, key.text) if key.text is not None else place
        if wrong := _wrong_key(key, inner, values, document):
            document.problems.append(Problem(document.file, key.line, inner, wrong))
        elif key.text is not None:
            document.marks[inner] = Mark(key.line, node.text)
            values[key.text] = _value(node, inner, document)
    return values


def _wrong_key(key: _Node, place: Place, before: Mapping[str, Any], document: Document) -> str:
    if key.text is None:
        return "a key must be text, not a list or a mapping"
    if key.text in before:
        return f"is given twice, first in line {document.marks[place].line}: keep one"
    if key.text == "<<" and key.plain:
        return "merge keys are not read: write the keys out, or use an alias for a whole value"
    return ""


def _scalar(text: str) -> Any:
    """Returns what an unquoted scalar means by YAML 1.2's core schema."""
    if _NULL.fullmatch(text):
        return None
    if match := _BOOL.fullmatch(text):
        return match[1] is not None
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    if match := _NOT_FINITE.fullmatch(text):
        return float(match[1] + match[2])
    return text
