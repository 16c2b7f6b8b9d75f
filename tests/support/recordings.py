"""What a real Ollama answered, exchange by exchange; see tests/data/ollama/README.md."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "ollama"


def exchanges(file: str) -> list[dict[str, Any]]:
    """Returns a file's exchanges. Names that occur twice get a number: "reload? back #2"."""
    seen: dict[str, int] = {}
    found = json.loads((FOLDER / f"{file}.json").read_text(encoding="utf-8"))
    for exchange in found:
        name = exchange["name"]
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            exchange["name"] = f"{name} #{seen[name]}"
    return found


def exchange(file: str, name: str) -> dict[str, Any]:
    """Returns one exchange."""
    return next(found for found in exchanges(file) if found["name"] == name)


def body_of(response: dict[str, Any]) -> bytes:
    """Returns the body of a recorded response as it went over the wire, but for spaces."""
    if "json" in response:
        return json.dumps(response["json"], ensure_ascii=False).encode()
    if "ndjson" in response:
        return b"".join(json.dumps(line, ensure_ascii=False).encode() + b"\n" for line in response["ndjson"])
    if "ndjson_last" in response:
        return json.dumps(response["ndjson_last"]).encode() + b"\n"
    return response["text"].encode()


def content_type_of(response: dict[str, Any]) -> str:
    """Returns the recorded content type; the recordings of faults have none, and are Ollama's JSON."""
    return response.get("headers", {}).get("content-type", "application/json; charset=utf-8")
