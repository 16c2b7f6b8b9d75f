"""YAML that remembers where everything stands, so that a mistake in a file can be pointed at.

Read is plain data by YAML 1.2's core schema: mappings, lists, text, numbers, true, false and null. `no`, `1:30` and
`2026-01-01` are text, `1e-4` is a number. Aliases are followed, within bounds; tags and merge keys are refused, since
nothing here could mean them. The reader is its own because PyYAML's loaders keep no places, keep the last of two equal
keys without a word, hang on nested aliases and (libyaml's) overflow the stack on deep nesting.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from protos.configfile.document import ConfigFileError, Document, Mark, Place, Problem

MAX_BYTES: Final = 1 << 20
"""Largest file that is read; a configuration has some kilobytes."""

MAX_DEPTH: Final = 50
"""Deepest nesting that is followed, through aliases too."""

MAX_VALUES: Final = 50_000
"""Most values in a file once its aliases are followed."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # only its parser is used: the C one is 10x faster
# What an unquoted scalar means by YAML 1.2's core schema; any other is text.
_SCHEMA: Final[tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...]] = (
    (re.compile(r"~|null|Null|NULL|"), lambda _: None),
    (re.compile(r"true|True|TRUE"), lambda _: True),
    (re.compile(r"false|False|FALSE"), lambda _: False),
    (re.compile(r"[-+]?[0-9]{1,18}"), int),  # a longer one is a float: int() has a limit, and its digits no use
    (re.compile(r"0x[0-9a-fA-F]{1,16}|0o[0-7]{1,21}"), lambda text: int(text, base=0)),
    (re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), float),
    (re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"), lambda text: float(text.replace(".", ""))),
)


def read(path: Path, *, if_absent: str = "") -> Document:
    """Reads a file. What is wrong with it beyond that is in `Document.problems`.

    Args:
        path: the file.
        if_absent: what a person can do who has no such file.

    Raises:
        ConfigFileError: it can't be read, or is no YAML.
    """
    return parse(_text_of(path, if_absent), str(path))


def parse(text: str, file: str) -> Document:
    """Reads YAML text; `file` is its name in messages. Raises `ConfigFileError` if it is no YAML."""
    if unprintable := yaml.reader.Reader.NON_PRINTABLE.search(text):
        line = text.count("\n", 0, unprintable.start()) + 1
        raise ConfigFileError(f"{file}:{line}: the character {unprintable[0]!r} can't stand in YAML: remove it")
    try:
        tree = _Tree(file, yaml.parse(text, Loader=_LOADER)).whole()
    except yaml.MarkedYAMLError as error:
        raise ConfigFileError(_syntax_words(file, text, error)) from None
    except yaml.YAMLError as error:
        raise ConfigFileError(f"{file}: is no YAML: {error}") from None
    document = Document(file)
    if tree is not None:
        document.value = _value(tree, (), document)
    return document


def _text_of(path: Path, if_absent: str) -> str:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except FileNotFoundError:
        hint = f"; {if_absent}" if if_absent else ""
        raise ConfigFileError(f"{path}: there is no such file{hint}") from None
    except IsADirectoryError:
        raise ConfigFileError(f"{path}: is a folder; name the YAML file in it") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ConfigFileError(f"{path}: can't be read: {reason}") from None
    if len(content) > MAX_BYTES:
        raise ConfigFileError(f"{path}: is larger than {MAX_BYTES >> 20} MiB; a configuration has some kilobytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        wrong = content[error.start]
        raise ConfigFileError(f"{path}:{line}: is not UTF-8 (byte 0x{wrong:02x}): save it as UTF-8") from None


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

    def _error(self, event: Any, words: str) -> ConfigFileError:
        mark = event.start_mark
        return ConfigFileError(f"{self._file}:{mark.line + 1}:{mark.column + 1}: {words}")


def _value(node: _Node, place: Place, document: Document) -> Any:
    """Returns a node as data, all aliases followed, and notes in `document` where everything stands."""
    where = f"{document.file}:{node.line}"
    if len(document.marks) > MAX_VALUES:
        raise ConfigFileError(f"{where}: holds more than {MAX_VALUES} values once aliases are followed")
    if len(place) > MAX_DEPTH:
        raise ConfigFileError(f"{where}: is nested deeper than {MAX_DEPTH} levels once aliases are followed")
    if wrong := _wrong_tag(node):
        document.problems.append(Problem(document.file, node.line, place, wrong))
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


def _wrong_tag(node: _Node) -> str:
    known = node.tag in (None, "!", "tag:yaml.org,2002:str")
    return "" if known else f"has the tag {node.tag}: tags are not read"


def _wrong_key(key: _Node, place: Place, before: Mapping[str, Any], document: Document) -> str:
    if key.text is None:
        return "a key must be text, not a list or a mapping"
    if key.text in before:
        return f"is given twice, first in line {document.marks[place].line}: keep one"
    if key.text == "<<" and key.plain:
        return "merge keys are not read: write the keys out, or use an alias for a whole value"
    return _wrong_tag(key)


def _scalar(text: str) -> Any:
    return next((meaning(text) for pattern, meaning in _SCHEMA if pattern.fullmatch(text)), text)
