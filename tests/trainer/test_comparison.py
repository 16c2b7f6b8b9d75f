"""`grpo-train report`: one run's report anew, several runs beside one another, and words where a folder is none."""

import re
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from trainer import cli, comparison
from trainer.history import MetricsFile
from trainer.runs import RewardRecord, RunFolder, RunRecord
from trainer.watching import kept


def make_run(folder: Path, *, steps: int = 6, gain: float = 0.1, settings: str = "", rewards: Any = ("a", "b")) -> Path:
    folder.parent.mkdir(exist_ok=True, parents=True)
    config = folder.parent / "train.yaml"
    config.write_text(f"model: {{name: m}}\nrun: {{folder: {folder.name}}}\n{settings}")
    made = RunFolder.create(folder, config)
    made.write_record(
        RunRecord(
            config="/x/train.yaml",
            model="some/model",
            data="prompts.jsonl",
            started="2026-11-22T10:00:00+00:00",
            outcome="finished",
            steps=steps,
            rewards=tuple(RewardRecord(name, 1.0, "here") for name in rewards),
        )
    )
    metrics = MetricsFile(made.metrics)
    for step in range(1, steps + 1):
        row = {"step": step, "reward": gain * step, "time/step_s": 2.0, "kl": 0.1 * step}
        metrics.write(row | {f"rewards/{name}/mean": gain * step for name in rewards} | {"rewards/a/missing": 1.0})
    metrics.close()
    return made.path


def report(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli.app, ["report", *map(str, arguments)], env={"COLUMNS": "200"})


def test_one_run_gets_its_report_anew(tmp_path: Path):
    run = make_run(tmp_path / "first")
    kept.append(run, [{"step": 4, "level": "warning", "illness": "KL too high", "text": "KL too high: kl is 3"}])
    done = report(run)
    assert done.exit_code == 0, done.output
    assert "step 4: KL too high: kl is 3" in done.output
    assert re.search(r"a +0.20 +0.50 +\+0.30", done.output)
    assert "KL too high" in (run / "report.html").read_text()


def test_several_runs_stand_side_by_side(tmp_path: Path):
    one = make_run(tmp_path / "one", settings="grpo: {beta: 0.04, learning_rate: 1.0e-5}\n")
    other = make_run(tmp_path / "other", gain=0.2, steps=4, settings="grpo: {beta: 0.1, learning_rate: 1.0e-5}\n")
    kept.append(
        other, [{"step": 1, "level": "note", "illness": "n"}, {"step": 4, "level": "warning", "illness": "ill"}]
    )
    out = tmp_path / "both.html"
    done = report(one, other, "--out", out)
    assert done.exit_code == 0, done.output
    for line in (
        r"one +other",
        r"steps +6 of 6 +4 of 4",
        r"a +0.20 -> 0.50 +0.40 -> 0.60",
        r"weighted sum +0.20 -> 0.50",
        r"seconds a step +2.00 +2.00",
        r"missing scores +6 +4",
        r"warnings +none +ill",
        r"grpo.beta +0.04 +0.1",
    ):
        assert re.search(line, done.output)
    assert "learning_rate" not in done.output  # which they have in common
    assert "run.folder" not in done.output
    html = out.read_text()
    kl = html[html.index("KL, nats a token") :]
    assert re.search(r'<path class="run0" d="M[^"]+"/><path class="run1" d="M[^"]+"/></svg>', kl)
    assert not re.search(r"(src|href)\s*=|@import|url\(", html)
    assert "prefers-color-scheme: dark" in html


def test_runs_with_other_rewards_and_without_a_step_are_compared_all_the_same(tmp_path: Path):
    one, other = make_run(tmp_path / "one", rewards=("a",)), make_run(tmp_path / "x" / "one", steps=0, rewards=("c",))
    done = report(one, other, "--out", tmp_path / "c.html")
    assert done.exit_code == 0, done.output
    assert re.search(rf"{tmp_path.name}/one +x/one", done.output)
    assert re.search(r"c +- +-", done.output)


def test_what_a_run_is_called_cannot_act_in_the_page(tmp_path: Path):
    hostile = "<script>alert(1)"
    runs = [make_run(tmp_path / hostile, rewards=(hostile,)), make_run(tmp_path / "b")]
    assert report(*runs, "--out", tmp_path / "c.html").exit_code == 0
    assert "<script" not in (tmp_path / "c.html").read_text()


def test_each_folder_that_is_no_run_gets_its_words(tmp_path: Path):
    broken = make_run(tmp_path / "broken")
    (broken / "run.json").write_text('{"config": 1')
    (tmp_path / "empty").mkdir()
    done = report(tmp_path / "none", tmp_path / "empty", broken, make_run(tmp_path / "good"))
    assert done.exit_code == cli.MISCONFIGURED
    lines = done.output.splitlines()
    assert len(lines) == 3
    assert "none: there is no such folder; name the folder of a run" in lines[0]
    assert "empty: is no run: it has no run.json" in lines[1]
    assert "run.json: cannot be read" in lines[2]


def test_a_page_that_cannot_be_written_gets_its_words(tmp_path: Path):
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "other")]
    done = report(*runs, "--out", tmp_path / "none" / "c.html")
    assert done.exit_code == cli.MISCONFIGURED
    assert "c.html: cannot be written: No such file or directory" in done.output


def test_a_configuration_that_cannot_be_read_differs_in_nothing(tmp_path: Path):
    runs = [make_run(tmp_path / "one"), make_run(tmp_path / "other")]
    (runs[0] / "config.yaml").unlink()
    (runs[1] / "config.yaml").write_text("a: [")
    assert comparison.different_settings(comparison.read(runs)) == []


@pytest.mark.parametrize("count", [1, 9])
def test_colours_are_enough_for_any_number_of_runs(tmp_path: Path, count: int):
    runs = comparison.read([make_run(tmp_path / f"r{number}", steps=2) for number in range(count)])
    comparison.write(runs, tmp_path / "c.html")
    assert (tmp_path / "c.html").read_text().count('class="run0"') >= 1
