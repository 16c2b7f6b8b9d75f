"""pydantic's findings in the words of a person who wrote a YAML file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any, Final, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from protos.configfile.document import Document, Place

MAX_SHOWN_CHARS: Final = 60
"""A found value is shown up to this length."""

SECRET: Final = re.compile(r"auth|.*(token|token_file|secret|password|api_key|_env)")
"""Keys whose values are never shown: people put the token itself where its file's name belongs."""

# By the type of pydantic's error; what stands in braces comes with the error.
_WORDS: Final[Mapping[str, str]] = {
    "bool": "must be true or false",
    "dict": "must be a mapping (key: value)",
    "enum": "must be {expected}",
    "finite_number": "must be a finite number",
    "float": "must be a number",
    "frozen_set": "must be a list",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int": "must be a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list": "must be a list",
    "literal_error": "must be {expected}",
    "mapping": "must be a mapping (key: value)",
    "model": "must be a mapping (key: value)",
    "model_attributes": "must be a mapping (key: value)",
    "path": "must be a path",
    "set": "must be a list",
    "string": "must be text",
    "string_pattern_mismatch": "must match {pattern}",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must have at least {min_length} characters",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must have at least {min_length} entries",
    "tuple": "must be a list",
}
_SCALARS: Final = ("bool", "float", "int", "path", "string")
_FAMILY: Final = re.compile(r"_(type|parsing|parsing_size|from_float)$")
_EMPTY: Final = "must not be empty"

M = TypeVar("M", bound=BaseModel)


def validated(model: type[M], value: Any, place: Place, document: Document) -> M | None:
    """Returns `value` as a `model`, or None after it has complained of all that is wrong."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        said: dict[Place, list[str]] = {}  # each member of a union says what it wants
        ends: dict[Place, str] = {}
        for detail in error.errors(include_url=False):
            inner = _place_of(detail, place, document)
            said.setdefault(inner, []).append(_words_of(detail, model))
            ends[inner] = _found_of(detail, inner, document)
        for inner, words in said.items():
            # A list of wrong entries is also said to be too short: the entries' own faults say more.
            if not any(len(other) > len(inner) and other[: len(inner)] == inner for other in said):
                document.complain(inner, ", or ".join(dict.fromkeys(words)) + ends[inner])
        return None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'unit'?`, or nothing where no known name is close."""
    close = get_close_matches(name, sorted(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def proposals(name: str, known: Iterable[str]) -> str:
    """Returns `; did you mean 'unit'? known: unit, width`: the guess, and all names that would be right."""
    options = sorted(known)
    return f"{did_you_mean(name, options) or ';'} known: {', '.join(options) or 'none'}"


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """Returns `unknown key; did you mean 'unit'? known: unit, width`."""
    return f"unknown {what}{proposals(name, known)}"


def found(value: Any, place: Place, document: Document) -> str:
    """Returns `, found 'ten'` as the file has it, or nothing where the value may be a secret."""
    if any(SECRET.fullmatch(step) for step in place if isinstance(step, str)):
        return ""
    if value is None:
        return ", found nothing"
    if isinstance(value, Mapping):
        return ", found a mapping"
    if isinstance(value, list | tuple | set):
        return ", found a list"
    if isinstance(value, str):
        return f", found {_short(value)!r}"
    mark = document.marks.get(place)
    return f", found {_short(mark.text if mark and mark.text else str(value))}"


def _short(text: str) -> str:
    text = re.sub(r"//[^/@\s]+@", "//...@", text)  # a URL with a password
    return text if len(text) <= MAX_SHOWN_CHARS else f"{text[:MAX_SHOWN_CHARS]}..."


def _place_of(detail: ErrorDetails, place: Place, document: Document) -> Place:
    """Returns where a finding stands. pydantic's own steps (a union's member, `[key]`) are not in the file."""
    steps = detail["loc"]
    for position, step in enumerate(steps):
        last = position == len(steps) - 1
        if (*place, step) in document.marks or (last and detail["type"] == "missing"):
            place = (*place, step)
    return place


def _found_of(detail: ErrorDetails, place: Place, document: Document) -> str:
    """Returns the value that a finding is about, unless its words say it all."""
    says_it_all = detail["type"] in ("extra_forbidden", "missing", "too_short", "value_error", "assertion_error")
    return "" if says_it_all else found(detail["input"], place, document)


def _words_of(detail: ErrorDetails, model: type[BaseModel]) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "extra_forbidden":
        return unknown("key", str(detail["loc"][-1]), _fields_at(model, detail["loc"][:-1]))
    if kind == "missing":
        return _missing_words(detail, model)
    if kind in ("value_error", "assertion_error"):
        return str(context.get("error", detail["msg"]))
    if kind in ("string_too_short", "too_short") and context.get("min_length") == 1:
        return _EMPTY
    family = _FAMILY.sub("", kind)
    template = _WORDS.get(family)
    words = template.format(**_short_numbers(context)) if template else _plain(detail["msg"])
    if family in ("literal_error", "enum"):
        words += _guess(str(detail["input"]), str(context.get("expected", "")))
    if family in _SCALARS and (description := _description_at(model, detail["loc"])):
        words += f" ({description})"
    return words


def _missing_words(detail: ErrorDetails, model: type[BaseModel]) -> str:
    step = detail["loc"][-1]
    if isinstance(step, int):
        return f"is missing: the list needs at least {step + 1} entries"
    description = _description_at(model, detail["loc"])
    return f"is missing: {description}" if description else "is missing"


def _description_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> str:
    """Returns the description of the field that `loc` leads to, or nothing where it has none or is no field."""
    fields = [parent.model_fields.get(str(loc[-1])) for parent in _models_at(model, loc[:-1])] if loc else []
    return next((field.description for field in fields if field and field.description), "")


def _short_numbers(context: Mapping[str, Any]) -> dict[str, Any]:
    return {key: f"{value:g}" if isinstance(value, float) else value for key, value in context.items()}


def _guess(wrong: str, expected: str) -> str:
    close = get_close_matches(wrong, re.findall(r"'([^']*)'", expected), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _plain(message: str) -> str:
    """Returns pydantic's own sentence without its "Input should be"."""
    words = message.replace("Input should", "must")
    return words[:1].lower() + words[1:]


def _fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> set[str]:
    return {field.alias or name for model in _models_at(model, loc) for name, field in model.model_fields.items()}


def _models_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[type[BaseModel]]:
    """Returns the models that may stand at `loc` below `model`: several, where the value is a union of them."""
    candidates = [model]
    for step in loc:
        fields = [c.model_fields[step] for c in candidates if isinstance(step, str) and step in c.model_fields]
        if fields:  # otherwise a list's position, a mapping's own key or the name of a union's member
            candidates = [inner for field in fields for inner in _models_in(field.annotation)]
    return candidates


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [inner for part in get_args(annotation) for inner in _models_in(part)]
