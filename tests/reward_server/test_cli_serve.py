"""`reward-server serve` as a real process: signals, stdin, the ready file, logs, and what it says when it can't start."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import grpc
import pytest

from protos.reward.v1 import reward_pb2 as pb

RULES = "rewards: {brevity: {length: {unit: words, target: 10, width: 30}}}\n"
QUICK = RULES + "drain: {notice_s: 0, grace_s: 5}\n"

pytestmark = pytest.mark.end_to_end


@contextmanager
def started(folder, config, *arguments, **environment):
    """Starts a server in `folder` that is killed at the end if it still runs."""
    (folder / "server.yaml").write_text(config)
    command = [sys.executable, "-m", "reward_server", "serve", "--listen", "127.0.0.1:0", *arguments]
    process = subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def close_stdin(process):
    process.stdin.close()
    process.stdin = None  # communicate() would write to it


def wait_for(path):
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert path.exists()


def first_event(process, event):
    """Returns the first log line with that event; fails if the log ends before."""
    for line in process.stderr:
        entry = json.loads(line)
        if entry["event"] == event:
            return entry
    raise AssertionError(f"the log ended without {event!r}")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains_and_ends_it_well(tmp_path, number):
    with started(tmp_path, QUICK) as process:
        first_event(process, "serving")
        process.send_signal(number)
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0
        assert [json.loads(line)["event"] for line in err.splitlines()] == ["draining", "stopped"]


def test_a_second_signal_ends_it_at_once(tmp_path):
    ready = tmp_path / "ready.json"
    with started(tmp_path, RULES + "drain: {notice_s: 300}\n", "--ready-file", str(ready)) as process:
        first_event(process, "serving")
        process.send_signal(signal.SIGTERM)
        first_event(process, "draining")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 1
        assert not ready.exists()


def test_it_ends_with_its_stdin_if_told_so(tmp_path):
    with started(tmp_path, QUICK, "--until-stdin-closes") as process:
        first_event(process, "serving")
        process.stdin.write("what is written there is ignored\n")
        close_stdin(process)
        assert process.wait(timeout=30) == 0


def test_the_end_of_stdin_means_nothing_without_that_flag(tmp_path):
    with started(tmp_path, QUICK) as process:
        close_stdin(process)
        target = first_event(process, "serving")["target"]
        with grpc.insecure_channel(target) as channel:
            ask = channel.unary_unary(
                "/reward.v1.RewardService/ListRewards",
                request_serializer=pb.ListRewardsRequest.SerializeToString,
                response_deserializer=pb.ListRewardsResponse.FromString,
            )
            assert [reward.name for reward in ask(pb.ListRewardsRequest(), timeout=20).rewards] == ["brevity"]
        assert process.poll() is None


def test_the_ready_file_is_there_while_it_answers_and_no_longer(tmp_path):
    ready = tmp_path / "ready.json"
    ready.write_text("left behind by an earlier server")
    with started(tmp_path, QUICK, "--ready-file", "ready.json") as process:
        target = first_event(process, "serving")["target"]
        wait_for(ready)
        assert json.loads(ready.read_text()) == {"target": target, "pid": process.pid}
        process.terminate()
        process.wait(timeout=30)
        assert list(tmp_path.glob("*ready*")) == []


def test_a_ready_file_that_cannot_be_written_is_no_traceback(tmp_path):
    with started(tmp_path, QUICK, "--ready-file", "none/ready.json") as process:
        _, err = process.communicate(timeout=30)
        assert process.returncode == 1
        assert err.splitlines()[-1] == "--ready-file: none/ready.json can't be written: No such file or directory"
        assert "Traceback" not in err


def test_it_can_be_ended_while_it_starts(tmp_path):
    loading = tmp_path / "loading"
    slow = f"import pathlib, time\npathlib.Path({str(loading)!r}).touch()\ntime.sleep(300)\ndef f(completions): return [0.0]\n"
    (tmp_path / "slow.py").write_text(slow)
    config = 'rewards: {slow: {python: {function: "slow.py:f", load_timeout_s: 200}}}\n'
    with started(tmp_path, config) as process:
        wait_for(loading)
        process.terminate()
        _, err = process.communicate(timeout=30)
        assert process.returncode == 0, err
        assert "Traceback" not in err


@pytest.mark.parametrize(
    ("config", "arguments", "message"),
    [
        ("rewards: {a: {lenght: {}}}", [], "server.yaml:1: rewards.a.lenght: unknown kind; did you mean 'length'?"),
        (RULES, ["--listen", "0.0.0.0:0"], "server.yaml: listen: 0.0.0.0:0 can be reached from other machines"),
        (RULES, ["--listen", "nonsense"], "--listen: 'nonsense' is no address"),
        (RULES, ["--config", "none.yaml"], "none.yaml: there is no such file"),
        ('rewards: {a: {python: "none.py:f"}}', [], "server.yaml:1: rewards.a.python: there is no file"),
    ],
)
def test_what_keeps_it_from_starting_is_said_without_a_traceback(tmp_path, config, arguments, message):
    with started(tmp_path, config, *arguments) as process:
        _, err = process.communicate(timeout=30)
        assert process.returncode == 1
        assert message in err.splitlines()[0]
        assert "Traceback" not in err


def test_insecure_lets_other_machines_in(tmp_path):
    with started(tmp_path, QUICK, "--listen", "0.0.0.0:0", "--insecure") as process:
        assert first_event(process, "serving")["target"].startswith("0.0.0.0:")


def test_slow_protobuf_is_warned_of(tmp_path):
    with started(tmp_path, QUICK, PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION="python") as process:
        entry = first_event(process, "protobuf is slow")
        assert entry["level"] == "warning"
        assert entry["implementation"] == "python"
        assert "unset PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION" in entry["remedy"]


def test_fast_protobuf_is_not(tmp_path):
    with started(tmp_path, QUICK) as process:
        first_event(process, "serving")
        process.terminate()
        assert "protobuf" not in process.communicate(timeout=30)[1]


def test_the_log_level_is_kept(tmp_path):
    with started(tmp_path, QUICK, "--log-level", "error", "--ready-file", "ready.json") as process:
        wait_for(tmp_path / "ready.json")
        process.terminate()
        assert process.communicate(timeout=30) == ("", "")
