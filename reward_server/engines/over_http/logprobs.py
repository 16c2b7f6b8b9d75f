"""Reads log-probabilities: the list that Ollama, OpenAI, vLLM and llama.cpp all give in one shape.

One entry a token: `{"token", "logprob", "bytes"?, "top_logprobs"?: [the same, the most likely tokens]}`. What is in it
is checked, since a number read wrongly here would be a score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from reward_server.engines.base import Position
from reward_server.errors import BadAnswer

ROUNDING: Final = 1e-3
"""Hosts compute in single precision: a certain token may get a logarithm a little above zero, and a whole list a sum of
probabilities a little above one."""


@dataclass(frozen=True, slots=True)
class _Token:
    """One token of a list. Different tokens may look alike as text: those that are only a part of a letter."""

    text: str
    spelling: bytes
    logprob: float


def read_positions(entries: Any, answer: str, label: str, *, thought: bool) -> tuple[Position, ...]:
    """Returns one position for each token of the answer's text, none where the host gave no log-probabilities.

    Args:
        entries: the host's list, one entry for each token that was written, those of its thinking too; None = none.
        answer: the text of the answer alone.
        label: how messages name the host.
        thought: whether the model thought before it answered.

    Raises `BadAnswer` where the list is not of the agreed shape.
    """
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise BadAnswer(f"{label}: the log-probabilities are {type(entries).__name__}, not a list")
    written = [_token(entry, label) for entry in entries]
    begin = _begin_of(answer, written, thought=thought)
    return tuple(_position(token, entry, label) for token, entry in zip(written[begin:], entries[begin:], strict=True))


def _begin_of(answer: str, written: Sequence[_Token], *, thought: bool) -> int:
    """Returns which token the answer begins with, counted from the end: a thought may hold the same words.

    Where there was no thinking and the texts do not tell (some hosts list raw pieces of their vocabulary), it is the
    first one; where there was, it is none.
    """
    wanted = answer.encode(errors="replace")
    if not thought and b"".join(token.spelling for token in written).startswith(wanted):
        return 0
    if wanted := wanted.strip():
        end = b""
        for index in reversed(range(len(written))):
            end = written[index].spelling + end
            if wanted in end:
                return index
    return len(written) if thought else 0


def _position(written: _Token, entry: dict[str, Any], label: str) -> Position:
    """Returns what could have been written in one token's place; tokens of the same text are added up."""
    tops = entry.get("top_logprobs") or []
    if not isinstance(tops, list):
        raise BadAnswer(f"{label}: top_logprobs is {type(tops).__name__}, not a list")
    tokens = [_token(top, label) for top in tops]
    # Under a grammar, or by chance, the written one may be none of the most likely.
    if (written.text, written.spelling) not in {(token.text, token.spelling) for token in tokens}:
        tokens.append(written)
    mass: dict[str, float] = {}
    for token in tokens:
        mass[token.text] = mass.get(token.text, 0.0) + math.exp(token.logprob)
    if (total := sum(mass.values())) > 1.0 + ROUNDING:
        raise BadAnswer(f"{label}: the probabilities at one position add up to {total:.3g}")
    logprobs = {token.text: token.logprob for token in tokens} | _added_up(tokens, mass)
    return Position(written.text, dict(sorted(logprobs.items(), key=lambda item: -item[1])))


def _added_up(tokens: Sequence[_Token], mass: dict[str, float]) -> dict[str, float]:
    """Returns the logarithms of the texts that several tokens share; a single one keeps its own number, exactly."""
    texts = [token.text for token in tokens]
    return {text: math.log(mass[text]) for text in mass if mass[text] > 0.0 and texts.count(text) > 1}


def _token(entry: Any, label: str) -> _Token:
    """Returns one token of a list. Raises `BadAnswer`."""
    text = entry.get("token") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise BadAnswer(f"{label}: a log-probability without its token: {str(entry)[:80]}")
    logprob = entry.get("logprob")
    if not isinstance(logprob, (int, float)) or isinstance(logprob, bool) or not -math.inf < logprob <= ROUNDING:
        raise BadAnswer(f"{label}: the log-probability of {text!r} is {logprob!r}, not a finite number up to 0")
    return _Token(text, _spelling(entry.get("bytes"), text, label), float(logprob))


def _spelling(spelled: Any, text: str, label: str) -> bytes:
    """Returns a token's bytes, from its text where the host does not list them."""
    if spelled is None:
        return text.encode(errors="replace")
    try:
        return bytes(spelled) if isinstance(spelled, list) else text.encode(errors="replace")
    except (ValueError, TypeError) as error:
        raise BadAnswer(f"{label}: the bytes of the token {text!r} are {str(spelled)[:80]}") from error
