"""Compares what was answered with what was recorded, field by field: keys and kinds of values, not the values."""

from __future__ import annotations

import json
import re
from typing import Any, Final

MOMENT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
DIGEST: Final = re.compile(r"[0-9a-f]{64}")
LEFT_OUT: Final = "…"
"""With this begins what stands in a recording for elements that it leaves out."""


def differences(recorded: Any, given: Any, where: str = "$") -> list[str]:
    """Returns a line for every field in which `given` has not the shape of `recorded`; none = the same shape.

    Of a recorded list, every element is a shape that the given one's may have. JSON inside a text is compared too.
    """
    if kind_of(recorded) != kind_of(given):
        return [f"{where}: {kind_of(given)} in place of {kind_of(recorded)}"]
    if isinstance(recorded, dict):
        missing = [f"{where}.{key}: missing" for key in recorded if key not in given]
        unknown = [f"{where}.{key}: not in the recording" for key in given if key not in recorded]
        both = [differences(recorded[key], given[key], f"{where}.{key}") for key in recorded if key in given]
        return missing + unknown + [line for lines in both for line in lines]
    if isinstance(recorded, list):
        return _differences_of_lists(recorded, given, where)
    if kind_of(recorded) == "JSON in a text":
        return differences(json.loads(recorded), json.loads(given), f"{where}.json")
    return []


def kind_of(value: Any) -> str:
    """Returns what a JSON value is: its type, and of texts whether it is a moment, a digest or JSON itself."""
    if not isinstance(value, str):
        return type(value).__name__
    if MOMENT.fullmatch(value):
        return "moment"
    if DIGEST.fullmatch(value):
        return "digest"
    return "JSON in a text" if value.startswith('{"error"') else "text"


def _differences_of_lists(recorded: list[Any], given: list[Any], where: str) -> list[str]:
    shapes = [element for element in recorded if not (isinstance(element, str) and element.startswith(LEFT_OUT))]
    if bool(shapes) != bool(given):
        return [f"{where}: {len(given)} elements in place of {len(recorded)}"]
    found = []
    for number, element in enumerate(given):
        closest = min((differences(shape, element, f"{where}[{number}]") for shape in shapes), key=len)
        found += closest
    return found
