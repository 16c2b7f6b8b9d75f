import asyncio
import json
from types import SimpleNamespace

import pytest
from scripted_engine import ScriptedEngine, completion_shown, labels, yes_no
from small_judges import judge_with, verdicts_of
from small_rewards import Chars, config_of
from structlog.testing import capture_logs
from waiting import until

from reward_server.config import EngineConfig
from reward_server.domain import Call, Health, Sample, failed, scored
from reward_server.errors import ConfigError
from reward_server.judge.alarms import MARGIN, Round, alarms
from reward_server.judge.canaries import Canaries, read_canaries, sample_of
from reward_server.judge.options import JudgeOptions
from reward_server.judge.rubric import Canary
from reward_server.options import Options
from reward_server.rewards import Rewards

GOOD = Canary(prompt="Say hello.", completion="Hello!", good=True)
BAD = Canary(prompt="Say hello.", completion="Go away.", good=False)
OTHER = Canary(prompt="Say bye.", completion="Bye!", good=True)


class Watched:
    """A judge whose scores a test decides, by completion; None = it gives none."""

    def __init__(self):
        self.name = "relevance"
        self.score_range = (-1.0, 1.0)
        self.method = SimpleNamespace(compares=False)
        self.scores = {"Hello!": 0.8, "Go away.": -0.8, "Bye!": 0.6}
        self.model = "one"
        self.calls = []
        self.error = None

    def identity(self):
        return {"model": self.model}

    async def score(self, samples, call, *, fresh):
        self.calls.append(([sample.completion for sample in samples], fresh))
        if self.error:
            raise self.error
        for index, sample in enumerate(samples):
            score = self.scores[sample.completion]
            yield index, failed("away") if score is None else scored(score)


def canaries_of(judge, *canaries, every_s=3600.0):
    return Canaries(judge, canaries or (GOOD, BAD, OTHER), reference_column=None, every_s=every_s, timeout_s=5.0)


async def rounds(canaries, judge, *changes):
    """Plays a round for each change of scores; returns what was logged in each."""
    logged = []
    for change in changes:
        judge.scores |= change
        with capture_logs() as logs:
            await canaries.round()
        logged.append([(log["log_level"], log.get("alarm", "")) for log in logs])
    return logged


async def test_a_sound_judge_raises_no_alarm():
    judge = Watched()
    canaries = canaries_of(judge)
    assert await rounds(canaries, judge, {}, {"Hello!": 0.7}) == [[], []]
    assert canaries.caution == ""


async def test_they_are_asked_afresh_and_a_prompts_canaries_together():
    judge = Watched()
    await canaries_of(judge, GOOD, OTHER, BAD).round()
    assert judge.calls == [(["Hello!", "Go away."], True), (["Bye!"], True)]


async def test_a_good_one_not_above_a_bad_one_is_an_alarm_told_once_until_it_is_over():
    judge = Watched()
    canaries = canaries_of(judge)
    judge.scores["Go away."] = 0.7
    logged = await rounds(canaries, judge, {}, {"Go away.": 0.65}, {"Go away.": 0.5}, {})
    assert logged == [[("warning", "order")], [], [("info", "")], []]


async def test_an_alarm_about_other_canaries_is_told_anew():
    judge = Watched()
    canaries = canaries_of(judge)
    judge.scores["Go away."] = 0.7
    assert await rounds(canaries, judge, {}, {"Go away.": 0.85}) == [[("warning", "order")], [("warning", "order")]]
    assert canaries.caution.startswith("canaries: 2 times a good one is not above a bad one: number 1 (good) got 0.90")


async def test_a_grade_that_moves_since_the_first_round_is_an_alarm_however_slowly():
    judge = Watched()
    step = 2 * MARGIN * 0.6  # of a range of 2
    logged = await rounds(canaries_of(judge), judge, {}, {"Bye!": 0.6 - step}, {"Bye!": 0.6 - 2 * step})
    assert logged == [[], [], [("warning", "drift")]]


async def test_after_a_change_of_model_a_grade_is_compared_with_that_models_first():
    judge = Watched()
    canaries = canaries_of(judge)
    await rounds(canaries, judge, {})
    judge.model = "two"
    assert await rounds(canaries, judge, {"Bye!": 0.0}, {"Bye!": 0.6}) == [[], [("warning", "drift")]]
    judge.model = "one"
    assert await rounds(canaries, judge, {}, {"Bye!": 0.0}) == [[("info", "")], [("warning", "drift")]]


async def test_one_without_a_score_is_an_alarm_and_the_first_score_that_it_gets_is_its_first():
    judge = Watched()
    canaries = canaries_of(judge)
    judge.scores["Bye!"] = None
    assert await rounds(canaries, judge, {}) == [[("warning", "missing")]]
    assert canaries.caution == "canaries: 1 without a score: number 3 (good) (away)"
    assert await rounds(canaries, judge, {"Bye!": 0.1}, {"Bye!": 0.2}) == [[("info", "")], []]


def test_where_completions_are_compared_only_those_of_one_prompt_are():
    bad_elsewhere = Round({1: 0.7, 2: 0.6}, {})
    assert [alarm.kind for alarm in alarms((GOOD, BAD, OTHER), bad_elsewhere, {})] == ["order"]
    assert alarms((GOOD, BAD, OTHER), bad_elsewhere, {}, compares=True) == []
    assert alarms((GOOD, BAD), Round({0: 0.5, 1: 0.5}, {}), {}, compares=True) != []


async def test_rounds_go_on_in_the_background_even_when_one_breaks_and_end_when_closed():
    judge = Watched()
    judge.error = RuntimeError("a bug")
    canaries = canaries_of(judge, every_s=0.01)
    with capture_logs() as logs:
        await canaries.start()
        await until(lambda: len(judge.calls) > 1)
        judge.error = None
        await until(lambda: len(judge.calls) > 4)
        await canaries.close()
    count = len(judge.calls)
    await asyncio.sleep(0.03)
    assert len(judge.calls) == count
    assert logs[0]["event"] == "canaries could not be scored"


async def test_with_no_rounds_wanted_none_are_begun():
    judge = Watched()
    canaries = canaries_of(judge, every_s=0.0)
    await canaries.start()
    await asyncio.sleep(0)
    await canaries.close()
    assert judge.calls == []


def test_a_canary_is_a_sample_as_a_trainer_would_send_it():
    canary = Canary(prompt="p", completion="c", reference="r", columns={"source": "s"}, good=True)
    assert sample_of(canary, "answer") == Sample("c", "p", {"source": "s", "answer": "r"})
    assert sample_of(canary, None) == Sample("c", "p", {"source": "s"})


RUBRIC = {
    "criteria": [{"name": "kind", "text": "It is kind."}],
    "canaries": [GOOD.model_dump(), BAD.model_dump()],
}


async def test_a_judge_scores_its_canaries_past_its_memory_and_is_cautious_in_its_health():
    engine = ScriptedEngine(lambda question: yes_no(0.9 if completion_shown(question) == "Go away." else 0.2))
    judge = judge_with(engine, rubric=RUBRIC, canary_every_s=0.01)
    with capture_logs():
        await judge.start()
        await until(lambda: len(engine.questions) > 4)
        await judge.close()
    assert judge.health().serving
    assert "a good one is not above a bad one" in judge.health().reason
    asked = len(engine.questions)
    await verdicts_of(judge, [Sample("Hello!", "Say hello.")])
    assert len(engine.questions) == asked + 1  # canaries are not remembered either
    await verdicts_of(judge, [Sample("Hello!", "Say hello.")])
    assert len(engine.questions) == asked + 1


async def test_a_judge_that_compares_is_given_its_canaries_as_a_group():
    engine = ScriptedEngine(lambda question: labels({"A": 0.9, "B": 0.1}))
    judge = judge_with(engine, method="pairwise", rubric=RUBRIC, canary_every_s=3600)
    with capture_logs() as logs:
        await judge.start()
        await until(lambda: judge.health() != Health())
        await judge.close()
    assert [log["alarm"] for log in logs] == ["order"]
    assert len(engine.questions) == 2


async def test_a_judge_asks_its_canaries_nothing_unless_told_to():
    engine = ScriptedEngine(lambda question: yes_no(0.5))
    judge = judge_with(engine, rubric=RUBRIC)
    await judge.start()
    await judge.close()
    assert engine.questions == []


async def test_a_server_begins_the_rounds_once_its_engines_are_ready_and_ends_them(tmp_path):
    engine = ScriptedEngine(lambda question: yes_no(0.5))
    events = []

    async def start():
        events.append(f"ready after {len(engine.questions)}")

    async def close():
        events.append("closed")

    engine.start, engine.close = start, close
    options = JudgeOptions(engine="box", rubric=RUBRIC, canary_every_s=3600)
    config = config_of(
        {"chars": Chars},
        engines={"box": EngineConfig(name="box", kind="scripted", options=Options())},
        judges={"relevance": options},
        secret_file=tmp_path / "secret",
        folder=tmp_path,
    )
    with capture_logs():
        async with Rewards(config, scorers={"chars": Chars}, engines={"scripted": lambda *_: engine}):
            await until(lambda: len(engine.questions) == 2)
    assert events == ["ready after 0", "closed"]


def test_rounds_without_canaries_are_refused():
    engine = ScriptedEngine(lambda question: yes_no(0.5))
    with pytest.raises(ConfigError, match=r"judges\.relevance\.canary_every_s: there are no canaries"):
        judge_with(engine, canary_every_s=60)


def test_a_file_adds_to_the_rubrics_canaries(tmp_path):
    lines = [
        {"prompt": "p", "completion": "line one\u2028still one", "good": True},
        {"prompt": "p", "completion": "c", "good": False, "reference": "r", "columns": {"source": "s"}},
    ]
    path = tmp_path / "canaries.jsonl"
    path.write_text("\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines) + "\n", encoding="utf-8")
    assert [canary.model_dump(exclude_defaults=True) for canary in read_canaries(path)] == lines
    engine = ScriptedEngine(lambda question: yes_no(0.5))
    judge_with(engine, folder=tmp_path, canaries_file="canaries.jsonl", canary_every_s=60)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"\xff", "is not UTF-8"),
        (b"\nnot json\n", "line 2: Invalid JSON"),
        (b'{"prompt": "p", "completion": "c"}', "line 1: good: Field required"),
        (b'{"prompt": "p", "completion": "c", "good": true, "gold": 1}', "line 1: gold: Extra inputs"),
        (b"[" * 10_000, "line 1: Invalid JSON"),
    ],
)
def test_what_is_no_canary_is_said_by_file_and_line(tmp_path, content, why):
    path = tmp_path / "canaries.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=why):
        read_canaries(path)
    engine = ScriptedEngine(lambda question: yes_no(0.5))
    with pytest.raises(ConfigError, match=r"judges\.relevance\.canaries_file: "):
        judge_with(engine, folder=tmp_path, canaries_file="canaries.jsonl")


async def test_asking_afresh_neither_reads_nor_fills_the_memory():
    engine = ScriptedEngine(lambda question: yes_no(0.5))
    judge = judge_with(engine)
    for _ in range(2):
        assert [verdict.score async for _, verdict in judge.score([Sample("Hello!")], Call(), fresh=True)] == [0.5]
    await verdicts_of(judge, [Sample("Hello!")])
    assert len(engine.questions) == 3
