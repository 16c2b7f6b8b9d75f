"""Bombs in a real server: each gets its status and reason, all neighbours their score, and the server stays up."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import bomb_functions
import bomb_texts
import psutil
import pytest
from bomb_functions import REASONS
from bomb_texts import Groups
from health_pings import SERVING, HealthPings
from server_process import ServerProcess, wait_until_gone
from waiting import until

from trainer.client import Blame, RewardClient, RewardScores, Status

pytestmark = pytest.mark.end_to_end

CONFIG = """
workers: {count: 4}
drain: {notice_s: 0.2, grace_s: 3}
rewards:
  graded: {python: {function: rewards.py:graded, calls: sample, timeout_s: 0.6, memory_mb: 256}, floor: -1}
  referred: {python: {function: rewards.py:graded, calls: sample, timeout_s: 0.4, memory_mb: 256}, floor: -1}
  late: {python: {function: rewards.py:graded, calls: sample, timeout_s: 1}, floor: -1}
  late_in_a_batch: {python: {function: rewards.py:graded, timeout_s: 1}, floor: -1}
  hard: {python: {function: rewards.py:graded, calls: sample, timeout_s: 0.6}, floor: -1}
  hard_in_a_batch: {python: {function: rewards.py:graded, timeout_s: 0.8}, floor: -1}
  math: {math: {timeout_s: 0.8}}
  late_math: {math: {timeout_s: 1}}
  numeric: {numeric: {}}
  exact_match: {exact_match: {}}
  found: {exact_match: {answer: "regex:(4|(?:a+)+)$"}}
  token_f1: {token_f1: {}}
  json: {json: {json_schema: {type: integer, maximum: 9}}}
  json_pattern: {json: {json_schema: {anyOf: [{type: integer}, {type: string, pattern: "^(a+)+$"}]}}}
  format: {format: {patterns: [{regex: "^(4|(a+)+)$", score: 1}]}}
  instructions:
    instructions:
      instructions:
        - {id: "keywords:existence", keywords: [thinking]}
        - {id: "length_constraints:number_sentences", relation: less than, num_sentences: 3}
        - {id: "length_constraints:number_paragraphs", num_paragraphs: 1}
        - {id: "change_case:capital_word_frequency", capital_relation: less than, capital_frequency: 3}
  language: {language: {languages: [en], threshold: 0.5}}
  keywords: {keywords: {required: [the right answer]}}
  repetition: {repetition: {n: 3}}
  bleu: {bleu: {}}
  rouge: {rouge: {}}
  chrf: {chrf: {}}
"""

ANSWERS = {"4": 1.0, "five": 0.0}
"""Healthy answers to what 4 is the answer to, with their scores."""

OF_ANSWERS = ["math", "numeric", "exact_match", "found", "token_f1", "json", "json_pattern", "format"]

SENTENCE = "After thinking about it for a while, I am sure that the right answer must be 4."
OF_TEXTS = ["instructions", "language", "keywords", "repetition", "bleu", "rouge", "chrf"]

HANG_MATH = {"a tower of powers", "a factorial", "a power", "nested parentheses", "a polynomial", "boxed braces"}
"""With all of these sympy, or what reads LaTeX for it, never comes to an end."""

BROKEN = {"math": HANG_MATH}
"""Which bombs break which rules. All other verdicts on them are scores."""

SCORES: Mapping[str, Mapping[str, float]] = {"format": {"one word": 1}}
"""Of bombs that are not scored about 0."""

REFERENCES = {"a tower of powers": True, "boxed braces": True, "many digits": True, "a regex bomb": False}
"""Whether there is no score where math has such a reference."""


def started(folder: Path) -> ServerProcess:
    shutil.copy(bomb_functions.__file__, folder / "rewards.py")
    (folder / "server.yaml").write_text(CONFIG)
    return ServerProcess(folder / "server.yaml")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with started(tmp_path_factory.mktemp("bombs")) as process:
        yield process
        assert_ends(process)


def left_behind(server: ServerProcess) -> set[int]:
    """Returns the processes that bombs have started to stay."""
    noted = server.config.parent / "rewards.py.pids"
    return {int(pid) for pid in noted.read_text().split()} if noted.exists() else set()


def assert_ends(server: ServerProcess) -> None:
    """Ends it by SIGTERM, and sees to it that nothing of it and of what its bombs have started is left."""
    left, children = left_behind(server), server.children()
    assert children
    assert server.terminate(timeout_s=30) == 0
    assert wait_until_gone(children) == []
    asyncio.run(until(lambda: not any(psutil.pid_exists(pid) for pid in left), 15))


def ask(server: ServerProcess, rewards: Sequence[str], batch: dict[str, Any]) -> Mapping[str, RewardScores]:
    """Returns the verdicts, once it is seen that the server answered for its health all the while, and scores on."""
    with RewardClient(server.target) as client, HealthPings(server.target) as pings:
        verdicts = client.score(rewards=list(rewards), **batch).rewards
        last = client.score(rewards=list(rewards), completions=["4"], columns={"answer": ["4"]}).rewards
    assert set(pings.answers) == {SERVING}
    assert {name: got.statuses for name, got in last.items()} == {name: [Status.SCORED] for name in rewards}
    return verdicts


def flagged(flag: str, groups: Groups, verdicts: RewardScores) -> set[str]:
    return groups.named(verdicts.flags.get(flag, []))


def assert_none_missing_or_blamed(verdicts: RewardScores) -> None:
    assert set(verdicts.statuses) == {Status.SCORED}
    assert "floor" not in verdicts.flags


def test_bombs_among_answers_are_scored_or_floored_and_their_neighbours_scored(server: ServerProcess) -> None:
    groups = Groups(bomb_texts.BOMBS, list(ANSWERS), "4")
    for quarantined in (False, False, True):  # whoever was found guilty twice is not tried again
        verdicts = ask(server, OF_ANSWERS, groups.batch)
        for name, got in verdicts.items():
            assert set(got.statuses) == {Status.SCORED}, name
            assert groups.neighbours(got.scores) == {text: {score} for text, score in ANSWERS.items()}, name
            scores = {bomb: got.scores[place] for bomb, place in groups.places.items()}
            assert scores == {bomb: SCORES.get(name, {}).get(bomb, 0.0) for bomb in groups.bombs}, name
            broken = BROKEN.get(name, set())
            assert flagged("floor", groups, got) == broken, name
            assert flagged("quarantined", groups, got) == (broken if quarantined else set()), name
            assert all("did not return in time" in got.explanations[groups.places[bomb]] for bomb in broken), name


def test_bombs_among_texts_are_scored_and_so_are_their_neighbours(server: ServerProcess) -> None:
    groups = Groups(bomb_texts.BOMBS, [SENTENCE, "11 22 33"], SENTENCE)
    for name, got in ask(server, OF_TEXTS, groups.batch).items():
        assert_none_missing_or_blamed(got)
        right = 0.0 if name == "repetition" else 1.0
        found = {text: sorted(scores) for text, scores in groups.neighbours(got.scores).items()}
        assert found == {SENTENCE: [pytest.approx(right)], "11 22 33": [0.0]}, name
        scores = {bomb: got.scores[place] for bomb, place in groups.places.items()}
        if name == "repetition":  # most bombs say one thing again and again
            assert all(-1.0 <= score <= 0.0 for score in scores.values())
            assert scores["many words"] == pytest.approx(-1.0, abs=0.05)
        else:
            assert scores == pytest.approx(dict.fromkeys(groups.bombs, 0.0), abs=0.05), name


def test_a_function_that_breaks_is_floored_with_its_reason_and_its_neighbours_are_scored(server: ServerProcess) -> None:
    groups = Groups({word: f"4 {word}" for word in bomb_functions.BOMBS}, list(ANSWERS), "4")
    broken = set(REASONS)
    for quarantined in (False, False, True):
        got = ask(server, ["graded"], groups.batch)["graded"]
        assert set(got.statuses) == {Status.SCORED}
        assert groups.neighbours(got.scores) == {text: {score} for text, score in ANSWERS.items()}
        scores = {bomb: got.scores[place] for bomb, place in groups.places.items()}
        assert scores == {bomb: -1.0 if bomb in broken else 1.0 for bomb in groups.bombs}
        assert flagged("floor", groups, got) == broken
        assert flagged("quarantined", groups, got) == (broken if quarantined else set())
        told = {bomb: got.explanations[groups.places[bomb]] for bomb in broken}
        assert {bomb: words for bomb, words in told.items() if REASONS[bomb] not in words} == {}
        proof = "again alone in a fresh worker"
        assert {bomb: words for bomb, words in told.items() if proof not in words} == {}


def test_nobody_is_blamed_for_a_bomb_in_the_reference_of_a_function(server: ServerProcess) -> None:
    references = [f"4 {word}" for word in bomb_functions.BOMBS for _ in ANSWERS]
    completions = list(ANSWERS) * len(bomb_functions.BOMBS)
    batch = {"completions": completions, "columns": {"answer": references}}
    got = ask(server, ["referred"], batch)["referred"]
    assert "floor" not in got.flags
    assert Blame.COMPLETION not in got.blames
    for completion, reference, score, reason in zip(completions, references, got.scores, got.reasons, strict=True):
        broken = reference.split()[1] in REASONS
        assert score == (None if broken else ANSWERS[completion]), reference
        assert bool(reason) == broken, reference


@pytest.mark.parametrize("names", [["math"], ["numeric", "exact_match", "token_f1", "bleu", "rouge", "chrf"]])
def test_nobody_is_blamed_for_a_bomb_in_the_reference_of_a_rule(server: ServerProcess, names: list[str]) -> None:
    bombs = REFERENCES if names == ["math"] else bomb_texts.BOMBS
    references = [bomb_texts.BOMBS[bomb] for bomb in bombs for _ in ANSWERS]
    batch = {"completions": list(ANSWERS) * len(bombs), "columns": {"answer": references}}
    for name, got in ask(server, names, batch).items():
        assert "floor" not in got.flags, name
        assert Blame.COMPLETION not in got.blames, name
        missing = [score is None for score in got.scores]
        assert missing[::2] == missing[1::2], name  # for one completion as for the other
        assert [bool(reason) for reason in got.reasons] == missing, name
        if name == "math":
            assert dict(zip(bombs, missing[::2], strict=True)) == REFERENCES


@pytest.mark.parametrize(
    ("reward", "bomb"), [("late", "4 LOOP"), ("late_in_a_batch", "4 LOOP"), ("late_math", "$9^{9^{9^{9}}}$")]
)
def test_of_64_items_the_two_that_hang_are_named_and_62_scored(server: ServerProcess, reward: str, bomb: str) -> None:
    completions = ["4", "five"] * 32
    hang = [13, 50]
    for index in hang:
        completions[index] = bomb
    got = ask(server, [reward], {"completions": completions, "columns": {"answer": ["4"] * 64}})[reward]
    assert got.flags == {"floor": hang}
    assert [got.scores[index] for index in range(64) if index not in hang] == [
        ANSWERS[text] for text in completions if text != bomb
    ]
    for index in hang:
        assert "no result within 1 s" in got.explanations[index]
        assert "again alone in a fresh worker" in got.explanations[index]


def test_no_completion_is_blamed_for_a_busy_machine(server: ServerProcess) -> None:
    """Eight together are late by their own time; alone, and as the pair that proves it, each has twice its time."""
    completions = [f"4 HARD {number}" for number in range(8)]
    batch = {"completions": completions, "columns": {"answer": ["4"] * len(completions)}}
    with ExitStack() as stack:
        for _ in range(4 * (os.cpu_count() or 1)):
            busy = stack.enter_context(subprocess.Popen([sys.executable, "-c", "while True: pass"]))
            stack.callback(busy.kill)
        with RewardClient(server.target) as client:
            verdicts = client.score(rewards=["hard", "hard_in_a_batch"], **batch).rewards
    for name, got in verdicts.items():
        assert "floor" not in got.flags, name
        assert Blame.COMPLETION not in got.blames, name
        assert got.scores == [1.0] * len(completions), got.missing_counts()


def test_sigterm_ends_the_server_and_all_that_its_bombs_have_left_behind(tmp_path: Path) -> None:
    words = ["SEGV", "FORK_AND_STAY", "FORK_AND_HANG", "FORK_TWICE", "THREAD", "SIGNALS_LOOP", "CLOSE"]
    groups = Groups({word: f"4 {word}" for word in words}, list(ANSWERS), "4")
    with started(tmp_path) as server:
        ask(server, ["graded"], groups.batch)
        assert left_behind(server)
        assert_ends(server)
