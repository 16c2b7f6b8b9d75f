r"""Whether a text is JSON, and fits a JSON Schema.

    any:    {json: {}}
    person: {json: {root: object, json_schema: {type: object, required: [name], properties: {name: {type: string}}}}}
    file:   {json: {schema_file: person.schema.json, fenced: need, partial: 0.3}}

1 for JSON of the wanted shape, `partial` for JSON of another, else 0. JSON is meant strictly: no key twice, no NaN or Infinity,
no numbers of over `MAX_DIGITS` digits or beyond a double's range, at most `MAX_DEPTH` levels.

Patterns of a schema are RE2's. A value that takes more than `json_work.MAX_STEPS` steps to compare does not fit.

The text is JSON as a whole, or has one block that is fenced with ```json (or ``` alone), with words around it if need be.

Columns: none. Range: 0 to 1. Cost class: compute.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, NoReturn, Self

from pydantic import Field, JsonValue, model_validator

from reward_server.domain import Sample, Verdict, scored
from reward_server.errors import ConfigError
from reward_server.scorers.base import RuleContext
from reward_server.scorers.json_schema import SchemaError, validator_of
from reward_server.scorers.pooled import PooledOptions, PooledRule
from reward_server.scorers.texts import NOT_A_TEXT

MAX_DEPTH: Final = 64
"""A fixed limit: how deep Python can read depends on where it is called."""

MAX_DIGITS: Final = 300
"""Fewer than Python reads, and such a number is still a double."""

FENCE: Final = "```"


class Fenced(Enum):
    """Whether the JSON stands in a fenced block."""

    ALLOW = "allow"
    NEED = "need"
    REFUSE = "refuse"


class Root(Enum):
    """What the whole of it is."""

    ANY = "any"
    OBJECT = "object"
    ARRAY = "array"


_ROOTS: Final[Mapping[Root, type]] = {Root.ANY: object, Root.OBJECT: dict, Root.ARRAY: list}


class JsonOptions(PooledOptions):
    """Where the JSON stands, and what shape it has."""

    fenced: Fenced = Field(Fenced.ALLOW, description="it stands in a block fenced with ```json: allow, need or refuse")
    root: Root = Field(Root.ANY, description="what the whole is: any, object or array")
    json_schema: dict[str, JsonValue] | None = Field(None, description="JSON Schema that it must fit (draft 2020-12)")
    schema_file: Path | None = Field(None, description="file with that schema, in place of it")
    partial: Annotated[float, Field(strict=True, ge=0, le=1)] = Field(
        0.0, description="score of JSON that is not of that shape"
    )

    @model_validator(mode="after")
    def _has_one_sound_schema(self) -> Self:
        if self.json_schema is not None and self.schema_file is not None:
            raise ValueError("give either json_schema or schema_file")
        if self.json_schema is not None:
            try:
                validator_of(self.json_schema)
            except SchemaError as error:
                raise ValueError(f"json_schema: {error}") from error
        return self


class Json(PooledRule):
    """Scores JSON by its shape."""

    kind: ClassVar[str] = "json"
    Options = JsonOptions
    libraries = ("jsonschema", "google-re2")
    score_range = (0.0, 1.0)

    def __init__(self, options: JsonOptions, context: RuleContext) -> None:
        if options.schema_file is not None:  # workers get what was read now, whatever becomes of the file
            options = options.model_copy(update={"json_schema": _read(options, context), "schema_file": None})
        super().__init__(options, context)
        self._options = options
        self._root = _ROOTS[options.root]
        self._digest = hashlib.sha256(json.dumps(options.json_schema, sort_keys=True).encode()).hexdigest()[:16]
        schema = options.json_schema
        self._fits_schema: Callable[[Any], bool] = (lambda _: True) if schema is None else validator_of(schema).is_valid

    def identity(self) -> Mapping[str, Any]:
        """Returns the versions of the libraries and the digest of the schema."""
        return {**super().identity(), "schema": self._digest}

    def judge_one(self, sample: Sample) -> Verdict:
        """Returns the score of the JSON that the completion is or has."""
        text = sample.completion
        if not isinstance(text, str):
            return NOT_A_TEXT
        try:
            value = self._value(text)
        except ValueError:
            return scored(0.0)
        return scored(1.0 if self._fits(value) else self._options.partial)

    def _value(self, text: str) -> Any:
        """Returns the value that the text means. Raises `ValueError` where it means none."""
        if self._options.fenced is not Fenced.NEED:
            try:
                return parsed(text)
            except ValueError:
                if self._options.fenced is Fenced.REFUSE:
                    raise
        return parsed(fenced_block(text))

    def _fits(self, value: Any) -> bool:
        try:
            return isinstance(value, self._root) and self._fits_schema(value)
        except (RecursionError, ArithmeticError):  # a schema that refers to itself over and over; numbers at the edge
            return False


def _read(options: JsonOptions, context: RuleContext) -> dict[str, Any]:
    """Returns the schema of the file. Raises `ConfigError` where it is none."""
    place = f"rewards.{context.reward_name}.json.schema_file"
    path = context.folder / (options.schema_file or "")
    try:
        schema = json.loads(path.read_text("utf-8"))
        if not isinstance(schema, dict):
            raise ConfigError(f"{place}: {path} has no object in it")
        validator_of(schema)
    except (OSError, ValueError, RecursionError, SchemaError) as error:
        raise ConfigError(f"{place}: {path}: {error}") from error
    return schema


def parsed(text: str) -> Any:
    """Returns the value of a JSON text. Raises `ValueError` for what is no strict JSON, or is too deep."""
    try:
        value = json.loads(
            text, object_pairs_hook=_object, parse_constant=_refused, parse_int=_integer, parse_float=_float
        )
    except RecursionError:
        raise ValueError("too deep") from None
    if _depth(value) > MAX_DEPTH:
        raise ValueError("too deep")
    return value


def fenced_block(text: str) -> str:
    """Returns what stands in the only fenced block of JSON. Raises `ValueError` where there is none, or more."""
    blocks = list(_blocks(text))
    if len(blocks) != 1:
        raise ValueError(f"{len(blocks)} fenced blocks")
    return blocks[0]


def _blocks(text: str) -> Iterator[str]:
    """Yields the contents of closed blocks whose language is JSON or not said."""
    lines: list[str] | None = None
    language = ""
    for line in text.split("\n"):  # not at the other line ends of Unicode: they may stand in a string
        bare = line.strip()
        if lines is None:
            if bare.startswith(FENCE):
                lines, language = [], bare[len(FENCE) :].strip().lower()
        elif bare == FENCE:
            if language in ("json", ""):
                yield "\n".join(lines)
            lines = None
        else:
            lines.append(line)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key is there twice")
    return value


def _refused(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError("too many digits")
    return int(digits)


def _float(digits: str) -> float:
    value = float(digits)
    if len(digits) > MAX_DIGITS or value - value != 0:
        raise ValueError("beyond a double")
    return value


def _depth(value: Any) -> int:
    """Returns how many lists and objects lie in one another."""
    depth, level = 0, [value]
    while containers := [each for each in level if isinstance(each, list | dict)]:
        depth += 1
        level = [inner for each in containers for inner in (each.values() if isinstance(each, dict) else each)]
    return depth
