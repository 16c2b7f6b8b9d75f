"""Code rewards as a server serves them: programs in real sandboxes, over gRPC."""

import json
import sys

import grpc
import pytest
from small_rewards import Chars
from small_server import request
from small_server import serving as serving_scorers

from protos.reward.v1 import reward_pb2 as pb
from reward_server.config import load
from reward_server.domain import Call, Sample
from reward_server.errors import ConfigError, SandboxUnavailable
from reward_server.rewards import Rewards
from reward_server.sandbox.bubblewrap import Bubblewrap
from reward_server.sandbox.fusion import FusionOptions
from reward_server.sandbox.sandboxes import BubblewrapOptions, Sandboxes
from reward_server.scorers.code.scorer import Code
from reward_server.scoring import Selector

FRAMES = r"""
import gc, os, re, sys
frame, seen = sys._getframe(), ""
while frame:
    seen += repr(dict(frame.f_locals))
    frame = frame.f_back
for thing in gc.get_objects():
    if type(thing) in (tuple, list, dict):
        seen += repr(thing)[:10_000]
if found := re.search("-- [0-9a-f]{32} --", seen):
    print()
    print(found[0], flush=True)
    os._exit(0)
"""
PROGRAMS = {
    "right": "def add(a, b):\n    return a + b",
    "wrong": "def add(a, b):\n    return a - b",
    "hangs": "while True: pass",
    "leaves": "import os; os._exit(0)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "eats memory": "x = bytearray(1 << 40)",
    "prints without end": "while True: print('x' * 10_000)",
    "forks without end": "import os\nwhile True: os.fork()",
    "kills what it can": "import os, signal; os.kill(-1, signal.SIGKILL)",
    "walks up its frames": FRAMES,
    "reads the mark": "import sys\nprint(open('main.py').read().split(\"'\")[-2])\nraise SystemExit",
}
TESTS = ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]


@pytest.fixture(scope="module")
def sandboxed():
    """Skips where this machine runs no sandbox."""
    import asyncio

    async def trouble():
        sandbox = Bubblewrap()
        await sandbox.start()
        try:
            return sandbox.health().reason
        finally:
            await sandbox.close()

    if reason := asyncio.run(trouble()):
        pytest.skip(reason)


def configured(tmp_path, text):
    (tmp_path / "server.yaml").write_text(text)
    return load(tmp_path / "server.yaml")


async def test_programs_that_misbehave_pass_nothing_and_keep_nobody_from_passing(tmp_path, sandboxed):
    config = configured(tmp_path, "rewards: {solves: {code: {timeout_s: 0.5, memory_mb: 128}}}")
    samples = [Sample(program, columns={"tests": TESTS}) for program in PROGRAMS.values()]
    async with Rewards(config) as rewards:
        ready = rewards.run([Selector("solves")], samples, Call())
        verdicts = {index: verdict async for _, index, verdict in ready}
    scores = {name: verdicts[index].score for index, name in enumerate(PROGRAMS)}
    assert scores == {name: float(name == "right") for name in PROGRAMS}


async def test_a_gate_spares_the_sandbox_what_has_no_program(tmp_path, sandboxed):
    config = configured(
        tmp_path,
        """
        rewards:
          fenced: {format: {patterns: [{regex: '(?s)```python\\n.*\\n```', score: 1}]}}
          solves: {code: {timeout_s: 2}}
          reward: {gate: {when: fenced, at_least: 1, then: solves, otherwise: -0.5}}
        """,
    )
    completions = ["I don't know.", f"```python\n{PROGRAMS['right']}\n```"]
    samples = [Sample(text, columns={"tests": TESTS}) for text in completions]
    async with Rewards(config) as rewards:
        ready = rewards.run([Selector("reward")], samples, Call())
        assert {index: verdict.score async for _, index, verdict in ready} == {0: -0.5, 1: 1.0}


async def test_where_the_sandbox_does_not_hold_calls_are_refused_and_health_says_so(tmp_path, monkeypatch):
    def no_sandbox(self):
        raise SandboxUnavailable("user namespaces are forbidden here")

    monkeypatch.setattr(Bubblewrap, "_prepare", no_sandbox)
    async with serving_scorers({"code": Code, "chars": Chars}) as served:
        column = pb.Column(name="tests", values_json=json.dumps([TESTS, TESTS]).encode())
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.stub.Score(request("code", columns=[column]), timeout=10)
        assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert "user namespaces are forbidden here" in refused.value.details()
        assert list((await served.score("chars")).results[0].scores) == [1.0, 2.0]


async def test_a_program_finds_no_test_in_the_frames_above_it(tmp_path, sandboxed):
    config = configured(tmp_path, "rewards: {solves: {code: {timeout_s: 5}}}")
    samples = [Sample(FRAMES, columns={"tests": ["assert add(1, 2) != 4"]})]
    async with Rewards(config) as rewards:
        ready = rewards.run([Selector("solves")], samples, Call())
        assert {index: verdict.score async for _, index, verdict in ready} == {0: 0.0}


async def test_the_programs_python_and_their_number_at_a_time_may_be_chosen(tmp_path, sandboxed):
    config = configured(
        tmp_path, f"rewards: {{solves: {{code: {{sandbox: {{python: {sys.executable}, max_jobs: 1}}}}}}}}"
    )
    samples = [Sample("import sys; print(sys.prefix)", columns={"tests": [{"input": "", "output": sys.prefix}]})]
    async with Rewards(config) as rewards:
        ready = rewards.run([Selector("solves")], samples, Call())
        assert {index: verdict.score async for _, index, verdict in ready} == {0: 1.0}
        assert rewards._rewards["solves"].scorer._sandbox._max_jobs == 1


@pytest.mark.parametrize(
    ("sandbox", "complaint"),
    [
        ("{url: 'http://box:1', token_env: NO_SUCH_TOKEN}", "code.sandbox.token_env: "),
        ("{url: 'http://box:1', token_file: nofile}", "code.sandbox.token_file: "),
        ("{python: nopython}", "code.sandbox.python: "),
        ("{max_jobs: 0}", "max_jobs"),
        ("{pyhton: x}", "pyhton"),
        ("docker", "sandbox"),
    ],
)
def test_a_sandbox_that_cannot_be_had_as_configured_is_told_when_the_configuration_is_checked(
    sandbox, complaint, tmp_path
):
    with pytest.raises(ConfigError) as complained:
        configured(tmp_path, f"rewards: {{solves: {{code: {{sandbox: {sandbox}}}}}}}")
    assert complaint in str(complained.value)


def test_rewards_that_ask_for_the_same_sandbox_share_one(tmp_path):
    sandboxes = Sandboxes(tmp_path)
    first = sandboxes.get("bubblewrap", "rewards.a.code.sandbox")
    assert sandboxes.get(BubblewrapOptions(), "rewards.b.code.sandbox") is first
    assert sandboxes.get(BubblewrapOptions(max_jobs=1), "rewards.b.code.sandbox") is not first


def test_a_token_that_is_not_there_is_told_with_its_place(tmp_path):
    options = FusionOptions(url="http://box:1", token_env="NO_SUCH_TOKEN")
    with pytest.raises(ConfigError, match=r"rewards\.a\.code\.sandbox\.token_env"):
        Sandboxes(tmp_path).get(options, "rewards.a.code.sandbox")
