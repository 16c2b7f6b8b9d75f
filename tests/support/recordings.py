"""What a real Ollama answered, exchange by exchange; see tests/data/ollama/README.md."""

from __future__ import annotations

import json
import re
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


def request_of(file: str, name: str) -> tuple[str, str, bytes | None]:
    """Returns method, path and body of a recorded request. Texts that are only described are written out again."""
    request = exchange(file, name)["request"]
    if "raw" in request:  # bytes that are no UTF-8 stand there as \xff
        body = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), request["raw"].encode())
    elif "json" in request:
        body = json.dumps(_written_out(request["json"], request["path"])).encode()
    else:
        body = None
    return request["method"], request["path"], body


def _written_out(described: dict[str, Any], path: str) -> dict[str, Any]:
    """Returns the JSON of a request that the recording describes: "'some words ' repeated 100 times"."""
    if isinstance(described.get("messages"), str):
        words = {"role": "user", "content": "word " * 300}
        brief = {"role": "system", "content": "Be brief."}, words, {"role": "assistant", "content": "Yes."}
        messages = [*brief, {"role": "user", "content": "Reply now."}]
    elif "content" in described:
        text = re.fullmatch(r"'(.*)' repeated (\d+) times", described["content"])
        assert text is not None, described["content"]
        messages = [{"role": "user", "content": text[1] * int(text[2])}]
    else:
        return described
    model = "smollm2:135m"
    if path.startswith("/v1/"):
        return {"model": model, "messages": messages, "max_tokens": described["max_tokens"]}
    options = {"temperature": 0, "seed": 1, "num_predict": 4}
    options |= {key: described[key] for key in ("num_predict", "num_ctx") if key in described}
    fields = {key: described[key] for key in ("truncate", "shift") if key in described}
    return {"model": model, "stream": False, "messages": messages, "options": options} | fields


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
