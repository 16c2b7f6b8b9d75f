"""Whom a missing grade is held against where hosts are several, or break under all that they work on: a host that is
sick condemns nobody whom a healthy one would have graded, and who dies with another is told from who killed it."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from crashing_ollama import CrashingOllama
from fake_ollama import FakeOllama, Fault, Messages
from judge_at_host import judge_at
from scripted_engine import ScriptedEngine, completion_shown, yes_no
from scripted_judges import babbling, completions_in, constant
from small_judges import judge_with, verdicts_of

from reward_server.domain import Blame, Call, Sample, Verdict
from reward_server.errors import BadAnswer, HostFailed
from reward_server.judge.judge import Judge

METHODS = ["criteria", "reasoned"]
SILENCER = "abracadabra"


def silences(text: str) -> bool:
    return SILENCER in text


def samples(*texts: str) -> list[Sample]:
    return [Sample(text, "Say something.", group=1) for text in texts]


def numbered(count: int) -> list[Sample]:
    return samples(*(f"This is the answer number {number}." for number in range(count)))


def babbles(messages: Messages) -> Fault | None:
    """Returns the fault of a host that is sick: no grade, whatever the completion."""
    return Fault.NOT_JSON if completions_in(messages) else None


async def judged(judge: Judge, asked: list[Sample]) -> list[Verdict]:
    return await verdicts_of(judge, asked, Call(deadline=time.monotonic() + 30.0))


def blamed(verdicts: list[Verdict]) -> list[bool]:
    return [verdict.blame is Blame.COMPLETION for verdict in verdicts]


@pytest.mark.parametrize("method", METHODS)
async def test_two_sick_hosts_of_three_are_held_against_nobody(method: str, tmp_path: Path) -> None:
    with ExitStack() as hosts:
        three = [hosts.enter_context(FakeOllama(constant(0.5), slots=4)) for _ in range(3)]
        async with judge_at(three, tmp_path, method=method) as judge:
            three[0].fault_for = three[1].fault_for = babbles
            verdicts = await judged(judge, numbered(24))
    assert any(verdict.score is None for verdict in verdicts), "nobody was at both"
    assert not any(blamed(verdicts))


@pytest.mark.parametrize("method", METHODS)
async def test_a_sick_host_is_not_proven_well_by_another(method: str, tmp_path: Path) -> None:
    with FakeOllama(constant(0.5), slots=4, seconds=0.7) as sick, FakeOllama(constant(0.5), slots=4) as sound:
        async with judge_at((sick, sound), tmp_path, method=method) as judge:
            before = len(sick.questions)
            sick.fault_for = babbles
            sound.fault_for = lambda _: Fault.BUSY if len(sick.questions) < before + 2 else None
            (verdict,) = await judged(judge, numbered(1))
    assert (verdict.score, verdict.blame) == (None, Blame.UNKNOWN)


@pytest.mark.parametrize("others", [0, 8])
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("method", METHODS)
async def test_who_silences_every_host_is_found_however_many_there_are(
    method: str, count: int, others: int, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        hosts = [stack.enter_context(FakeOllama(babbling(silences), slots=4)) for _ in range(count)]
        async with judge_at(hosts, tmp_path, method=method) as judge:
            verdicts = await judged(judge, [*samples(SILENCER), *numbered(others)])
    assert blamed(verdicts) == [True] + [False] * others
    assert [verdict.score for verdict in verdicts[1:]] == pytest.approx([0.5] * others, abs=0.5)


async def test_who_breaks_every_host_is_found_however_many_there_are(tmp_path: Path) -> None:
    with ExitStack() as stack:
        hosts = [stack.enter_context(CrashingOllama(silences, slots=4)) for _ in range(3)]
        async with judge_at(hosts, tmp_path) as judge:
            verdicts = await judged(judge, [*samples(SILENCER), *numbered(7)])
    assert blamed(verdicts) == [True] + [False] * 7


@pytest.mark.parametrize("killers", [0, 1, 2])
@pytest.mark.parametrize("method", METHODS)
async def test_who_dies_with_another_is_told_from_who_killed_it(method: str, killers: int, tmp_path: Path) -> None:
    asked = [*samples(*(f"{SILENCER} {number}" for number in range(killers))), *numbered(6 - killers)]
    with CrashingOllama(silences, slots=4, seconds=0.1) as host:
        async with judge_at(host, tmp_path, method=method) as judge:
            verdicts = await judged(judge, asked)
    assert blamed(verdicts) == [True] * killers + [False] * (6 - killers)
    assert all(verdict.score is not None for verdict in verdicts[killers:])


@pytest.mark.parametrize("method", ["pairwise", "listwise"])
async def test_so_it_is_where_completions_are_compared(method: str, tmp_path: Path) -> None:
    with CrashingOllama(silences, slots=4, seconds=0.1) as host:
        async with judge_at(host, tmp_path, method=method) as judge:
            verdicts = await judged(judge, samples("Hello.", SILENCER, "Good day.", "Hi there."))
    assert blamed(verdicts) == [False, True, False, False]
    assert [verdict.score is None for verdict in verdicts] == [False, True, False, False]


@pytest.mark.parametrize("method", ["pairwise", "listwise"])
async def test_two_sick_hosts_of_three_are_held_against_no_group(method: str, tmp_path: Path) -> None:
    with ExitStack() as hosts:
        three = [hosts.enter_context(FakeOllama(constant(0.5), slots=4)) for _ in range(3)]
        async with judge_at(three, tmp_path, method=method) as judge:
            three[0].fault_for = three[1].fault_for = babbles
            verdicts = await judged(judge, samples("Hello.", "Good day.", "Hi there."))
    assert not any(blamed(verdicts))


@pytest.mark.parametrize("error", [BadAnswer("no sense in it"), HostFailed("unexpected EOF")])
async def test_who_says_the_same_shares_the_blame(error: Any) -> None:
    engine = ScriptedEngine(lambda question: error if silences(completion_shown(question)) else yes_no(0.75))
    verdicts = await verdicts_of(judge_with(engine), samples(*[SILENCER] * 4, "Hello."))
    assert blamed(verdicts) == [True] * 4 + [False]


async def test_a_suspect_is_asked_again_while_nothing_else_is() -> None:
    beside: list[int] = []
    asked = 0

    def answer(question: Any) -> Any:
        nonlocal asked
        asked += silences(completion_shown(question))
        if asked > 4 and silences(completion_shown(question)):
            beside.append(engine.open)
        return HostFailed("it broke") if silences(completion_shown(question)) else yes_no(0.75)

    engine = ScriptedEngine(answer)
    verdicts = await verdicts_of(judge_with(engine), samples(*(f"{SILENCER} {number}" for number in range(2))))
    assert blamed(verdicts) == [True, True]
    assert beside == [1] * 4


async def test_a_control_that_fails_speaks_for_all_who_wait_for_their_turn() -> None:
    engine = ScriptedEngine(lambda _: HostFailed("it broke"))
    verdicts = await verdicts_of(judge_with(engine), numbered(16))
    assert {verdict.blame for verdict in verdicts} == {Blame.UNKNOWN}
    assert len(engine.questions) == 2 * 16 + 2
