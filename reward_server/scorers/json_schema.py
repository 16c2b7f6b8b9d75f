"""JSON Schema for texts that may be hostile: patterns are RE2's, the work is bounded, and nothing is fetched.

A value that takes more than `MAX_STEPS` steps (see `json_work`) to compare does not fit: always, not only where a machine
is slow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final

import re2  # type: ignore[import-untyped]  # it comes without types
from jsonschema import Draft202012Validator, ValidationError, validators
from jsonschema.exceptions import SchemaError as UnsoundSchema
from jsonschema_specifications import REGISTRY as SPECIFICATIONS  # type: ignore[import-untyped]  # without types
from referencing import Registry, Resource
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT202012

from reward_server.scorers.expressions import compiled, complaint
from reward_server.scorers.json_work import FittingSchema, Work, counted, enum, unique_items
from reward_server.scorers.texts import decodable

PROBES: Final[tuple[Any, ...]] = (None, True, 0, "", [], {})


class SchemaError(ValueError):
    """The schema cannot be applied."""


def validator_of(schema: dict[str, Any]) -> FittingSchema:
    """Returns what tells whether a value fits the schema. Raises `SchemaError` for one that cannot be applied."""
    draft = validators.validator_for(schema, default=Draft202012Validator)
    try:
        draft.check_schema(schema)
    except UnsoundSchema as error:
        place = "/".join(map(str, error.absolute_path)) or "the whole"
        raise SchemaError(f"{place}: {error.message}") from error
    except RecursionError as error:
        raise SchemaError("it is too deep") from error
    work = Work()
    keywords = {**draft.VALIDATORS, **_OWN, "uniqueItems": unique_items(work), "enum": enum(work)}
    safe = validators.extend(draft, {name: counted(check, work) for name, check in keywords.items()})  # type: ignore[no-untyped-call]  # of the stubs
    # With its name a schema that refers to itself would be read by the library's own class again.
    schema = {key: value for key, value in schema.items() if key != "$schema"}
    _check_references(schema)
    _check_patterns(schema)
    fitting = FittingSchema(safe(schema, registry=SPECIFICATIONS), work)  # this registry fetches nothing
    _try(fitting)
    return fitting


def _try(validator: FittingSchema) -> None:
    """Raises `SchemaError` where the schema fails on plain values."""
    try:
        for probe in PROBES:
            validator.is_valid(probe)
    except RecursionError as error:
        raise SchemaError("it refers to itself without end") from error
    except Exception as error:
        raise SchemaError(f"{type(error).__name__}: {error}") from error


def _check_references(schema: Mapping[str, Any]) -> None:
    """Raises `SchemaError` for references that lead out of the schema, or nowhere."""
    parts = list(_parts(schema))
    names = {part["$id"] for part in parts if isinstance(part.get("$id"), str)}
    resource: Resource[Any] = Resource.from_contents(schema, default_specification=DRAFT202012)
    registry: Registry[Any] = SPECIFICATIONS
    resolver = registry.resolver_with_root(resource)
    for part in parts:
        for key in ("$ref", "$dynamicRef"):
            reference = part.get(key)
            if not isinstance(reference, str):
                continue
            base = reference.partition("#")[0]
            if base and base not in names and base not in SPECIFICATIONS:
                raise SchemaError(f"{key} {reference!r} leads out of the schema, and nothing is fetched")
            if not names - {schema.get("$id")}:
                try:
                    resolver.lookup(reference)
                except Unresolvable as error:
                    raise SchemaError(f"{key} {reference!r} leads nowhere") from error


def _parts(schema: Any) -> Iterator[Mapping[str, Any]]:
    """Yields all objects of a schema."""
    waiting = [schema]
    while waiting:
        part = waiting.pop()
        if isinstance(part, Mapping):
            yield part
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part


def _check_patterns(schema: Mapping[str, Any]) -> None:
    """Raises `SchemaError` for what only Python's `re` could look for: a completion could make that take for ever."""
    parts = list(_parts(schema))
    patterned = [part for part in parts if isinstance(part.get("patternProperties"), Mapping)]
    written = [part["pattern"] for part in parts if isinstance(part.get("pattern"), str)]
    for pattern in [*written, *(pattern for part in patterned for pattern in part["patternProperties"])]:
        try:
            _search(pattern)
        except re2.error as error:
            words = f"{pattern!r}: {complaint(error)}"
            raise SchemaError(f"pattern {words} (RE2's syntax: no look-around, no back-references)") from error
    if patterned and any("unevaluatedProperties" in part for part in parts):
        raise SchemaError("unevaluatedProperties together with patternProperties is not supported")
    if any(isinstance(part.get("$schema"), str) for part in parts):
        raise SchemaError("$schema may stand at the top only, not in a part of it")


@lru_cache(maxsize=1024)
def _search(pattern: str) -> Callable[[str], Any]:
    """Returns what looks for a pattern. Raises `re2.error`."""
    search = compiled(pattern, groups=False).search
    return lambda text: search(decodable(text))


def _pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "string") and not _search(pattern)(instance):
        yield ValidationError(f"it does not match {pattern!r}")


def _pattern_properties(validator: Any, patterns: Any, instance: Any, _schema: Any) -> Iterator[ValidationError]:
    if validator.is_type(instance, "object"):
        for pattern, schema in patterns.items():
            for key, value in instance.items():
                if _search(pattern)(key):
                    yield from validator.descend(value, schema, path=key, schema_path=pattern)


def _additional_properties(validator: Any, wanted: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
    if not validator.is_type(instance, "object"):
        return
    named, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for key, value in instance.items():
        if key not in named and not any(_search(pattern)(key) for pattern in patterns):
            yield from validator.descend(value, wanted, path=key)


_OWN: Final[Mapping[str, Callable[..., Iterator[ValidationError]]]] = {
    "pattern": _pattern,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
}
"""Keywords that the library would look for with Python's `re`."""
