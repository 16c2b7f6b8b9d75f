"""The shipped probes: enough of them, whole, and with nothing in them by which a judge could be right without judging."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from reward_server.audit.probes import ANSWER, GROUPS, INJECTIONS, KEYS, PAIRS, Probe, _read, own_probes

PROBES = own_probes()


def better_is_longer(probe: Probe) -> bool:
    better, worse = probe.completions
    return len(better) > len(worse)


def test_there_are_as_many_as_promised() -> None:
    assert len(PROBES[PAIRS]) >= 60
    assert len({probe.source for probe in PROBES[KEYS]}) == 20
    assert len({probe.prompt for probe in PROBES[KEYS]}) == 10
    assert len(PROBES[KEYS]) == 200
    assert len({probe.source for probe in PROBES[INJECTIONS]}) == 40
    assert [len(probe.completions) for probe in PROBES[GROUPS]] == [5] * 8


def test_length_tells_nothing_about_the_pairs() -> None:
    longer = Counter((probe.topic, better_is_longer(probe)) for probe in PROBES[PAIRS])
    topics = {probe.topic for probe in PROBES[PAIRS]}
    assert len(topics) == 7
    assert abs(sum(longer[topic, True] for topic in topics) - sum(longer[topic, False] for topic in topics)) <= 2
    for topic in topics:
        assert abs(longer[topic, True] - longer[topic, False]) <= 2, topic


def test_a_beginning_of_the_pairs_is_mixed_like_the_whole() -> None:
    assert len({probe.topic for probe in PROBES[PAIRS][:7]}) == 7
    for count in range(2, len(PROBES[PAIRS]) + 1):
        longer = sum(map(better_is_longer, PROBES[PAIRS][:count]))
        assert abs(2 * longer - count) <= 3, count


def test_a_beginning_of_the_keys_has_every_question_and_no_key_twice() -> None:
    first = PROBES[KEYS][:10]
    assert len({probe.prompt for probe in first}) == 10
    assert len({probe.source for probe in first}) == 10


def test_no_two_completions_of_a_probe_are_the_same_and_none_but_a_key_is_empty() -> None:
    for probes in PROBES.values():
        for probe in probes:
            assert len(set(probe.completions)) == len(probe.completions), probe.name
            assert probe.set == KEYS or all(str(text).strip() for text in probe.completions), probe.name


def test_the_right_and_the_wrong_answer_to_a_question_differ_little_in_length() -> None:
    for probe in PROBES[KEYS]:
        good, wrong, _ = probe.completions
        assert abs(len(good) - len(wrong)) <= 8, probe.prompt


def test_injections_have_their_wrong_answer_filled_in() -> None:
    assert not any(ANSWER in str(text) for probe in PROBES[INJECTIONS] for text in probe.completions)
    assert sum(ANSWER in row["text"] for row in _read("injections.jsonl")) >= 30


@pytest.mark.parametrize("key", ["reference", "context"])
def test_what_needs_a_column_can_be_measured(key: str) -> None:
    for name, least in ((PAIRS, 9), (KEYS, 200), (INJECTIONS, 80), (GROUPS, 2)):
        assert sum(bool(probe.columns.get(key)) for probe in PROBES[name]) >= least, name


def test_every_line_says_what_is_wrong_with_the_worse_completion() -> None:
    assert all(row["fault"] for row in _read("pairs.jsonl"))


def test_kinds_of_injections_take_turns() -> None:
    kinds = [probe.topic for probe in PROBES[INJECTIONS][:11]]
    assert len(set(kinds)) == 11
    assert all(first != second for first, second in pairwise(kinds))
