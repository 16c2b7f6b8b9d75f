"""The report of a run: what it says, and that nothing a model wrote can act in it."""

import dataclasses
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from trainer import charts, report
from trainer.history import MetricsFile
from trainer.runs import RewardRecord, RunFolder, RunRecord
from trainer.samples import Note, Sample
from trainer.watching import kept
from trainer.watching.finding import Finding, change

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>&\"'"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "train.yaml").write_text("model: {}\n")
    made = RunFolder.create(tmp_path / "runs" / "first", tmp_path / "train.yaml")
    rewards = (
        RewardRecord("brevity", 1.0, "127.0.0.1:8470", "3f3a8f78", "length", "ten words are best"),
        RewardRecord("relevance", 0.25, "127.0.0.1:8470", "a32a6558", "judge"),
    )
    made.write_record(
        RunRecord(
            config="/x/train.yaml",
            model="some/model",
            data="prompts.jsonl",
            started="2026-11-22T10:00:00+00:00",
            ended="2026-11-22T10:07:05+00:00",
            outcome="finished",
            steps=6,
            device="cpu, bf16",
            rewards=rewards,
            environment={"python": "3.11.7", "trl": "1.16.0"},
        )
    )
    metrics = MetricsFile(made.metrics)
    for step in range(1, 7):
        metrics.write(
            {
                "step": step,
                "reward": step / 10,
                "rewards/brevity/mean": 0.1 * step,
                "rewards/brevity/group_std": 0.15,
                "rewards/relevance/mean": 8 - step,
                "rewards/relevance/missing": 1.0 if step == 3 else 0.0,
                "rewards/relevance/flags/floor": 2.0 if step > 4 else 0.0,
            }
        )
    metrics.close()
    before = [
        Sample(
            "Why?",
            "Because " * 20,
            {"brevity": Note(0.1, flags=("clipped",)), "relevance": Note(None, reason="no answer in time")},
        )
    ]
    after = [
        Sample("Why?", "Because.", {"brevity": Note(0.9), "relevance": Note(7.0, explanation="It is to the point.")})
    ]
    made.write_samples(before, after)
    return made


def page(folder: RunFolder) -> str:
    report.write(folder)
    return folder.report.read_text()


def text(folder: RunFolder) -> str:
    """Returns what a reader sees of the page, on one line."""
    without = re.sub(r"<style>.*?</style>|<[^>]*>", " ", page(folder), flags=re.DOTALL)
    return " ".join(without.split())


def test_it_says_what_was_run_and_how_it_ended(folder: RunFolder):
    said = text(folder)
    assert "finished after 6 of 6 steps · 2026-11-22 10:00 UTC, 7m05s" in said
    for part in ("some/model", "prompts.jsonl", "cpu, bf16", "/x/train.yaml", "trl 1.16.0"):
        assert part in said


def test_it_has_each_reward_first_and_last(folder: RunFolder):
    said = text(folder)
    assert "brevity ten words are best 1 0.20 0.50 +0.30 0.15 length, 127.0.0.1:8470" in said
    assert "relevance 0.25 6.00 3.00 -3.00 - judge" in said
    assert "weighted sum" in said


def test_it_has_the_completions_with_their_verdicts_and_reasons(folder: RunFolder):
    said = text(folder)
    assert "brevity 0.10 · clipped" in said
    assert "relevance missing" in said
    assert "relevance: no answer in time" in said
    assert "relevance 7.00" in said
    assert "relevance: It is to the point." in said


def test_it_counts_missing_verdicts_and_says_so_where_there_are_none(folder: RunFolder):
    assert "reward missing relevance 1" in text(folder)
    folder.metrics.write_text(folder.metrics.read_text().replace('"rewards/relevance/missing": 1.0', '"x": 0'))
    assert "every completion got a score from every reward" in text(folder)


def test_it_counts_flagged_verdicts_where_there_are_some(folder: RunFolder):
    assert "Flagged verdicts reward flag verdicts relevance floor 4" in text(folder)
    folder.metrics.write_text(folder.metrics.read_text().replace("flags/floor", "x"))
    assert "Flagged" not in text(folder)


def test_samples_of_a_run_before_there_were_flags_are_read(folder: RunFolder):
    folder.samples.write_text(re.sub(r',\s*"flags": \[[^]]*\]', "", folder.samples.read_text()))
    (sample,), _ = folder.read_samples()
    assert sample.verdicts["brevity"] == Note(0.1)


def test_it_has_the_versions_of_the_rewards(folder: RunFolder):
    assert "brevity length 3f3a8f78" in text(folder)


def test_it_has_the_warnings_first_and_notes_last(folder: RunFolder):
    finding = Finding("KL too high", "kl is 3", "It is far", [change("grpo.beta", 0.01, 0.04, "to hold it")], 3.0)
    note = Finding("KL is not measured", "beta is 0", "So nobody knows", [], 1.0, is_note=True)
    kept.append(folder.path, [note.as_row(1), finding.as_row(4)])
    said = text(folder)
    words = (
        "Warnings KL too high step 4 kl is 3. It is far. grpo.beta: 0.01 → 0.04 (to hold it) KL is not measured step 1"
    )
    assert words in said
    assert said.index("Warnings") < said.index("Rewards, first steps and last")


def test_a_warning_that_was_told_again_stands_there_once(folder: RunFolder):
    for step, seen in ((4, "kl is 3"), (30, "kl is 9")):
        kept.append(folder.path, [Finding("KL too high", seen, "It is far", [], 3.0).as_row(step)])
    said = text(folder)
    assert "KL too high step 4, again 30 kl is 9. It is far." in said
    assert "kl is 3" not in said


def test_a_run_without_warnings_does_not_speak_of_them(folder: RunFolder):
    assert "Warnings" not in text(folder)


def test_it_has_the_advice_of_a_run_that_ran_out_of_memory(folder: RunFolder):
    folder.write_record(dataclasses.replace(folder.read_record(), advice="memory: try this <first>"))
    assert "Warnings memory: try this &lt;first&gt;" in text(folder)


def test_it_says_where_the_time_goes(folder: RunFolder):
    metrics = MetricsFile(folder.metrics)
    times = {"time/step_s": 4.0, "time/generate_s": 1.0, "time/rewards_s": 2.0}
    calls = {"reward_server/call_s": 2.0, "reward_server/server_s": 1.75, "reward_server/queue_s": 0.5}
    metrics.write({"step": 7, **times, **calls, "reward_server/judge_s": 0.25, "reward_server/attempts": 2.0})
    metrics.close()
    said = text(folder)
    assert "A step takes 4.00 s." in said
    assert "generation 1.00 s, 25% rewards 2.00 s, 50% training and the rest 1.00 s, 25%" in said
    assert "seen from the trainer 2.000 s of it on the wire 0.250 s" in said
    assert "in the queue 0.500 s a question to a judge&#39;s model 0.250 s attempts a call 2.00" in said


def test_it_draws_the_signs_that_a_run_has_and_says_that_kl_is_not_measured(folder: RunFolder):
    assert "Signs" not in text(folder)
    metrics = MetricsFile(folder.metrics)
    metrics.write({"step": 7, "frac_reward_zero_std": 0.5, "watch/duplicates": 0.1, "watch/length_correlation": -0.2})
    metrics.close()
    said = text(folder)
    for title in ("groups that teach nothing", "copies within groups", "length with reward", "KL: not measured"):
        assert title in said
    assert "gradient norm" not in said
    metrics = MetricsFile(folder.metrics)
    metrics.write({"step": 8, "kl": 0.1})
    metrics.close()
    assert "KL: not measured" not in text(folder)


def test_it_has_completions_of_the_last_step_with_a_judges_reasons_if_the_run_kept_them(folder: RunFolder):
    assert "Completions of step" not in text(folder)
    tables = folder.path / "completions"
    tables.mkdir()
    talk = [[{"role": "assistant", "content": "Because."}], [{"role": "assistant", "content": HOSTILE}]]
    for step in (5, 6):
        columns = {
            "step": [step] * 2,
            "prompt": [[{"role": "user", "content": "Why?"}]] * 2,
            "completion": talk,
            "brevity": [0.25, 0.75],
            "relevance": [None, 7.0],
            "relevance/reason": ["[failed] out of time", ""],
            "advantage": [-0.5, 1.5],
        }
        pq.write_table(pa.table(columns), tables / f"completions_{step:05d}.parquet")
    said = text(folder)
    assert "Completions of step 6 Why? &lt;script&gt;" in said  # what tells most apart comes first
    assert "Because. brevity 0.25 relevance missing advantage -0.50 relevance: [failed] out of time" in said
    (tables / "completions_00007.parquet").write_bytes(b"PAR1 cut off")
    assert "Completions of step" not in text(folder)


def test_it_says_which_reward_became_another_one(folder: RunFolder):
    metrics = MetricsFile(folder.metrics)
    metrics.write({"step": 7, "versions": {"brevity": "3f3a8f78", "relevance": "a32a6558"}})
    metrics.write({"step": 8, "versions": {"brevity": "3f3a8f78", "relevance": "ffff0000"}})
    metrics.close()
    assert "relevance changed at step 8 ffff0000" in text(folder)


def test_it_needs_nothing_else(folder: RunFolder):
    html = page(folder)
    assert not re.search(r"(src|href)\s*=|@import|url\(", html)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_nothing_that_a_model_or_a_server_wrote_is_live(folder: RunFolder):
    record = folder.read_record()
    hostile = RewardRecord(HOSTILE, 1.0, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    folder.write_record(
        RunRecord(
            **{**{name: getattr(record, name) for name in record.__slots__}, "rewards": (hostile,), "outcome": HOSTILE}
        )
    )
    metrics = MetricsFile(folder.metrics)
    metrics.write({"step": 7, f"rewards/{HOSTILE}/mean": 0.5, f"rewards/{HOSTILE}/missing": 1.0})
    metrics.close()
    notes = {HOSTILE: Note(None, reason=HOSTILE, explanation=HOSTILE)}
    folder.write_samples([Sample(HOSTILE, HOSTILE, notes)], [Sample(HOSTILE, HOSTILE, notes)])
    found = Finding(HOSTILE, HOSTILE, HOSTILE, [change(HOSTILE, HOSTILE, HOSTILE, HOSTILE)], 1.0)
    kept.append(folder.path, [found.as_row(1)])
    html = page(folder)
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("&lt;script&gt;") > 10


def test_a_run_that_broke_off_at_once_still_has_a_report(folder: RunFolder):
    folder.metrics.unlink()
    folder.samples.unlink()
    record = folder.read_record()
    folder.write_record(
        RunRecord(**{**{n: getattr(record, n) for n in record.__slots__}, "ended": "", "outcome": "failed"})
    )
    said = text(folder)
    assert "failed after 0 of 6 steps" in said
    assert "no step has it" in said
    assert "No samples were taken" in said
    assert folder.curves.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("number", ["1e308", "-1e308", "1" + 400 * "0", "NaN"])
def test_a_number_that_cannot_be_drawn_does_not_stop_it(folder: RunFolder, number: str):
    with folder.metrics.open("a") as metrics:
        metrics.write(f'{{"step": 7, "wall_s": 7, "rewards/brevity/mean": {number}, "reward": {number}}}\n')
    report.write(folder)
    assert "brevity" in folder.report.read_text()


def test_lone_surrogates_do_not_stop_it(folder: RunFolder):
    folder.write_samples([Sample("\ud800", "a\udfffb")], [])
    assert "before" in page(folder)


def test_the_curves_are_a_picture(folder: RunFolder):
    report.write(folder)
    assert folder.curves.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("values", [[0.5], [0.0, 0.0, 0.0], [-3.0, 1e9], [1e-9, 2e-9]])
def test_any_numbers_make_a_curve(values):
    svg = charts.svg_curve("x", list(enumerate(values, start=1)))
    assert "nan" not in svg
    assert svg.count("<circle") == len(values)


def test_the_bold_line_is_the_mean_of_three_steps():
    assert charts.smoothed([(1, 1.0), (2, 2.0), (3, 3.0), (4, 7.0)]) == [(1, 1.0), (2, 1.5), (3, 2.0), (4, 4.0)]


def test_the_folder_of_a_run_that_never_began_is_used_again(tmp_path: Path):
    (tmp_path / "train.yaml").write_text("a: 1\n")
    names = [RunFolder.create(tmp_path / "run", tmp_path / "train.yaml").path.name for _ in range(2)]
    assert names == ["run", "run"]


def test_a_second_run_gets_a_folder_of_its_own(tmp_path: Path):
    (tmp_path / "train.yaml").write_text("a: 1\n")
    names = []
    for _ in range(3):
        folder = RunFolder.create(tmp_path / "run", tmp_path / "train.yaml")
        folder.metrics.touch()
        names.append(folder.path.name)
    assert names == ["run", "run-2", "run-3"]
    assert (tmp_path / "run-3" / "config.yaml").read_text() == "a: 1\n"
