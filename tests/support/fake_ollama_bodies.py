"""What an Ollama's answer is made of: tokens with their log-probabilities, counts, durations, as one body, as lines, or
in the dialect of OpenAI."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any, Final

from fake_ollama_slots import tokens_of
from scripted_judges import SURE, Cut, Labels

FILLERS: Final = (
    "The", "This", "Well", "To", "Based", "Sure", "Given", "In", "It", "Let", "While", "However", "``", "\n", "<",
    "Here", "We", "That", "As", "There", "Un", "On", '"', "Le", "What", "Both", "Overall", "After", "For", "Not",
)  # fmt: skip
"""Tokens that are no label of anybody's."""

FILLER_RATIO: Final = 0.8
LEAST_MASS: Final = 1e-9
NANOSECONDS: Final = 1_000_000_000
READ_SHARE: Final = 0.7
_completion_numbers = count(100)


@dataclass(frozen=True)
class Written:
    """The tokens of an answer, how it ended, and what else the first of them could have been."""

    tokens: list[str]
    done_reason: str
    labels: Labels | None = None

    @property
    def text(self) -> str:
        return "".join(self.tokens)

    def decoded_token_count(self) -> int:
        """Returns how many tokens were decoded: the one that ends an answer counts too."""
        return len(self.tokens) + (self.done_reason == "stop")

    def spreads(self) -> list[dict[str, float]]:
        """Returns at each token the log-probabilities of all that could stand there.

        They are those before the grammar: under a schema a label stands in quotes, and the quote is not what the model
        would have liked best.
        """
        if self.labels is not None:
            return [spread_of(self.labels.probabilities)] * len(self.tokens)
        return [spread_of({token: SURE}) for token in self.tokens]


def written(answer: str | Labels, limit: int | None, schema: Any = None) -> Written:
    """Returns an answer's tokens, at most `limit`; None = as many as there are."""
    labels = answer if isinstance(answer, Labels) else None
    if isinstance(answer, Labels):
        label = next(iter(spread_of(answer.probabilities)))
        tokens = [label] if schema is None else ['"', label.strip(), '"']
    else:
        tokens = tokens_of(answer, limit)
    if isinstance(answer, Cut) or (limit is not None and len(tokens) >= limit):
        return Written(tokens[:limit], "length", labels)
    return Written(tokens, "stop", labels)


def spread_of(probabilities: Mapping[str, float]) -> dict[str, float]:
    """Returns the log-probabilities of these tokens, and of others that share the rest; the likeliest first."""
    named = {token: probability for token, probability in probabilities.items() if probability > 0.0}
    rest = max(LEAST_MASS, 1.0 - sum(named.values()))
    others = (token for token in FILLERS if token not in named)
    share = 1.0 - FILLER_RATIO
    named |= {token: rest * share * FILLER_RATIO**place for place, token in enumerate(others)}
    return {token: math.log(named[token]) for token in sorted(named, key=lambda token: -named[token])}


def logprobs_of(answer: Written, top: int) -> list[dict[str, Any]]:
    """Returns the log-probabilities of an answer's tokens, each with the `top` likeliest at its place."""
    found = []
    for token, spread in zip(answer.tokens, answer.spreads(), strict=True):
        entry = _entry(token, spread.get(token, math.log(LEAST_MASS)))
        if top:
            entry["top_logprobs"] = [_entry(other, spread[other]) for other in list(spread)[:top]]
        found.append(entry)
    return found


def moment(when: datetime | None = None) -> str:
    """Returns a moment, now if none is given, as Go writes it: to the nanosecond."""
    return f"{(when or datetime.now(UTC)).isoformat(timespec='microseconds').removesuffix('+00:00')}000Z"


def message_of(text: str, thinking: str = "") -> dict[str, Any]:
    """Returns the model's message."""
    return {"role": "assistant", "content": text} | ({"thinking": thinking} if thinking else {})


def said(
    model: str,
    answer: Written,
    *,
    prompt_token_count: int,
    thinking: str = "",
    top_logprobs: int | None = None,
    load_s: float = 0.0,
    work_s: float = 0.0,
) -> dict[str, Any]:
    """Returns a whole answer as `/api/chat` gives it. `top_logprobs` None = no log-probabilities were asked for."""
    load_ns, work_ns = int(load_s * NANOSECONDS) + 1_000_000, int(work_s * NANOSECONDS) + 1_000_000
    body = {
        "model": model,
        "created_at": moment(),
        "message": message_of(answer.text, thinking),
        "done": True,
        "done_reason": answer.done_reason,
    }
    if top_logprobs is not None:
        body["logprobs"] = logprobs_of(answer, top_logprobs)
    return body | {
        "total_duration": load_ns + work_ns,
        "load_duration": load_ns,
        "prompt_eval_count": prompt_token_count,
        "prompt_eval_duration": int(work_ns * READ_SHARE),
        "eval_count": answer.decoded_token_count(),
        "eval_duration": work_ns - int(work_ns * READ_SHARE),
    }


def lines_of(body: dict[str, Any], tokens: list[str]) -> list[dict[str, Any]]:
    """Returns a whole answer as it is streamed: a line a token, then one without text that has the counts."""
    begin = {"model": body["model"], "created_at": body["created_at"]}
    entries = body.get("logprobs")
    lines = []
    for number, token in enumerate(tokens):
        line = begin | {"message": message_of(token), "done": False}
        lines.append(line | {"logprobs": entries[number : number + 1]} if entries is not None else line)
    last = {key: value for key, value in body.items() if key != "logprobs"}
    return [*lines, last | {"message": message_of("")}]


def ndjson(lines: list[dict[str, Any]]) -> bytes:
    """Returns lines of JSON."""
    return b"".join(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n" for line in lines)


def in_openais_dialect(body: dict[str, Any]) -> dict[str, Any]:
    """Returns a whole answer as `/v1/chat/completions` gives it."""
    choice = {"index": 0, "message": body["message"], "finish_reason": body["done_reason"]}
    if "logprobs" in body:
        choice["logprobs"] = {"content": body["logprobs"]}
    read, decoded = body["prompt_eval_count"], body["eval_count"]
    return {
        "id": f"chatcmpl-{next(_completion_numbers)}",
        "object": "chat.completion",
        "created": int(datetime.now(UTC).timestamp()),
        "model": body["model"],
        "system_fingerprint": "fp_ollama",
        "choices": [choice],
        "usage": {"prompt_tokens": read, "completion_tokens": decoded, "total_tokens": read + decoded},
    }


def _entry(token: str, logprob: float) -> dict[str, Any]:
    entry: dict[str, Any] = {"token": token, "logprob": logprob}
    return entry | {"bytes": list(token.encode())} if token else entry
