"""`grpo-train score`: a file in, verdicts and a summary out."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_reward_server import FakeServer, decoded, verdicts
from typer.testing import CliRunner, Result

from protos.reward.v1 import reward_pb2 as pb
from trainer import cli


@pytest.fixture
def score(tmp_path: Path, server: FakeServer) -> Callable[..., Result]:
    """Writes rows to data.jsonl and runs the command on it."""

    def run(*rows: Any, rewards: tuple[str, ...] = ("a",), **options: str) -> Result:
        data = tmp_path / "data.jsonl"
        data.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
        arguments = ["score", "--data", str(data), "--server", server.target]
        for name in rewards:
            arguments += ["--reward", name]
        for name, value in options.items():
            arguments += [f"--{name}", value]
        return CliRunner().invoke(cli.app, arguments)

    return run


def written(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "data.scored.jsonl").read_text().splitlines()]


def test_each_row_comes_back_with_its_verdicts(score, tmp_path: Path):
    done = score({"prompt": "p", "completion": "abc", "id": 7}, {"prompt": "p", "completion": "é"}, rewards=("a", "b"))
    assert done.exit_code == 0, done.output
    first, second = written(tmp_path)
    assert first["id"] == 7
    assert first["completion"] == "abc"
    assert first["verdicts"]["a"] == {
        "score": 3.0,
        "status": "scored",
        "reason": "",
        "explanation": "",
        "parts": {},
        "flags": [],
        "version": "a-1",
    }
    assert second["verdicts"]["b"]["score"] == 1.0


def test_a_verdict_is_written_with_its_parts(score, server: FakeServer, tmp_path: Path):
    found = verdicts("a", [1.0, 3.0], ["", ""], parts=[pb.PartScores(name="answers", scores=[0.5, math.nan])])
    server.script.append(lambda request, _: pb.ScoreResponse(results=[found], attempt_count=1))
    score(*({"completion": "x"} for _ in range(2)))
    assert [row["verdicts"]["a"]["parts"] for row in written(tmp_path)] == [{"answers": 0.5}, {"answers": None}]


def test_the_summary_has_mean_spread_and_the_reasons_of_what_is_missing(score, server: FakeServer, tmp_path: Path):
    found = verdicts("a", [1.0, None, 3.0], ["", "the judge was away", ""])
    server.script.append(lambda request, _: pb.ScoreResponse(results=[found], attempt_count=1))
    done = score(*({"completion": "x"} for _ in range(3)))
    assert done.exit_code == 0, done.output
    row = next(line for line in done.output.splitlines() if line.split()[:1] == ["a"])
    assert row.split()[1:] == ["2", "2.000", "1.000", "1.000", "3.000", "1"]
    assert "missing of a: 1 x the judge was away" in done.output
    assert written(tmp_path)[1]["verdicts"]["a"]["score"] is None


def test_flags_stand_with_their_verdicts_and_are_counted(score, server: FakeServer, tmp_path: Path):
    flags = [pb.Flag(name="floor", sample_indexes=[1]), pb.Flag(name="clipped", sample_indexes=[1, 2])]
    found = verdicts("a", [1.0, 0.0, 3.0], ["", "", ""], flags=flags)
    server.script.append(lambda request, _: pb.ScoreResponse(results=[found], attempt_count=1))
    done = score(*({"completion": "x"} for _ in range(3)))
    assert [row["verdicts"]["a"]["flags"] for row in written(tmp_path)] == [[], ["floor", "clipped"], ["clipped"]]
    assert "flagged in a: 2 x clipped\nflagged in a: 1 x floor" in done.output


def test_completions_of_one_prompt_travel_together(score, server: FakeServer):
    rows = [{"prompt": f"p{index // 10}", "completion": "x"} for index in range(95)]
    assert score(*rows).exit_code == 0
    sizes = [len(decoded(request.batch.completions)) for request in server.requests]
    assert sum(sizes) == 95
    assert all(size % 10 == 0 for size in sizes[:-1])
    assert len(sizes) > 1


def test_columns_that_a_reward_asks_for_travel(score, server: FakeServer):
    server.reward("a", required_columns=["answer"])
    assert score({"completion": "x", "answer": 42, "other": 1}).exit_code == 0
    (column,) = server.requests[0].batch.columns
    assert (column.name, json.loads(column.values_json)) == ("answer", [42])


def test_conversations_are_scored_as_they_are(score, server: FakeServer):
    messages = [{"role": "assistant", "content": "hi"}]
    assert score({"prompt": [{"role": "user", "content": "q"}], "completion": messages}).exit_code == 0
    assert decoded(server.requests[0].batch.completions) == [messages]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"completion": "x"}, {"prompt": "p", "answer": "x"}], "data.jsonl: row 2: has no completion; there is: prompt, answer"),
        ([{"completion": 5}], "row 1: completion should be a text or a list of messages, not '5'"),
        (["{"], "data.jsonl:1: is not JSON"),
        ([""], "data.jsonl: holds no row"),
    ],
)  # fmt: skip
def test_a_wrong_row_is_named(score, rows, message):
    done = score(*rows)
    assert done.exit_code == 2
    assert message in done.output


def test_a_missing_file_is_named(server: FakeServer, tmp_path: Path):
    done = CliRunner().invoke(cli.app, ["score", "--reward", "a", "--data", str(tmp_path / "none.jsonl")])
    assert done.exit_code == 2
    assert "none.jsonl: there is no such file" in done.output


def test_an_unknown_reward_is_told_in_words(score):
    done = score({"completion": "x"}, rewards=("nope",))
    assert done.exit_code == 1
    assert "has no reward 'nope'; it has: a, b" in done.output


def test_a_server_that_is_away_is_told_at_once(score, server: FakeServer):
    server.stop()
    done = score({"completion": "x"})
    assert done.exit_code == 1
    assert "is not reachable" in done.output


def test_the_server_may_come_from_a_runs_configuration(server: FakeServer, write_config, tmp_path: Path):
    config = write_config(rewards={"server": server.target, "use": {"a": 1}})
    (tmp_path / "data.jsonl").write_text('{"completion": "xy"}')
    arguments = ["score", "--reward", "a", "--data", str(tmp_path / "data.jsonl"), "--config", str(config)]
    out = tmp_path / "elsewhere.jsonl"
    done = CliRunner().invoke(cli.app, [*arguments, "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())["verdicts"]["a"]["score"] == 2.0


def test_a_version_change_between_chunks_shows_in_the_rows(score, server: FakeServer, tmp_path: Path):
    def changed(request: pb.ScoreRequest, _: Any) -> pb.ScoreResponse:
        answer = server.answer(request)
        answer.results[0].version = "a-2"
        return answer

    server.script.extend([lambda request, _: server.answer(request), changed])
    assert score(*({"prompt": str(i), "completion": "x"} for i in range(100))).exit_code == 0
    assert [row["verdicts"]["a"]["version"] for row in written(tmp_path)] == ["a-1"] * 64 + ["a-2"] * 36
