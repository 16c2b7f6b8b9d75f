"""Everything that a host does on a bad day, through judge and engine: a documented status, a reason a person can act
on, an owner of the blame, within the deadline, and never a number. What a completion does by itself is held against it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from fake_ollama import FakeOllama, Fault
from fake_ollama_faults import OF_LOGPROBS
from judge_at_host import judge_at
from scripted_judges import Answerer, Messages, babbling, by_lookup, completions_in, halving

from reward_server.domain import Blame, Call, Sample, Status, Verdict
from reward_server.judge.blame import BLAND
from reward_server.judge.judge import Judge

SAMPLES = [Sample(f"This is the answer number {number}.", "Say something.") for number in range(4)]
GRADES = (0.0, 1.0, 0.0, 1.0)
SOUND = by_lookup({str(sample.completion): grade for sample, grade in zip(SAMPLES, GRADES, strict=True)})
RUBRIC = "Grade how well the completion does what the task asks for. " * 30  # long enough for a cut to be noticed
LONGEST_S = 20.0


@dataclass(frozen=True)
class Outcome:
    """What becomes of a sample at a host that has a fault."""

    status: Status
    reasons: tuple[str, ...]  # words, one of which its reason has
    blames: frozenset[Blame] = frozenset({Blame.UNKNOWN})


OUTAGE = frozenset({Blame.OUTAGE})
BREAKING = frozenset({Blame.UNKNOWN, Blame.OUTAGE})
"""Some meet the fault itself, and the others a host that is out by then, because of it."""


def failed(*reasons: str, blames: frozenset[Blame] = frozenset({Blame.UNKNOWN})) -> Outcome:
    return Outcome(Status.FAILED, reasons, blames)


def too_long(reason: str) -> Outcome:
    return Outcome(Status.ABSTAINED, (reason,), frozenset({Blame.REFERENCE}))


def no_grade(reason: str) -> Outcome:
    return Outcome(Status.ABSTAINED, (reason,))


SCORED = Outcome(Status.SCORED, ("",))

# What becomes of every sample while the fault lasts.
EITHER: dict[Fault, Outcome] = {
    Fault.HANG: failed("no answer within 1 s", "its first answers take long", blames=BREAKING),
    Fault.DRIP: failed("no answer within 1 s", "its first answers take long", blames=BREAKING),
    Fault.HANG_UP: failed("the connection broke before the answer", blames=OUTAGE),
    Fault.CUT_BODY: failed("the connection broke before the answer", blames=OUTAGE),
    Fault.HUGE: failed("the answer is larger than 16 MiB; no model's host"),
    Fault.CRASHED: failed("unexpected EOF", blames=BREAKING),
    Fault.MID_STREAM_ERROR: failed("unexpected EOF", blames=BREAKING),
    Fault.BUSY: failed("busy", blames=OUTAGE),
    Fault.MISSING_MODEL: failed("it has no model `smollm2:135m`", blames=OUTAGE),
    Fault.DELETED: failed("it has no model `smollm2:135m`", blames=OUTAGE),
    Fault.TOO_LONG: too_long("the prompt has 910 tokens, the context is 256 tokens"),
    Fault.NESTED_400: failed("answered 400: Field 'json_schema'"),
    Fault.HTML: failed("a page of HTML: Sign in Please sign in"),
    Fault.HTML_502: failed("answered 502: a page of HTML: 502 Bad Gateway nginx. A proxy in front", blames=OUTAGE),
    Fault.JSON_LIST: failed("answered 500: upstream went away", blames=BREAKING),
    Fault.WRONG_TOKEN: failed("Is the token right? See engines.box.token_env"),
    Fault.REDIRECT: failed("answered 302: an empty body. It sends elsewhere: mend the url"),
    Fault.EMPTY: failed("an empty body"),
    Fault.GARBAGE: failed("the connection broke before the answer", blames=OUTAGE),
    Fault.DONE_FALSE: no_grade("the answer is not complete (done is not true)"),
    Fault.UNLOADED: no_grade("the answer ended by 'unload', not by stop or length"),
    Fault.UNKNOWN_REASON: no_grade("the answer ended by 'aborted', not by stop or length"),
    Fault.NO_REASON: no_grade("the answer ended by None, not by stop or length"),
    Fault.HALVED: failed("it has cut the prompt in silence"),
    Fault.CHANGED: failed("and engine `box` serves", blames=OUTAGE),
    Fault.ZERO_COUNT: no_grade("prompt_eval_count is 0, not a count of tokens"),
    Fault.NEGATIVE_COUNT: no_grade("prompt_eval_count is -1, not a count of tokens"),
    Fault.NO_COUNT: no_grade("prompt_eval_count is 0, not a count of tokens"),
    Fault.TEXT_COUNT: no_grade("prompt_eval_count is '21', not a count of tokens"),
}
CRITERIA: dict[Fault, Outcome] = {
    Fault.HALF_JSON: no_grade("of the probability is on yes or no"),
    Fault.NOT_JSON: no_grade("of the probability is on yes or no"),
    Fault.OUT_OF_CONTEXT: SCORED,  # an answer of one token needs no more room
    Fault.WHITESPACE: no_grade("of the probability is on yes or no"),
    Fault.ONLY_THINKING: no_grade("the answer came without log-probabilities"),
    Fault.NO_LOGPROBS: no_grade("the answer came without log-probabilities"),
    Fault.EMPTY_LOGPROBS: no_grade("the answer came without log-probabilities"),
    Fault.NAN_LOGPROBS: no_grade("is nan, not a finite number up to 0"),
    Fault.POSITIVE_LOGPROBS: no_grade("is 3.5, not a finite number up to 0"),
    Fault.WRONG_LOGPROBS: no_grade("a log-probability without its token"),
    Fault.BEYOND_TOP: no_grade("of the probability is on yes or no"),
}
REASONED: dict[Fault, Outcome] = {
    Fault.HALF_JSON: no_grade("the answer was cut off at 200 tokens"),
    Fault.NOT_JSON: no_grade("not the JSON asked for"),
    Fault.OUT_OF_CONTEXT: too_long("the context ended after"),
    Fault.WHITESPACE: no_grade("the answer was cut off at 200 tokens"),
    Fault.ONLY_THINKING: no_grade("the answer was cut off at 200 tokens"),
} | dict.fromkeys(sorted(OF_LOGPROBS, key=str), SCORED)  # it asks for none
OUTCOMES = {"criteria": EITHER | CRITERIA, "reasoned": EITHER | REASONED}
LASTING = [(method, fault) for method, table in OUTCOMES.items() for fault in table]
PASSING = [("criteria", fault) for fault in Fault] + [("reasoned", fault) for fault in REASONED]

FOR_GOOD = {Fault.DELETED, Fault.CHANGED}
"""They are over when somebody mends the host, and not before."""
NOT_ASKED_AGAIN = {Fault.HUGE, Fault.NESTED_400, Fault.HTML, Fault.WRONG_TOKEN, Fault.REDIRECT, Fault.EMPTY}
NOT_ASKED_AGAIN |= {Fault.HALVED, Fault.TOO_LONG, Fault.OUT_OF_CONTEXT}
"""No other try could do better: the sample that met it is lost, whatever follows."""


async def verdicts_of(judge: Judge, deadline_s: float = LONGEST_S) -> list[Verdict]:
    """Returns the verdicts on SAMPLES, all of which have come within LONGEST_S."""
    call = Call(deadline=time.monotonic() + deadline_s)
    async with asyncio.timeout(LONGEST_S):
        found = {index: verdict async for index, verdict in judge.score(SAMPLES, call)}
    return [found[index] for index in range(len(SAMPLES))]


def about(text: str) -> Callable[[Messages], bool]:
    return lambda messages: text in completions_in(messages).values()


@pytest.mark.parametrize("method", OUTCOMES)
def test_every_fault_has_its_line(method: str) -> None:
    assert OUTCOMES[method].keys() == set(Fault)


@pytest.mark.parametrize(("method", "fault"), LASTING)
async def test_a_lasting_fault_is_a_reason_and_never_a_number(method: str, fault: Fault, tmp_path: Path) -> None:
    expected = OUTCOMES[method][fault]
    lasts_s = 1 if Blame.OUTAGE in expected.blames else 10  # so long is waited for a host that is out
    with FakeOllama(SOUND, slots=4) as host:
        async with judge_at(host, tmp_path, rubric=RUBRIC, method=method, timeout_s=lasts_s) as judge:
            host.always = fault
            verdicts = await verdicts_of(judge)
    for verdict, grade in zip(verdicts, GRADES, strict=True):
        assert verdict.status is expected.status
        assert any(reason in verdict.status_reason for reason in expected.reasons)
        assert verdict.blame in expected.blames
        assert verdict.score == (grade if expected is SCORED else None)


@pytest.mark.parametrize(("method", "fault"), PASSING)
async def test_a_fault_of_one_answer_costs_at_most_the_sample_that_met_it(
    method: str, fault: Fault, tmp_path: Path
) -> None:
    with FakeOllama(SOUND, slots=4) as host:
        lasts_s = 1 if fault in FOR_GOOD | {Fault.HANG, Fault.DRIP} else 10
        async with judge_at(host, tmp_path, rubric=RUBRIC, method=method, timeout_s=lasts_s) as judge:
            host.faults = [fault]
            verdicts = await verdicts_of(judge)
    lost = 4 if fault in FOR_GOOD else int(fault in NOT_ASKED_AGAIN and OUTCOMES[method][fault] is not SCORED)
    assert [verdict.score for verdict in verdicts].count(None) == lost
    for verdict, grade in zip(verdicts, GRADES, strict=True):
        assert verdict.score in (None, grade)
        assert verdict.blame is not Blame.COMPLETION


@pytest.mark.parametrize("method", OUTCOMES)
async def test_the_deadline_of_the_call_ends_every_wait(method: str, tmp_path: Path) -> None:
    with FakeOllama(SOUND, slots=4) as host:
        async with judge_at(host, tmp_path, rubric=RUBRIC, method=method, timeout_s=600) as judge:
            host.always = Fault.HANG
            verdicts = await verdicts_of(judge, deadline_s=1.5)
            assert {verdict.status for verdict in verdicts} == {Status.FAILED}
            # The host hangs: what nobody could know when the first question was cut short is an outage by the last.
            assert {verdict.blame for verdict in verdicts} <= {Blame.UNKNOWN, Blame.OUTAGE}


@pytest.mark.parametrize("fault", [Fault.CRASHED, Fault.DONE_FALSE, Fault.MID_STREAM_ERROR, Fault.JSON_LIST])
@pytest.mark.parametrize("method", OUTCOMES)
async def test_a_completion_that_breaks_the_host_again_and_alone_is_to_blame(
    method: str, fault: Fault, tmp_path: Path
) -> None:
    breaks = about(str(SAMPLES[1].completion))
    with FakeOllama(SOUND, slots=4) as host:
        async with judge_at(host, tmp_path, rubric=RUBRIC, method=method) as judge:
            host.fault_for = lambda messages: fault if breaks(messages) else None
            verdicts = await verdicts_of(judge)
    assert [verdict.score for verdict in verdicts] == [0.0, None, 0.0, 1.0]
    assert verdicts[1].blame is Blame.COMPLETION


def silenced(method: str) -> Answerer:
    make = {"criteria": babbling, "reasoned": halving}[method]
    return make(lambda text: text == SAMPLES[1].completion, SOUND)


@pytest.mark.parametrize("method", OUTCOMES)
async def test_a_completion_that_silences_the_judge_is_to_blame_for_its_silence(method: str, tmp_path: Path) -> None:
    with FakeOllama(silenced(method), slots=4) as host:
        async with judge_at(host, tmp_path, rubric=RUBRIC, method=method) as judge:
            verdicts = await verdicts_of(judge)
    assert [verdict.score for verdict in verdicts] == [0.0, None, 0.0, 1.0]
    assert (verdicts[1].status, verdicts[1].blame) == (Status.ABSTAINED, Blame.COMPLETION)


@pytest.mark.parametrize("method", OUTCOMES)
async def test_a_silence_that_a_bland_completion_meets_too_is_nobodys_fault(method: str, tmp_path: Path) -> None:
    with FakeOllama(SOUND, slots=4) as host:
        async with judge_at(host, tmp_path, rubric=RUBRIC, method=method) as judge:
            host.fault_for = lambda messages: Fault.NOT_JSON if completions_in(messages) else None
            verdicts = await verdicts_of(judge)
            asked = [text for question in host.questions for text in completions_in(question["messages"]).values()]
    assert BLAND in asked
    assert {(verdict.score, verdict.blame) for verdict in verdicts} == {(None, Blame.UNKNOWN)}


@pytest.mark.parametrize("method", OUTCOMES)
async def test_every_grade_of_a_sound_host_arrives_at_its_completion(method: str, tmp_path: Path) -> None:
    texts = [f"<|im_end|> text {number} </s>\r\n\x00" for number in range(40)]

    def good(text: str) -> float:
        return float(int(text.split("text ")[1].split(maxsplit=1)[0]) % 3 == 0)

    with FakeOllama(
        lambda messages: by_lookup({t: good(t) for t in completions_in(messages).values()})(messages)
    ) as host:
        async with judge_at(host, tmp_path, rubric=RUBRIC, method=method) as judge:
            found = {index: verdict async for index, verdict in judge.score([Sample(text) for text in texts], Call())}
    assert {index: verdict.score for index, verdict in found.items()} == {n: float(n % 3 == 0) for n in range(40)}
