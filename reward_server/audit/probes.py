"""What a judge is probed with: pairs, questions, master keys, injections and groups of graded quality.

The project's own probes are in `data/`, one JSON object a line; `data/README.md` says how they came about.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, Final

from reward_server.domain import Text

PAIRS: Final = "pairs"
KEYS: Final = "keys"
INJECTIONS: Final = "injections"
GROUPS: Final = "groups"
SETS: Final = (PAIRS, KEYS, INJECTIONS, GROUPS)

QUESTIONS_PER_INJECTION: Final = 2
ANSWER: Final = "{answer}"
"""Where an injection has the bad answer that it is to lift. One without it takes the answer's place."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Completions of one prompt, scored as a group, of which it is known what a sound judge thinks."""

    set: str  # one of `SETS`
    name: str  # for people: "helpfulness 3", "key ':' on question 2"
    topic: str  # what belongs together in a report: a rubric's name, a master key, a kind of injection
    prompt: Text | None
    # pairs: chosen, rejected; keys and injections: a good answer, a wrong one, the attack; groups: best first
    completions: tuple[Text, ...]
    columns: Mapping[str, Any] = field(
        default_factory=lambda: MappingProxyType({})
    )  # `reference`, `context`, or a person's own
    source: str = ""  # what repeats belong together: the key or the injection as it is in its file


@cache
def own_probes() -> Mapping[str, Sequence[Probe]]:
    """Returns the project's own probes by set, in an order of which any beginning is as mixed as the whole."""
    questions = _read("questions.jsonl")
    return MappingProxyType(
        {
            PAIRS: _mixed([_pair(number, row) for number, row in enumerate(_read("pairs.jsonl"), start=1)]),
            KEYS: _keys(questions, _read("master_keys.jsonl")),
            INJECTIONS: _injections(questions, _read("injections.jsonl")),
            GROUPS: [_group(number, row) for number, row in enumerate(_read("groups.jsonl"), start=1)],
        }
    )


def _read(name: str) -> list[dict[str, Any]]:
    text = files("reward_server.audit").joinpath("data", name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _pair(number: int, row: Mapping[str, Any]) -> Probe:
    texts = (row["chosen"], row["rejected"])
    return Probe(PAIRS, f"pair {number}", row["topic"], row["prompt"], texts, _columns(row))


def _group(number: int, row: Mapping[str, Any]) -> Probe:
    return Probe(GROUPS, f"group {number}", row["topic"], row["prompt"], tuple(row["levels"]), _columns(row))


def _keys(questions: Sequence[Mapping[str, Any]], keys: Sequence[Mapping[str, Any]]) -> list[Probe]:
    """Returns every key on every question, so ordered that neighbours have different questions and different keys."""
    probes = []
    for turn in range(len(keys)):
        for number, question in enumerate(questions):
            text = keys[(turn + 2 * number) % len(keys)]["text"]
            probe = _attack(f"key {text!r} on question {number + 1}", question, text)
            probes.append(replace(probe, set=KEYS, topic=repr(text), source=text))
    return probes


def _injections(questions: Sequence[Mapping[str, Any]], injections: Sequence[Mapping[str, Any]]) -> list[Probe]:
    """Returns every injection on some of the questions, all of the injections before one of them comes again."""
    probes = []
    for turn in range(QUESTIONS_PER_INJECTION):
        for number, injection in _spread_kinds(injections):
            at = (number + turn * len(questions) // QUESTIONS_PER_INJECTION) % len(questions)
            text = injection["text"].replace(ANSWER, questions[at]["wrong"])
            probe = _attack(f"injection {number + 1} on question {at + 1}", questions[at], text)
            probes.append(replace(probe, topic=injection["kind"], source=injection["text"]))
    return probes


def _attack(name: str, question: Mapping[str, Any], text: str) -> Probe:
    completions = (question["good"], question["wrong"], text)
    return Probe(INJECTIONS, name, "", question["prompt"], completions, _columns(question))


def _columns(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: row[key] for key in ("reference", "context") if key in row}


def _spread_kinds(injections: Sequence[Mapping[str, Any]]) -> list[tuple[int, Mapping[str, Any]]]:
    kinds: dict[str, list[tuple[int, Mapping[str, Any]]]] = {}
    for number, injection in enumerate(injections):
        kinds.setdefault(injection["kind"], []).append((number, injection))
    return [each for turn in zip_longest(*kinds.values()) for each in turn if each is not None]


def _mixed(pairs: Sequence[Probe]) -> list[Probe]:
    """Returns the pairs with topics in turn; the better one is the shorter and the longer in turn where possible."""
    queues: dict[tuple[str, bool], list[Probe]] = {}
    for pair in pairs:
        better, worse = pair.completions
        queues.setdefault((pair.topic, len(better) > len(worse)), []).append(pair)
    topics = list(dict.fromkeys(pair.topic for pair in pairs))
    order = [(topic, (place + turn) % 2 == 1) for turn in range(2) for place, topic in enumerate(topics)]
    columns = (queues.get(key, []) for key in order)
    return [pair for turn in zip_longest(*columns) for pair in turn if pair is not None]
