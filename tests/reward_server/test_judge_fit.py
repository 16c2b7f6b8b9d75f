"""Nothing is left out in silence: what is too long is cut with a mark and a flag, or the verdict is missing and says why."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_engine import CHARS_A_TOKEN, ScriptedEngine, completion_shown, labels, said, shown, yes_no
from small_judges import REASONED, judge_with, verdict_of, verdicts_of

from reward_server.domain import Blame, Sample, Status
from reward_server.engines.base import Answer, Question
from reward_server.errors import PromptTooLong
from reward_server.judge.fit import MAX_CUTS, MIN_KEPT_CHARS, cut
from reward_server.judge.material import Material

CONTEXT = 1000
WORDS = " ".join(f"word{n}" for n in range(5000))


def host(context_tokens: int = CONTEXT, chars_a_token: float = CHARS_A_TOKEN, **more: Any) -> ScriptedEngine:
    """Returns an engine whose host refuses what is too long and tells the counts."""

    def answer(question: Question) -> Any:
        count = round(sum(len(message.content) for message in question.messages) / chars_a_token)
        if count > context_tokens - question.max_tokens:
            return PromptTooLong(f"{count} tokens, the context has {context_tokens}", count, context_tokens)
        return yes_no(0.75)

    return ScriptedEngine(answer, context_tokens=context_tokens, **more)


@given(st.text(max_size=300), st.integers(0, 300))
def test_a_cut_keeps_head_and_tail_and_says_how_much_is_missing(text: str, keep: int) -> None:
    material = cut(Material(text), keep)
    if len(text) <= keep:
        assert material == Material(text)
        return
    assert material.left_out_chars == len(text) - keep
    head, tail = text[: keep - keep // 2], text[len(text) - keep // 2 :]
    assert material.completion.startswith(head)
    assert material.completion.endswith(tail)
    assert f"[... {len(text) - keep:,} characters left out ...]" in material.completion


async def test_a_long_completion_is_cut_by_the_hosts_counts_marked_and_flagged() -> None:
    engine = host()
    verdict = await verdict_of(engine, Sample(WORDS[:8000], "Write words."))
    assert (verdict.score, verdict.flags) == (0.75, ("cut_for_judge",))
    seen = completion_shown(engine.questions[-1])
    assert seen.startswith("word0 ")
    assert seen.endswith(WORDS[7990:8000])
    assert re.search(r"\n\[\.\.\. [\d,]+ characters left out \.\.\.\]\n", seen)
    assert re.search(r"From its middle [\d,]+ characters were left out", shown(engine.questions[-1]))
    assert verdict.cost.judge_call_count == len(engine.questions) == 2


async def test_a_cut_leaves_most_of_what_fits() -> None:
    engine = host()
    await verdict_of(engine, Sample(WORDS[:7000], "Write words."))
    assert 0.75 * CONTEXT * CHARS_A_TOKEN < len(shown(engine.questions[-1])) <= CONTEXT * CHARS_A_TOKEN


async def test_the_same_completion_is_cut_the_same_way() -> None:
    first, second = host(), host()
    for engine in (first, second):
        await verdict_of(engine, Sample(WORDS[:8000], "Write words."))
    assert first.questions[-1].messages == second.questions[-1].messages


async def test_what_is_certainly_too_long_is_cut_before_it_is_sent() -> None:
    engine = host()
    verdict = await verdict_of(engine, Sample(WORDS, "Write words."))
    assert verdict.score == 0.75
    assert all(len(shown(question)) < 8 * CONTEXT + 2000 for question in engine.questions)


async def test_where_tokens_can_be_counted_nothing_too_long_is_sent() -> None:
    engine = host(counts_tokens=True)
    verdict = await verdict_of(engine, Sample(WORDS[:7000], "Write words."))
    assert (verdict.score, verdict.flags) == (0.75, ("cut_for_judge",))
    assert len(engine.questions) == 1


async def test_a_short_prompt_is_not_counted() -> None:
    class Uncounted(ScriptedEngine):
        async def count_tokens(self, messages: Any) -> int | None:
            raise AssertionError("counted")

    assert (await verdict_of(Uncounted(lambda _: yes_no(0.75), context_tokens=4096))).score == 0.75


async def test_a_host_that_tells_no_counts_gets_half_as_much() -> None:
    def answer(question: Question) -> Any:
        return PromptTooLong("too long") if len(completion_shown(question)) > 1500 else yes_no(0.75)

    engine = ScriptedEngine(answer)
    verdict = await verdict_of(engine, Sample(WORDS[:2400], "Write words."))
    assert (verdict.score, verdict.flags) == (0.75, ("cut_for_judge",))


async def test_after_two_cuts_it_abstains() -> None:
    engine = ScriptedEngine(lambda _: PromptTooLong("too long, still"), context_tokens=CONTEXT)
    verdict = await verdict_of(engine, Sample(WORDS[:6000], "Write words."))
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.UNKNOWN)
    assert "too long, still" in verdict.status_reason
    assert len(engine.questions) == MAX_CUTS + 1


async def test_a_middle_of_thin_tokens_is_cut_twice_and_then_to_blame() -> None:
    """Head and tail of many short tokens, a middle of few long ones: a cut frees less than the average says."""

    def answer(question: Question) -> Any:
        text = shown(question)
        count = text.count("#") * 3 + len(text) // 8
        return PromptTooLong("too long", count, CONTEXT) if count >= CONTEXT else yes_no(0.75)

    sample = Sample("#" * 1500 + "x" * 4000 + "#" * 1500, "Write.")
    verdict = await verdict_of(ScriptedEngine(answer, context_tokens=CONTEXT), sample)
    assert verdict.score == 0.75 or verdict.blame is Blame.COMPLETION


@pytest.mark.parametrize(("policy", "blame"), [("cut", Blame.UNKNOWN), ("refuse", Blame.COMPLETION)])
async def test_rare_characters_cannot_pass_their_many_tokens_off_as_their_tasks(policy: str, blame: Blame) -> None:
    def answer(question: Question) -> Any:
        text = "".join(message.content for message in question.messages)
        count = sum(1 if char.isascii() else 16 for char in text) // 4  # a token for every byte of a rare character
        return PromptTooLong(f"{count} tokens", count, 4096) if count > 4095 else yes_no(0.75)

    engine = ScriptedEngine(answer, context_tokens=4096)
    sample = Sample("\U00012000" * 2500, WORDS[:4200])
    verdict = await verdict_of(engine, sample, long_completion=policy)
    assert verdict.blame is blame
    assert (verdict.score, verdict.flags) == ((0.75, ("cut_for_judge",)) if policy == "cut" else (None, ()))


@pytest.mark.parametrize("length", [7000, 25_000])
async def test_a_long_completion_that_may_not_be_cut_is_to_blame(length: int) -> None:
    verdict = await verdict_of(host(), Sample(WORDS[:length], "Write words."), long_completion="refuse")
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.COMPLETION)
    assert "cut_for_judge" not in verdict.flags


@pytest.mark.parametrize("policy", ["cut", "refuse"])
@pytest.mark.parametrize("length", [7000, 25_000])
async def test_a_task_too_long_is_not_held_against_its_completion(policy: str, length: int) -> None:
    verdict = await verdict_of(host(), Sample("Some words.", WORDS[:length]), long_completion=policy)
    assert (verdict.status, verdict.blame) == (Status.ABSTAINED, Blame.REFERENCE)


async def test_a_completion_is_never_cut_to_nearly_nothing() -> None:
    engine = host()
    verdict = await verdict_of(engine, Sample(WORDS[:1000], WORDS[:3100]))
    kept = [len(completion_shown(question)) for question in engine.questions]
    assert verdict.status is Status.SCORED or min(kept) >= MIN_KEPT_CHARS


async def test_an_answer_that_the_contexts_end_cut_off_is_a_prompt_too_long() -> None:
    def answer(question: Question) -> Any:
        if len(completion_shown(question)) > 2500:
            return Answer('{"reason": "I was', "length", len(shown(question)) // CHARS_A_TOKEN, 5)
        return said('{"reason": "fine", "grades": {"good": "yes"}}')

    engine = ScriptedEngine(answer)
    verdict = await verdict_of(engine, Sample(WORDS[:3000], "Write words."), **REASONED)
    assert (verdict.score, verdict.flags) == (1.0, ("cut_for_judge",))


async def test_other_completions_of_a_call_are_not_cut() -> None:
    engine = host()
    long, short = await verdicts_of(judge_with(engine), [Sample(WORDS[:8000], "Write."), Sample("Words.", "Write.")])
    assert (long.flags, short.flags) == (("cut_for_judge",), ())


async def test_text_that_no_context_holds_is_not_read_whole() -> None:
    engine = ScriptedEngine(lambda _: yes_no(0.75))
    verdict = await verdict_of(engine, Sample("word " * 120_000, "?"))
    assert verdict.flags == ("cut_for_judge",)
    assert len(shown(engine.questions[0])) < 502_000


@pytest.mark.parametrize("method", ["pairwise", "listwise"])
async def test_of_a_compared_group_the_one_that_is_too_long_and_may_not_be_cut_is_to_blame(method: str) -> None:
    def answer(question: Question) -> Any:
        count = sum(len(message.content) for message in question.messages) // 4
        if count > 2 * CONTEXT - question.max_tokens:
            return PromptTooLong(f"{count} tokens", count, 2 * CONTEXT)
        if question.schema is None:
            return labels({"A": 0.5, "B": 0.5})
        ids = question.schema["properties"]["ranking"]["items"]["enum"]
        return said(json.dumps({"reason": "", "ranking": ids}))

    engine = ScriptedEngine(answer, context_tokens=2 * CONTEXT)
    judge = judge_with(engine, method=method, long_completion="refuse")
    samples = [Sample(text, "Write words.") for text in ("One.", WORDS[:12_000], "Two.", "Three.")]
    long = (await verdicts_of(judge, samples)).pop(1)
    assert (long.status, long.blame) == (Status.ABSTAINED, Blame.COMPLETION)
    assert None not in {verdict.score for verdict in await verdicts_of(judge, samples[2:])}
    others = [verdict for verdict in await verdicts_of(judge, samples) if verdict.blame is not Blame.COMPLETION]
    assert len(others) == 3
    assert None not in {verdict.score for verdict in others}
