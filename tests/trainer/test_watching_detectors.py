"""Detectors on made-up histories: each fires on its illness, once, in words with the setting, and none on a healthy run."""

import logging
import math
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from trainer.history import History
from trainer.watching import kept
from trainer.watching.batch import BatchFacts, metrics
from trainer.watching.detectors import DETECTORS, Watcher
from trainer.watching.finding import Finding
from trainer.watching.settings import Settings

SETTINGS = Settings(
    beta=0.04,
    learning_rate=1e-5,
    num_generations=8,
    max_completion_length=128,
    temperature=0.7,
    max_steps=100,
    generation_batch_size=32,
    weights={"brevity": 1.0, "relevance": 0.5},
    deadline_s=120.0,
)

Row = dict[str, Any]
Ill = Callable[[int, Row], Row]


def healthy(step: int, chance: random.Random) -> Row:
    """Returns a step of a run that learns: rewards rise a little, all else stays within its usual noise."""

    def about(value: float, part: float = 0.1) -> float:
        return value * (1 + chance.uniform(-part, part))

    row: Row = {"step": step, "loss": about(0.02, 0.9), "grad_norm": about(0.4, 0.5), "learning_rate": 1e-5}
    row |= {
        "reward": about(0.5 + step / 200),
        "reward_std": about(0.3),
        "kl": about(0.0005 * step),
        "entropy": about(0.8),
    }
    row |= {"completions/mean_length": about(60), "completions/clipped_ratio": about(0.1)}
    row |= {"frac_reward_zero_std": about(0.1), "watch/zero_variance": about(0.1), "watch/duplicates": about(0.05)}
    row |= {"watch/length_correlation": about(0.2), "watch/length_spread": about(0.4), "watch/not_finite": 0.0}
    row |= {"missing/share": about(0.01), "clip_ratio/region_mean": 0.0, "versions": {"brevity": "1", "relevance": "1"}}
    row |= {"time/step_s": about(10), "time/generate_s": about(4), "time/rewards_s": about(3)}
    row |= {"reward_server/call_s": about(3), "reward_server/server_s": about(2.9), "reward_server/queue_s": about(0.5)}
    row |= {"reward_server/judge_s": about(0.4)}
    for name in ("brevity", "relevance"):
        of = f"rewards/{name}"
        row |= {f"{of}/mean": about(0.5 + step / 200), f"{of}/std": about(0.2), f"{of}/missing": about(0.3)}
        row |= {f"{of}/max": 1.0, f"{of}/min": 0.0, f"{of}/at_max": about(0.2), f"{of}/at_min": about(0.1)}
        row |= {
            f"{of}/zero_variance": about(0.2),
            f"{of}/length_correlation": about(0.2),
            f"{of}/group_std": about(0.2),
        }
    return row


def watched(ill: Ill = lambda step, row: row, *, steps: int = 40, settings: Settings = SETTINGS) -> list[Finding]:
    """Returns what is told over a run, step by step."""
    chance, history, watcher, told = random.Random(5), History(), Watcher(settings), []
    for step in range(1, steps + 1):
        history.rows.append(ill(step, healthy(step, chance)))
        told += watcher.look(history)
    return told


def late(**values: Any) -> Ill:
    """Returns an illness that begins at step 12: these metrics have these values; `__` stands for a slash."""
    named = {key.replace("__", "/"): value for key, value in values.items()}
    return lambda step, row: row | named if step >= 12 else row


def test_a_healthy_run_is_left_alone():
    assert watched(steps=200) == []


def test_a_healthy_run_of_a_model_that_is_sure_of_itself_and_learns_a_format_is_left_alone():
    def learns(step: int, row: Row) -> Row:
        solved = min(1.0, 0.3 + step / 30)
        return row | {"entropy": 0.08, "rewards/relevance/at_max": solved, "rewards/relevance/mean": solved}

    # the format's weight is a third of what there is to win
    assert watched(learns) == []


ILLNESSES: dict[str, tuple[Ill, str, list[str]]] = {
    "zero variance": (
        late(watch__zero_variance=0.6, rewards__relevance__zero_variance=0.8),
        "zero-variance groups",
        [
            "all 8 completions of 60 % of the groups get the same reward",
            "relevance in 80 %",
            "grpo.temperature from 0.7 to 1",
            "grpo.num_generations from 8 to 16",
        ],
    ),
    "one length": (
        lambda step, row: (
            late(watch__length_spread=0.0, completions__mean_length=24.0)(step, row)
            | {"rewards/brevity/length_correlation": 0.9}
        ),
        "reward hacking, one length",
        ["the same length, about 24 tokens", "weight of brevity from 1 to 0.5", "`diversity`", "`clip: {of: brevity"],
    ),
    "copies": (
        late(watch__duplicates=0.7),
        "reward hacking, duplicates",
        ["70 % of the completions of a prompt repeat another", "grpo.temperature from 0.7 to 1", "`diversity`"],
    ),
    "saturation": (
        late(rewards__brevity__at_max=0.95),
        "reward hacking, saturation",
        [
            "95 % of the completions get 1, the largest score of brevity",
            "weight of brevity from 1 to 0.5",
            "grpo.max_steps",
        ],
    ),
    "follows the length": (
        late(rewards__relevance__length_correlation=0.9, completions__mean_length=120.0),
        "reward hacking, length",
        [
            "relevance scores longer completions higher (correlation +0.90",
            "to 120 tokens",
            "weight of relevance from 0.5",
        ],
    ),
    "one against the other": (
        late(rewards__brevity__mean=0.9, rewards__relevance__mean=0.1),
        "reward hacking, one against the others",
        [
            "brevity rises (0.51 -> 0.90)",
            "relevance 0.48 -> 0.10",
            "weight of brevity from 1 to 0.5",
            "weight of relevance from 0.5 to 1",
        ],
    ),
    "KL": (
        late(kl=1.5),
        "KL too high",
        [
            "kl is 1.5 nats",
            "grpo.beta from 0.04 to 0.1",
            "grpo.learning_rate from 1e-05 to 5e-06",
            "grpo.max_steps from 100 to 11",
        ],
    ),
    "KL at once": (lambda step, row: row | {"kl": 6.0} if step == 1 else row, "KL too high", ["kl is 6 nats"]),
    "NaN": (
        late(grad_norm=math.nan),
        "instability, not a number",
        ["grad_norm is nan", "grpo.learning_rate from 1e-05 to 5e-06", "grpo.num_generations from 8 to 2"],
    ),
    "infinite scores": (
        late(watch__not_finite=2.0),
        "instability, not a number",
        ["2 scores of a batch are NaN or infinite", "mend the reward", "between about -1 and 1"],
    ),
    "no gradient": (
        late(grad_norm=0.0),
        "instability, no gradient",
        ["grad_norm is 0, while completions of 90 % of the groups", "grpo.learning_rate from 1e-05 to 5e-06"],
    ),
    "spikes of the gradient": (
        lambda step, row: row | {"grad_norm": 30.0} if step in {20, 23} else row,
        "instability, spikes",
        ["grad_norm jumps to 30", "grpo.learning_rate from 1e-05 to 5e-06"],
    ),
    "a spike of the loss": (
        lambda step, row: row | {"loss": -50.0} if step == 20 else row,
        "instability, spikes",
        ["loss jumps to 50"],
    ),
    "scale": (
        late(rewards__brevity__max=1000.0, rewards__brevity__mean=500.0),
        "instability, reward scale",
        [
            "brevity goes from 0 to 1000",
            "weight of brevity from 1 to 0.001",
            "`rescale: {of: brevity, from: [0, 1000]}`",
            "drowns",
        ],
    ),
    "clipped updates": (
        late(**{"clip_ratio/region_mean": 0.5}),
        "instability, updates too large",
        ["50 % of the tokens moved beyond the clip range of 0.2"],
    ),
    "entropy": (
        late(entropy=0.01),
        "entropy collapse",
        ["entropy fell from 0.8", "grpo.temperature from 0.7 to 1", "grpo.beta from 0.04 to 0.1"],
    ),
    "missing": (
        late(missing__share=0.4, rewards__relevance__missing=25.0),
        "missing scores",
        [
            "40 % of the scores are missing, at first 1 %",
            "relevance 25.0 a batch",
            "rewards.deadline_s from 120 to 240",
        ],
    ),
    "floors": (
        late(rewards__relevance__flags__floor=6.0),
        "completions break their grader",
        ["6.0 completions of a batch get relevance's floor", "mend the rubric"],
    ),
    "truncation": (
        late(completions__clipped_ratio=0.8),
        "truncation",
        [
            "80 % of the completions are cut off at 128 tokens",
            "grpo.max_completion_length from 128 to 256",
            "grpo.mask_truncated_completions from false to true",
        ],
    ),
    "versions": (
        late(versions={"brevity": "1", "relevance": "2"}),
        "another reward in mid-run",
        ["relevance has version 2 from step 12 on, before 1"],
    ),
    "waiting for a judge": (
        late(time__rewards_s=8.0, reward_server__call_s=8.0, reward_server__server_s=7.9, reward_server__queue_s=4.0),
        "waiting for rewards",
        [
            "8.0 of 9.3 s of a step",
            "4.0 s in the queue",
            "0.1 s of a call on the wire",
            "more hosts",
            "`gate`",
            "grpo.num_generations from 8 to 4",
        ],
    ),
}


@pytest.mark.parametrize("name", ILLNESSES)
def test_an_illness_is_told_once_in_words_that_help(name):
    ill, illness, words = ILLNESSES[name]
    told = [each for each in watched(ill) if each.illness == illness]
    assert len(told) == 1
    for part in words:
        assert part in told[0].text
    assert not told[0].is_note
    assert all(each.why for each in told[0].remedies if not each.setting)


@pytest.mark.parametrize("name", sorted(ILLNESSES.keys() - {"KL at once", "a spike of the loss"}))
def test_one_step_is_no_illness_but_a_number_that_is_none(name):
    ill, illness, _ = ILLNESSES[name]
    short = watched(lambda step, row: ill(20, row) if step == 20 else row)
    told = [each.illness for each in short]
    at_once = {"instability, not a number", "instability, reward scale", "another reward in mid-run"}
    assert (illness in told) == (illness in at_once)


def test_the_page_on_watching_has_every_warning_and_every_metric():
    page = (Path(__file__).parents[2] / "docs" / "watching.md").read_text()
    assert {illness for _, illness, _ in ILLNESSES.values()} <= set(re.findall(r"^\| ([^|]+?) \|", page, re.MULTILINE))
    measured = metrics(BatchFacts(["p"] * 8, list("abcdefgh"), list(range(8)), {"<name>": [1, 2, 3, 4] * 2}, [1.0], 8))
    for name in measured:
        assert f"`{name}`" in page


def test_it_is_told_again_only_if_it_is_clearly_worse():
    def worse(step: int, row: Row) -> Row:
        return row | {"watch/zero_variance": 0.6 if step < 60 else 0.65 if step < 100 else 0.95}

    told = [each.severity for each in watched(worse, steps=140)]
    assert len(told) == 2
    assert told[0] == pytest.approx(0.6)
    assert told[1] >= 0.9


def test_without_beta_it_is_said_once_that_kl_is_not_measured():
    def without(step: int, row: Row) -> Row:
        return {key: value for key, value in row.items() if key != "kl"}

    (note,) = watched(without, settings=replace(SETTINGS, beta=0.0))
    assert note.is_note
    assert "with grpo.beta 0 TRL keeps no reference and logs no kl" in note.text
    assert "grpo.beta from 0 to 0.01" in note.text


def test_a_length_rule_may_follow_the_length():
    ill, illness, _ = ILLNESSES["follows the length"]
    settings = replace(SETTINGS, length_rules=frozenset({"relevance"}))
    assert illness not in [each.illness for each in watched(ill, settings=settings)]


def test_a_reward_that_the_length_moves_against_is_not_why():
    ill = late(rewards__relevance__length_correlation=-0.9, completions__mean_length=120.0)
    assert watched(ill) == []


def test_nothing_is_told_of_metrics_that_are_not_there():
    assert watched(lambda step, row: {"step": step, "reward": 0.5, "kl": None}) == []


def test_a_detector_that_fails_is_logged_once_and_the_others_go_on(caplog):
    def broken(signals: Any) -> Any:
        raise KeyError("a bug")

    history, watcher = History(), Watcher(SETTINGS, detectors=[broken, *DETECTORS])
    chance, told = random.Random(5), []
    with caplog.at_level(logging.ERROR):
        for step in range(1, 30):
            history.rows.append(late(grad_norm=math.inf)(step, healthy(step, chance)))
            told += watcher.look(history)
    assert [each.illness for each in told] == ["instability, not a number"]
    assert len(caplog.records) == 1
    assert "left out from now on" in caplog.text


def test_a_resumed_run_does_not_repeat_what_was_told(tmp_path):
    history = History([healthy(step, random.Random(5)) | {"watch/zero_variance": 0.6} for step in range(1, 8)])
    (told,) = Watcher(SETTINGS).look(history)
    kept.append(tmp_path, [told.as_row(7)])
    assert Watcher(SETTINGS, kept.keep_until(tmp_path, 7)).look(history) == []
    assert Watcher(SETTINGS, kept.keep_until(tmp_path, 6)).look(history) == [told]  # the warning came after that step
    assert kept.read(tmp_path) == []


def test_a_file_of_warnings_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path):
    kept.append(tmp_path, [{"step": 1, "text": "\ud800"}, {"step": 2}])
    with (tmp_path / kept.WARNINGS_NAME).open("a") as file:
        file.write('{"step": 3')
    assert [row["step"] for row in kept.read(tmp_path)] == [1, 2]
    assert kept.read(tmp_path / "none") == []
