"""A log that cannot be written costs lines, never a call, a start or an end."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from protos.reward.v1 import reward_pb2 as pb
from reward_server.telemetry import lines
from reward_server.telemetry.lines import Lines

FULL = Path("/dev/full")
CONFIG = "rewards: {brevity: {length: {unit: words, target: 10, width: 30}}}\ndrain: {notice_s: 0, grace_s: 5}\n"


@pytest.fixture
def pipe():
    """Returns a pipe's reading and writing end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def read_until(reading, end):
    """Returns what comes out of the pipe up to these bytes."""
    data = b""
    while not data.endswith(end):
        data += os.read(reading, 1 << 20)
    return data


def test_lines_are_written_in_order_and_at_once(pipe):
    reading, writing = pipe
    log = Lines(writing)
    for number in range(100):
        log.msg(f"line {number}")
    assert read_until(reading, b"line 99\n").decode().split("\n")[:-1] == [f"line {number}" for number in range(100)]


def test_no_text_is_refused(pipe):
    reading, writing = pipe
    Lines(writing).msg("a lone \udc80")
    assert read_until(reading, b"\n") == b"a lone \\udc80\n"


def test_what_a_slow_log_does_not_take_is_dropped_and_counted(pipe, monkeypatch):
    reading, writing = pipe
    monkeypatch.setattr(lines, "MAX_WAITING_BYTES", 1_000_000)
    log = Lines(writing)
    for _ in range(12):
        log.msg("x" * 99_999)  # more than a pipe holds: the thread is stuck in the first
    began = time.monotonic()
    log.flush(0.05)
    assert time.monotonic() - began < 5
    rest = [b""]
    reader = threading.Thread(target=lambda: rest.append(read_until(reading, b"after\n")))
    reader.start()
    log.flush(20)
    log.msg("after")
    reader.join(20)
    told = [json.loads(line) for line in rest[-1].splitlines() if line.startswith(b"{")]
    assert told == [{"event": "log lines dropped", "level": "warning", "count": 2}]
    assert rest[-1].count(b"x" * 99_999 + b"\n") == 10


@contextmanager
def serving(folder, stderr):
    (folder / "server.yaml").write_text(CONFIG)
    ready = folder / "ready.json"
    command = [sys.executable, "-m", "reward_server", "serve", "--listen", "127.0.0.1:0", "--ready-file", str(ready)]
    process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stderr=stderr)
    try:
        until = time.monotonic() + 60
        while not ready.exists():
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        with grpc.insecure_channel(json.loads(ready.read_text())["target"]) as channel:
            yield process, channel.unary_unary("/reward.v1.RewardService/Score")
    finally:
        process.kill()
        process.wait()


def ask(score, name="brevity"):
    request = pb.ScoreRequest(rewards=[pb.RewardSelector(name=name)], batch=pb.Batch())
    score(request.SerializeToString(), timeout=20)


def ends_well(process):
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=20) == 0


@pytest.mark.end_to_end
@pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")
def test_a_full_disk_is_no_reason_not_to_serve(tmp_path):
    with FULL.open("wb", buffering=0) as full, serving(tmp_path, full) as (process, score):
        ask(score)
        with pytest.raises(grpc.RpcError) as refused:
            ask(score, "brevty")
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        assert ends_well(process)


@pytest.mark.end_to_end
def test_a_pipe_that_nobody_reads_holds_up_neither_calls_nor_the_end(tmp_path, pipe):
    _, writing = pipe
    with serving(tmp_path, writing) as (process, score):
        for _ in range(600):  # two lines each, over 64 KiB in all
            ask(score)
        assert ends_well(process)


@pytest.mark.end_to_end
def test_a_reader_that_has_gone_ends_nothing(tmp_path):
    reading, writing = os.pipe()
    with serving(tmp_path, writing) as (process, score):
        os.close(reading)
        os.close(writing)
        ask(score)
        assert ends_well(process)
