"""What a person sees of a run, and the file the numbers are kept in."""

import json
import math
from io import StringIO
from pathlib import Path

from rich.console import Console

from trainer.history import History, MetricsFile, reward_key
from trainer.progress import ASCII_SPARKS, Progress, duration, reward_table, sparkline


def history(*scores: float | None, **metrics: float) -> History:
    return History([{"step": i, reward_key("a"): score, **metrics} for i, score in enumerate(scores, start=1)])


def plain() -> Console:
    return Console(file=StringIO(), width=160, force_terminal=False)


def printed(console: Console) -> str:
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_first_and_last_are_means_of_three_steps():
    steps = history(0.0, 0.1, 0.2, 0.5, 0.8, 0.9, 1.0)
    assert math.isclose(steps.first(reward_key("a")) or 0, 0.1)
    assert math.isclose(steps.last(reward_key("a")) or 0, 0.9)


def test_steps_without_a_value_are_left_out_not_taken_for_zero():
    steps = history(None, 0.5, None, float("nan"), 0.7)
    assert steps.series(reward_key("a")) == [(2, 0.5), (5, 0.7)]
    assert history(None).first(reward_key("a")) is None


def test_the_metrics_file_has_a_line_a_step_at_once_and_only_valid_json(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    metrics = MetricsFile(path)
    metrics.write({"step": 1, "reward": float("nan"), "loss": float("inf"), "kl": 0.5})
    assert json.loads(path.read_text(), parse_constant=lambda name: 1 / 0) == {
        "step": 1,
        "reward": None,
        "loss": None,
        "kl": 0.5,
    }
    metrics.close()


def test_a_metrics_file_that_was_cut_off_is_read_as_far_as_it_goes(tmp_path: Path):
    (tmp_path / "m.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"ste')
    assert [row["step"] for row in History.read(tmp_path / "m.jsonl").rows] == [1, 2]
    assert History.read(tmp_path / "none.jsonl").rows == []


def test_away_from_a_terminal_each_step_is_one_line():
    console, steps = plain(), history(0.25, **{"reward_server/missing": 2.0, "reward_server/judge_s": 1.25})
    with Progress(steps, ["a"], console) as progress:
        progress.begin(4)
        progress.step()
    (line,) = printed(console).splitlines()
    assert line.startswith("step 1/4   a 0.25   missing verdicts 2   judge 1.2 s a verdict")
    assert " gone, " in line


def test_flags_of_a_step_are_counted_over_all_rewards_and_none_is_not_a_word():
    console = plain()
    flags = {"rewards/a/flags/floor": 2.0, "rewards/b/flags/floor": 1.0, "rewards/b/flags/clipped": 0.0}
    with Progress(history(0.25, **flags), ["a", "b"], console) as progress:
        progress.step()
    assert "   floor 3   " in printed(console)
    assert "clipped" not in printed(console)


def test_a_terminal_shows_step_rewards_and_time_left():
    console = Console(file=StringIO(), width=100, force_terminal=True)
    steps = history(0.2, 0.6)
    with Progress(steps, ["a"], console) as progress:
        progress.begin(4)
        progress.step()
    text = printed(console)
    assert "step 2/4" in text
    assert "step 3 running for" in text
    assert "left" in text


def test_the_table_has_the_weighted_sum_only_of_several_rewards():
    console = plain()
    steps = History([{"step": 1, "rewards/a/mean": 0.1, "rewards/b/mean": 0.2, "reward": 0.3}])
    console.print(reward_table(steps, ["a"]))
    assert "weighted sum" not in printed(console)
    console.print(reward_table(steps, ["a", "b"]))
    assert "weighted sum" in printed(console)


def test_a_curve_goes_from_the_smallest_value_to_the_largest():
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7]) == "▁▂▃▄▅▆▇█"
    assert sparkline([5.0, 5.0]) == "▁▁"
    assert sparkline([]) == ""
    assert set(sparkline([1, 2, 3], ascii_only=True)) <= set(ASCII_SPARKS)


def test_a_long_curve_keeps_its_width_and_its_ends():
    curve = sparkline([float(i) for i in range(1000)], width=10)
    assert len(curve) == 10
    assert (curve[0], curve[-1]) == ("▁", "█")


def test_times_are_said_as_people_say_them():
    assert [duration(seconds) for seconds in (0.4, 59.6, 75, 7260)] == ["0s", "1m00s", "1m15s", "2h01m"]
