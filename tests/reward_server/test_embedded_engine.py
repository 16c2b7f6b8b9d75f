"""The engine `embedded`: its child dies without harm, comes back, and is never left over."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import util
from pathlib import Path
from typing import Any

import psutil
import pytest
from small_model import PATH, needs_model
from waiting import until

from reward_server.engines import embedded, llama_process
from reward_server.engines.base import ChatMessage, Question
from reward_server.engines.embedded import Embedded
from reward_server.errors import AnswerTimedOut, EngineError, HostFailed

SHORT = Question((ChatMessage("user", "Say hi."),), max_tokens=4)
LONG = Question((ChatMessage("user", "Tell a very long story of a fox."),), max_tokens=1500)


@asynccontextmanager
async def started(**options: Any) -> AsyncIterator[Embedded]:
    engine = Embedded("local", Embedded.Options(**{"model": PATH} | options), Path.cwd())
    await engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def child_of(engine: Embedded) -> psutil.Process:
    assert engine.child_pid is not None
    return psutil.Process(engine.child_pid)


async def replaced(engine: Embedded, first: psutil.Process) -> None:
    """Waits until the engine can serve again, with another child."""
    await until(lambda: engine.health().serving and engine.child_pid not in (None, first.pid))


def entries(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the private folders of the children are made."""
    monkeypatch.setattr(llama_process.tempfile, "tempdir", str(tmp_path))
    return tmp_path


class TestWithTheSmallModel:
    pytestmark = needs_model

    async def test_close_leaves_no_process_and_no_folder(self, folders: Path) -> None:
        async with started() as engine:
            child = child_of(engine)
            assert entries(folders)
        assert not child.is_running()
        assert not entries(folders)

    async def test_a_start_that_is_called_off_leaves_nothing(self, folders: Path) -> None:
        engine = Embedded("local", Embedded.Options(model=PATH), Path.cwd())
        starting = asyncio.create_task(engine.start())
        await until(lambda: psutil.Process().children())
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await engine.close()
        assert psutil.Process().children() == []
        assert not entries(folders)

    async def test_no_port_is_opened(self) -> None:
        async with started() as engine:
            assert [c for c in child_of(engine).net_connections(kind="inet") if c.status == "LISTEN"] == []

    async def test_the_socket_is_for_this_user_alone(self, folders: Path) -> None:
        async with started():
            assert [folder.stat().st_mode & 0o077 for folder in entries(folders)] == [0]

    async def test_a_killed_child_fails_its_question_and_comes_back(self) -> None:
        async with started() as engine:
            first = child_of(engine)
            asking = asyncio.create_task(engine.ask(LONG, 60))
            await asyncio.sleep(0.5)
            first.kill()
            with pytest.raises(HostFailed, match=r"llama\.cpp died while it answered \(signal SIGKILL\)"):
                await asking
            await replaced(engine, first)
            assert (await engine.ask(SHORT, 60)).text

    async def test_while_the_child_is_away_questions_say_so_and_do_not_wait(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(embedded, "FIRST_PAUSE_S", 60.0)
        async with started() as engine:
            child_of(engine).kill()
            await until(lambda: not engine.health().serving)
            asked = time.monotonic()
            with pytest.raises(EngineError, match=r"llama\.cpp died"):
                await engine.ask(SHORT, 60)
            assert time.monotonic() - asked < 5
            assert not engine.health().serving

    async def test_a_child_that_hangs_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "PULSE_TIMEOUT_S", 0.5)
        async with started() as engine:
            first = child_of(engine)
            first.suspend()
            with pytest.raises(AnswerTimedOut):
                await engine.ask(SHORT, 0.5)
            await replaced(engine, first)
            assert (await engine.ask(SHORT, 60)).text

    async def test_a_slow_answer_given_up_does_not_cost_the_child(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(embedded, "PULSE_TIMEOUT_S", 20.0)
        async with started() as engine:
            before = child_of(engine).pid
            with pytest.raises(AnswerTimedOut):
                await engine.ask(LONG, 0.3)
            assert (await engine.ask(SHORT, 60)).text
            assert child_of(engine).pid == before

    def test_the_child_dies_with_a_server_that_is_killed(self, tmp_path: Path) -> None:
        script = f"""
import asyncio, pathlib
from reward_server.engines.embedded import Embedded
async def main():
    engine = Embedded("local", Embedded.Options(model={str(PATH)!r}), pathlib.Path.cwd())
    await engine.start()
    print(engine.child_pid, flush=True)
    await asyncio.sleep(600)
asyncio.run(main())
"""
        log = tmp_path / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                [sys.executable, "-c", script],
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"TMPDIR": str(tmp_path)},
            ) as server,
        ):
            assert server.stdout is not None
            line = next((line for line in server.stdout if line.strip().isdigit()), "")
            assert line, log.read_text()
            child = psutil.Process(int(line))
            server.send_signal(signal.SIGKILL)
            child.wait(20)
        assert [path for path in tmp_path.iterdir() if path != log] == []

    async def test_a_context_larger_than_the_models_is_told_with_both_numbers(self) -> None:
        async with started(context_tokens=16384) as engine:
            assert not engine.health().serving
            assert "context_tokens 16384 is more than the model's 8192" in engine.health().reason
            assert "set engines.local.context_tokens to at most 8192" in engine.health().reason

    async def test_the_identity_holds_the_hash_of_the_file(self) -> None:
        async with started() as engine:
            assert engine.identity()["sha256"] == hashlib.sha256(PATH.read_bytes()).hexdigest()

    async def test_a_file_that_changed_is_not_loaded_in_place_of_the_first(self, tmp_path: Path) -> None:
        model = tmp_path / "model.gguf"
        model.write_bytes(PATH.read_bytes())
        engine = Embedded("local", Embedded.Options(model="model.gguf"), tmp_path)
        await engine.start()
        try:
            assert engine.health().serving, engine.health().reason
            model.unlink()  # the child has the old file open
            model.write_bytes(PATH.read_bytes() + b"\0")
            child_of(engine).kill()
            await until(lambda: "has changed since the server started" in engine.health().reason)
            assert engine.child_pid is None
        finally:
            await engine.close()

    async def test_a_damaged_file_is_told_in_llama_cpps_words(self, tmp_path: Path) -> None:
        (tmp_path / "half.gguf").write_bytes(PATH.read_bytes()[:30_000_000])
        async with started(model=tmp_path / "half.gguf") as engine:
            assert not engine.health().serving
            assert "the model cannot be loaded" in engine.health().reason
            assert "failed to load model" in engine.health().reason

    async def test_two_slots_answer_at_a_time(self) -> None:
        async with started(slots=2, context_tokens=1024) as engine:
            answers = await asyncio.gather(*(engine.ask(SHORT, 60) for _ in range(4)))
            assert all(answer.text for answer in answers)
            assert answers[1].queue_ms < answers[0].host_ms


async def test_a_missing_file_is_told_with_its_full_path(tmp_path: Path) -> None:
    engine = Embedded("local", Embedded.Options(model="models/none.gguf"), tmp_path)
    await engine.start()
    try:
        assert (
            f"{tmp_path}/models/none.gguf: No such file or directory. Mend engines.local.model"
            in engine.health().reason
        )
        with pytest.raises(EngineError, match="No such file or directory"):
            await engine.ask(SHORT, 30)
    finally:
        await engine.close()


async def test_a_file_that_is_no_gguf_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"PK\3\4 and so on")
    async with started(model=tmp_path / "model.bin") as engine:
        assert "model.bin is no GGUF file. Mend engines.local.model" in engine.health().reason


async def test_a_missing_llama_cpp_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    async with started(model=tmp_path / "m.gguf") as engine:
        assert "pip install 'grpo-reward-service[embedded]'" in engine.health().reason


async def test_a_model_file_that_appears_later_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    async def start(order: Any, label: str) -> Any:
        tried.append(order.model)
        raise embedded.HostUnreachable("as far as this test goes")

    monkeypatch.setattr(embedded.LlamaProcess, "start", start)
    monkeypatch.setattr(embedded, "FIRST_PAUSE_S", 0.02)
    engine = Embedded("local", Embedded.Options(model="later.gguf"), tmp_path)
    await engine.start()
    try:
        assert tried == []
        (tmp_path / "later.gguf").write_bytes(b"GGUF")
        await until(lambda: tried)
    finally:
        await engine.close()
    assert tried[0] == str(tmp_path / "later.gguf")
