"""Judges inside a server: made of its configuration, sharing secret and memory, their misses answered by the floor."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_engine import Script, ScriptedEngine, completion_shown, yes_no

from reward_server.config import load
from reward_server.domain import Blame, Call, Sample, Verdict
from reward_server.engines.base import Question
from reward_server.errors import BadAnswer, HostFailed
from reward_server.options import Options
from reward_server.rewards import Rewards
from reward_server.scoring import Selector

CONFIG = """
secret_file: state/judge-secret
rewards:
  nice: {judge: nice}
  nicer: {judge: nice, view: answer}
  kind: {judge: kind}
judges:
  nice: {engine: box, rubric: It is nice.}
  kind: {engine: box, rubric: It is kind.}
engines:
  box: {scripted: {}}
"""

Open = Callable[..., tuple[Rewards, ScriptedEngine]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    def make(script: Script, config: str = CONFIG) -> tuple[Rewards, ScriptedEngine]:
        engine = ScriptedEngine(script)

        class Kind:
            kind = "scripted"
            Options = Options

            def __new__(cls, *_: Any) -> Any:
                return engine

        (tmp_path / "server.yaml").write_text(config)
        kinds = {"scripted": Kind}
        return Rewards(load(tmp_path / "server.yaml", engines=kinds), engines=kinds), engine

    return make


async def verdicts_of(rewards: Rewards, name: str, samples: list[Sample]) -> list[Verdict]:
    found = {index: verdict async for _, index, verdict in rewards.run([Selector(name)], samples, Call())}
    return [found[index] for index in range(len(samples))]


async def test_engines_know_what_to_have_ready_before_they_start(opened: Open) -> None:
    warmed_at_start: list[int] = []
    rewards, engine = opened(lambda _: yes_no(1.0))

    async def start() -> None:
        warmed_at_start.append(len(engine.warmed))

    engine.start = start  # type: ignore[method-assign]
    async with rewards:
        assert warmed_at_start == [2]


async def test_a_secret_is_made_where_the_configuration_says(opened: Open, tmp_path: Path) -> None:
    rewards, _ = opened(lambda _: yes_no(1.0))
    async with rewards:
        assert (tmp_path / "state" / "judge-secret").exists()


async def test_rewards_that_name_one_judge_ask_once(opened: Open) -> None:
    rewards, engine = opened(lambda _: yes_no(0.75))
    async with rewards:
        for name in ("nice", "nicer"):
            (verdict,) = await verdicts_of(rewards, name, [Sample("Hello.", "Say hello.")])
            assert verdict.score == 0.75
    assert len(engine.questions) == 1


async def test_a_judge_is_shown_all_messages_of_a_prompt_and_the_answer_of_the_completion(opened: Open) -> None:
    rewards, engine = opened(lambda _: yes_no(0.75))
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi!"}]
    completion = [{"role": "assistant", "content": "<think>Hm.</think>Hello."}]
    async with rewards:
        await verdicts_of(rewards, "nicer", [Sample(completion, prompt)])
    (question,) = engine.questions
    assert "Be brief." in question.messages[-1].content
    assert completion_shown(question) == "Hello."


async def test_a_policy_that_silences_its_judge_gets_the_floor_and_a_flag(opened: Open) -> None:
    def answer(question: Question) -> Any:
        return BadAnswer("no sense in it") if "abracadabra" in completion_shown(question) else yes_no(0.75)

    rewards, _ = opened(answer)
    samples = [Sample(text, "Say hello.") for text in ("Hello.", "abracadabra", "Good day.", "Hi.")]
    async with rewards:
        verdicts = await verdicts_of(rewards, "nice", samples)
    assert [verdict.score for verdict in verdicts] == [0.75, 0.0, 0.75, 0.75]
    assert verdicts[1].flags == ("floor",)
    assert "no sense in it" in verdicts[1].explanation


async def test_the_same_abstentions_of_a_sick_host_stay_missing(opened: Open) -> None:
    rewards, _ = opened(lambda _: HostFailed("it broke"))
    samples = [Sample(text, "Say hello.") for text in ("Hello.", "abracadabra", "Good day.", "Hi.")]
    async with rewards:
        verdicts = await verdicts_of(rewards, "nice", samples)
    assert {(verdict.score, verdict.blame, verdict.flags) for verdict in verdicts} == {(None, Blame.UNKNOWN, ())}


async def test_a_completion_that_is_still_thinking_gets_the_lowest_score_unasked_and_no_floor(opened: Open) -> None:
    rewards, engine = opened(lambda _: yes_no(0.75))
    async with rewards:
        (verdict,) = await verdicts_of(rewards, "nicer", [Sample("<think>Let me see", "Say hello.")])
    assert (verdict.score, verdict.flags) == (0.0, ("still_thinking",))
    assert engine.questions == []


async def test_a_judge_without_log_probabilities_shows_in_its_rewards_health(opened: Open) -> None:
    rewards, engine = opened(lambda _: yes_no(0.75))
    async with rewards:
        engine.gives_logprobs = False
        health = rewards.health()["kind"]
        assert not health.serving
        assert "set judges.kind.method to reasoned" in health.reason


@pytest.mark.parametrize(("floor", "score", "flags"), [("missing", 0.75, ()), ("0.25", 0.25, ("floor",))])
async def test_a_jury_goes_by_the_floor_that_its_reward_declares(
    opened: Open, floor: str, score: float, flags: tuple[str, ...]
) -> None:
    jury = f"{{jury: {{judges: [nice, kind], combine: min, quorum: 1}}, floor: {floor}}}"

    def answer(question: Question) -> Any:
        return (
            BadAnswer("no")
            if "kind" in str(question.messages) and "abra" in completion_shown(question)
            else yes_no(0.75)
        )

    rewards, _ = opened(answer, CONFIG.replace("rewards:\n", f"rewards:\n  both: {jury}\n"))
    async with rewards:
        (verdict,) = await verdicts_of(rewards, "both", [Sample("abracadabra", "Say hello.")])
    assert (verdict.score, verdict.flags) == (score, flags)


async def test_the_judges_of_a_jury_are_shown_as_much_of_a_prompt_as_they_would_be_alone(opened: Open) -> None:
    config = CONFIG.replace("rewards:\n", "rewards:\n  both: {jury: {judges: [nice, kind]}}\n")
    rewards, engine = opened(lambda _: yes_no(0.75), config)
    prompt = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hello?"},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "Well?"},
    ]
    async with rewards:
        for name in ("nice", "both"):
            await verdicts_of(rewards, name, [Sample(f"Well, {name}.", prompt)])
    assert len(engine.questions) == 3
    assert all("Be brief." in question.messages[-1].content for question in engine.questions)
