"""The benchmark of training runs: its numbers, and that it runs, small, to the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from server_process import REPOSITORY, clean_environment

sys.path.append(str(REPOSITORY / "benchmarks"))
import training_gpu
import training_numbers as numbers
from training_numbers import GpuReading, Wait


def row(step: int, **values: float) -> dict[str, float]:
    timed = {"time/step_s": 4.0, "time/generate_s": 2.0, "time/rewards_s": 1.0, "reward_server/call_s": 0.9}
    return (
        {"step": step, "reward": step / 10, "reward_server/server_s": 0.7, "completions/mean_length": 20.0}
        | timed
        | values
    )


def test_where_a_steps_time_goes_is_the_median_over_steps() -> None:
    rows = [row(1), row(2), row(3, **{"time/step_s": 104.0})]
    found = numbers.step_time(rows)
    assert (found["step_s"], found["generate_s"], found["rewards_s"], found["update_s"]) == (4.0, 2.0, 1.0, 1.0)
    assert found["wire_s"] == pytest.approx(0.2)
    assert "judge_s" not in found, "no judge was asked"


def test_idle_is_what_the_driver_said_during_waits_and_the_share_of_steps_spent_in_them() -> None:
    waits = [Wait(10.0, 11.0, 1), Wait(10.5, 12.0, 1), Wait(20.0, 21.0, 2), Wait(14.0, 15.0, 1, rank=1)]
    readings = [GpuReading(at, 0, use, 500.0) for at, use in ((9.0, 99), (10.5, 0), (11.9, 2), (14.5, 80), (30.0, 99))]
    found = numbers.idle([row(1), row(2)], waits, readings)
    assert found["waiting_share"] == pytest.approx(0.25)
    assert (found["use_waiting"], found["use_otherwise"], found["waiting_readings"]) == (1.0, 80.0, 2)


def test_without_a_gpu_there_is_the_share_alone() -> None:
    assert numbers.idle([row(1)], [Wait(0.0, 1.0, 1)], []) == {"waiting_share": 0.25}


def test_learning_compares_the_first_steps_with_the_last() -> None:
    found = numbers.learning([row(step) for step in range(1, 21)], ["absent"])
    assert found == {
        "reward": {"first": pytest.approx(0.3), "last": pytest.approx(1.8), "rises": True, "edge_steps": 5}
    }


def test_the_completions_of_all_ranks_are_counted_once() -> None:
    waits = [Wait(0, 1, step, rank, name, 8) for step in (1, 2) for rank in (0, 1) for name in ("brevity", "shape")]
    assert numbers.completions_per_step(waits) == 16


def test_the_drivers_lines_are_read_and_half_a_line_is_left_out() -> None:
    text = "2026/11/03 10:00:00.500, 1, 87, 4321\n2026/11/03 10:00:00.600, 0, [N/A], 4321\n2026/11/03 10:00:0"
    [reading] = training_gpu.parse(text)
    assert (reading.gpu, reading.use, reading.memory_mib, reading.at % 1) == (1, 87.0, 4321.0, 0.5)


@pytest.mark.end_to_end
@pytest.mark.timeout(300)
def test_a_small_run_gives_numbers_and_a_picture(tmp_path: Path) -> None:
    out = tmp_path / "small.json"
    command = [sys.executable, "benchmarks/training.py", "--small", "--no-judge", "--steps", "3", "--warm-up", "1"]
    command += ["--work", str(tmp_path / "work"), "--out", str(out), "--set", "grpo.max_completion_length=6"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=clean_environment(), capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    results = json.loads(out.read_text())
    assert results["outcome"] == "finished"
    assert results["steps_done"] == 3
    assert results["completions_per_step"] == 8
    assert results["configuration"]["grpo"]["max_completion_length"] == 6
    assert 0 < results["idle"]["waiting_share"] < 1
    assert set(results["learning"]) == {"reward", "brevity", "shape"}
    assert out.with_suffix(".png").stat().st_size > 10_000
