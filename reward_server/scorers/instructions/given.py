"""Reads a sample's instructions from its columns, as IFEval's datasets have them.

    instruction_id_list: ["punctuation:no_comma", "length_constraints:number_words"]
    kwargs:              [{}, {"relation": "at least", "num_words": 300, "language": null}]

Either column, and each entry of `kwargs`, may be a text with JSON in it, as tables keep nested data.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from reward_server.scorers.instructions.base import Instruction
from reward_server.scorers.instructions.kinds import instruction

_JSON_STARTS: Final = ("[", "{", "null")


def instructions_of(ids: Any, kwargs: Any) -> list[Instruction]:
    """Returns the instructions. Raises `ValueError` with what is wrong with the columns."""
    names = _unpacked(ids)
    if isinstance(names, str):
        names = [names]
    if not _is_list(names) or not names:
        raise ValueError(f"the ids are {'an empty list' if names == [] else type(names).__name__}, not a list of texts")
    arguments = _unpacked(kwargs)
    if arguments is None:
        arguments = [None] * len(names)
    if isinstance(arguments, Mapping) and len(names) == 1:
        arguments = [arguments]
    if not _is_list(arguments):
        raise ValueError(f"the arguments are {type(arguments).__name__}, not a list")
    if len(arguments) != len(names):
        raise ValueError(f"{len(names)} ids have {len(arguments)} sets of arguments")
    return [instruction(name, _mapping(entry)) for name, entry in zip(names, arguments, strict=True)]


def _unpacked(value: Any) -> Any:
    """Returns the value, decoded if it is a text with JSON in it."""
    if not isinstance(value, str) or not value.lstrip().startswith(_JSON_STARTS):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{value[:40]!r}… is no JSON: {error}") from None


def _mapping(entry: Any) -> Mapping[str, Any]:
    arguments = _unpacked(entry)
    if arguments is None:
        return {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"a set of arguments is {type(arguments).__name__}, not a mapping")  # noqa: TRY004  # the data's fault
    return arguments


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)
