"""The engine `embedded`: its child dies without harm, comes back, and is never left over."""

from __future__ import annotations

import asyncio
import hashlib
import math
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

from reward_server.domain import Health
from reward_server.engines.base import Answer, ChatMessage, Place, Question
from reward_server.engines.embedded import host as llama_host
from reward_server.engines.embedded import process as llama_process
from reward_server.engines.embedded.engine import Embedded
from reward_server.engines.embedded.host import LlamaHost
from reward_server.engines.over_http import chat_stream
from reward_server.errors import AnswerTimedOut, EngineError, HostFailed, HostUnreachable
from reward_server.http.complaints import Addressee
from reward_server.http.host import Reply

SHORT = Question((ChatMessage("user", "Say hi."),), max_tokens=4)
LONG = Question((ChatMessage("user", "Tell a very long story of a fox."),), max_tokens=1500)


@asynccontextmanager
async def opened(folder: Path | None = None, **options: Any) -> AsyncIterator[LlamaHost]:
    """The host by itself, without the pool in front of it."""
    host = LlamaHost("local", Embedded.Options(**{"model": PATH} | options), folder or Path.cwd())
    await host.open()
    try:
        yield host
    finally:
        await host.close()


def child_of(host: LlamaHost | Embedded) -> psutil.Process:
    assert host.child_pid is not None
    return psutil.Process(host.child_pid)


async def looked(host: LlamaHost) -> Health:
    """Returns what a look finds, an error's words too."""
    try:
        return (await host.look()).health
    except EngineError as error:
        return Health(serving=False, reason=str(error))


async def replaced(host: LlamaHost, first: psutil.Process) -> None:
    """Waits until there is another child."""
    await until(lambda: host.child_pid not in (None, first.pid))


async def answering(place: Place) -> str:
    return (await place.ask(SHORT)).text


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
        async with opened() as host:
            child = child_of(host)
            assert entries(folders)
        assert not child.is_running()
        assert not entries(folders)

    async def test_a_start_that_is_called_off_leaves_nothing(self, folders: Path) -> None:
        before = set(psutil.Process().children())  # such as the resource tracker of other tests
        engine = Embedded("local", Embedded.Options(model=PATH), Path.cwd())
        starting = asyncio.create_task(engine.start())
        await until(lambda: set(psutil.Process().children()) - before)
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        await engine.close()
        assert set(psutil.Process().children()) <= before
        assert not entries(folders)

    async def test_no_port_is_opened(self) -> None:
        async with opened() as host:
            assert [c for c in child_of(host).net_connections(kind="inet") if c.status == "LISTEN"] == []

    async def test_the_socket_is_for_this_user_alone(self, folders: Path) -> None:
        async with opened():
            assert [folder.stat().st_mode & 0o077 for folder in entries(folders)] == [0]

    async def test_a_killed_child_fails_its_question_and_comes_back(self) -> None:
        async with opened() as host:
            first = child_of(host)
            asking = asyncio.create_task(host.send(LONG, 60))
            await asyncio.sleep(0.5)
            first.kill()
            with pytest.raises(HostFailed, match=r"llama\.cpp died while it answered \(signal SIGKILL\)"):
                await asking
            await replaced(host, first)
            assert (await host.send(SHORT, 60)).text

    async def test_while_the_child_is_away_questions_say_so_and_do_not_wait(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(llama_host, "FIRST_PAUSE_S", 60.0)
        async with opened() as host:
            child_of(host).kill()
            await until(lambda: host.child_pid is None)
            for ask in (host.look, lambda: host.send(SHORT, 60)):
                asked = time.monotonic()
                with pytest.raises(HostUnreachable):
                    await ask()
                assert time.monotonic() - asked < 5
            assert await host.count_tokens(SHORT.messages) is None

    async def test_work_waits_for_a_child_that_was_killed_and_costs_no_attempt(self) -> None:
        engine = Embedded("local", Embedded.Options(model=PATH), Path.cwd())
        await engine.start()
        try:
            child_of(engine).kill()
            await until(lambda: engine.child_pid is None)
            deadline = time.monotonic() + 60
            work = engine.run(answering, affinity="", deadline=lambda: deadline, patience_s=60, attempts=1)
            assert await work
        finally:
            await engine.close()

    async def test_a_child_that_hangs_is_replaced(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(llama_host, "PULSE_TIMEOUT_S", 0.5)
        async with opened() as host:
            first = child_of(host)
            first.suspend()
            with pytest.raises(AnswerTimedOut):
                await host.send(SHORT, 0.5)
            await replaced(host, first)
            assert (await host.send(SHORT, 60)).text

    async def test_a_child_that_hangs_is_replaced_though_no_question_waits_as_long_as_it_may(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(llama_host, "PULSE_TIMEOUT_S", 0.5)
        async with opened() as host:
            for ask in (lambda: host.send(SHORT, 60), host.look):
                first = child_of(host)
                first.suspend()
                await until(lambda first=first: first.status() == psutil.STATUS_STOPPED)
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(ask(), 0.5)  # the call's deadline
                await replaced(host, first)
                assert (await host.send(SHORT, 60)).text

    async def test_a_child_that_hangs_is_not_left_over_when_there_is_no_time_to_wait_for_it(
        self, folders: Path
    ) -> None:
        async with opened() as host:
            child = child_of(host)
            child.suspend()
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(host.close(), 0.2)
            await until(lambda: not psutil.pid_exists(child.pid))
            await asyncio.sleep(0.1)  # asyncio closes its pipes
        assert not entries(folders)

    async def test_a_child_that_cannot_be_started_for_now_is_tried_again(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async with opened() as host:
            first, start = child_of(host), llama_host.LlamaProcess.start
            failures = [OSError("no room for another process")]

            async def fails_once(*args: Any) -> Any:
                if failures:
                    raise failures.pop()
                return await start(*args)

            monkeypatch.setattr(llama_host.LlamaProcess, "start", fails_once)
            first.kill()
            await replaced(host, first)
            assert (await host.send(SHORT, 60)).text

    async def test_a_slow_answer_given_up_does_not_cost_the_child(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(llama_host, "PULSE_TIMEOUT_S", 20.0)
        async with opened() as host:
            before = child_of(host).pid
            with pytest.raises(AnswerTimedOut):
                await host.send(LONG, 0.3)
            assert (await host.send(SHORT, 60)).text
            assert child_of(host).pid == before

    def test_the_child_dies_with_a_server_that_is_killed(self, tmp_path: Path) -> None:
        script = f"""
import asyncio, pathlib
from reward_server.engines.embedded.engine import Embedded
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
        async with opened(context_tokens=16384) as host:
            health = await looked(host)
        assert not health.serving
        assert "context_tokens 16384 is more than the model's 8192" in health.reason
        assert "set engines.local.context_tokens to at most 8192" in health.reason

    async def test_the_identity_holds_the_hash_of_the_file(self) -> None:
        engine = Embedded("local", Embedded.Options(model=PATH), Path.cwd())
        await engine.start()
        try:
            assert engine.identity()["sha256"] == hashlib.sha256(PATH.read_bytes()).hexdigest()
            assert engine.identity()["adapter_sha256"] is None
        finally:
            await engine.close()

    async def test_a_file_that_changed_is_not_loaded_in_place_of_the_first(self, tmp_path: Path) -> None:
        model = tmp_path / "model.gguf"
        model.write_bytes(PATH.read_bytes())
        async with opened(tmp_path, model="model.gguf") as host:
            assert (await looked(host)).serving
            model.unlink()  # the child has the old file open
            model.write_bytes(PATH.read_bytes() + b"\0")
            child_of(host).kill()
            async with asyncio.timeout(60):
                while "has changed since the server started" not in (await looked(host)).reason:  # noqa: ASYNC110  # what is waited for has no event to set
                    await asyncio.sleep(0.05)
            assert host.child_pid is None

    async def test_a_damaged_file_is_told_in_llama_cpps_words(self, tmp_path: Path) -> None:
        (tmp_path / "half.gguf").write_bytes(PATH.read_bytes()[:30_000_000])
        async with opened(model=tmp_path / "half.gguf") as host:
            health = await looked(host)
        assert "the model cannot be loaded" in health.reason
        assert "failed to load model" in health.reason

    async def test_a_damaged_adapter_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "adapter.gguf").write_bytes(b"GGUF and no more")
        async with opened(adapter=tmp_path / "adapter.gguf") as host:
            assert "the model cannot be loaded" in (await looked(host)).reason

    async def test_an_adapter_changes_the_answers_and_the_identity(self, tmp_path: Path) -> None:
        adapter = write_adapter(tmp_path / "adapter.gguf")
        asked = Question(SHORT.messages, max_tokens=1, alternatives=5)
        async with opened() as host:
            without, digest = await host.send(asked, 60), (await host.look()).digest
        async with opened(adapter=adapter) as host:
            changed, both = await host.send(asked, 60), (await host.look()).digest
        assert changed.positions != without.positions
        assert both == f"{digest}+{hashlib.sha256(adapter.read_bytes()).hexdigest()}"

    async def test_two_slots_answer_at_a_time(self) -> None:
        async with opened(slots=2, context_tokens=1024) as host:
            long = asyncio.create_task(host.send(LONG, 60))
            await until(lambda: child_of(host).cpu_percent(0.05) > 10)
            assert (await host.send(SHORT, 60)).text
            assert not long.done()
            long.cancel()

    async def test_each_slot_keeps_the_prompt_that_it_has_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        fresh: list[int] = []  # tokens read for a prompt, beside those that a slot had
        read = chat_stream.read

        def reading(reply: Reply, to: Addressee) -> Answer:
            fresh.append(int(reply.text().rpartition('"prompt_n":')[2].partition(",")[0]))
            return read(reply, to)

        monkeypatch.setattr(chat_stream, "read", reading)
        rubrics = ["The fox is brown. " * 60, "A tale of two cities. " * 60]
        async with opened(slots=2) as host:
            for end in ("Is it?", "Was it so?", "Will it be?"):
                for rubric in rubrics:
                    await host.send(Question((ChatMessage("user", rubric + end),), max_tokens=1), 60)
        assert min(fresh[:2]) > 200
        assert max(fresh[2:]) < 20

    async def test_tokens_are_counted_as_llama_cpp_counts_them(self) -> None:
        messages = (ChatMessage("system", "You grade."), ChatMessage("user", "Ein Füchslein 🦊 <|im_end|> springt."))
        async with opened() as host:
            counted = await host.count_tokens(messages)
            assert counted == (await host.send(Question(messages, max_tokens=1), 60)).prompt_token_count

    async def test_a_grade_of_one_token_has_its_alternatives(self) -> None:
        messages = (ChatMessage("user", "Is Paris the capital of France? Answer yes or no."),)
        async with opened() as host:
            answer = await host.send(Question(messages, max_tokens=1, alternatives=20), 60)
        (position,) = answer.positions
        assert position.token == answer.text
        assert len(position.logprobs) >= 18  # tokens of the same text are one
        assert 0.5 < sum(map(math.exp, position.logprobs.values())) <= 1.0


def write_adapter(path: Path) -> Path:
    """Writes a LoRA adapter of rank 2 for the small model's first layer, with a strong effect of no meaning."""
    gguf, np = pytest.importorskip("gguf"), pytest.importorskip("numpy")
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 2.0)
    writer.add_tensor("blk.0.attn_q.weight.lora_a", random.standard_normal((2, 576), dtype=np.float32))
    writer.add_tensor("blk.0.attn_q.weight.lora_b", random.standard_normal((576, 2), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


async def test_a_missing_file_is_told_with_its_full_path(tmp_path: Path) -> None:
    async with opened(tmp_path, model="models/none.gguf") as host:
        words = f"{tmp_path}/models/none.gguf: No such file or directory. Mend engines.local.model"
        assert words in (await looked(host)).reason
        with pytest.raises(HostUnreachable, match="No such file or directory"):
            await host.send(SHORT, 30)


async def test_a_missing_file_does_not_stop_the_engine(tmp_path: Path) -> None:
    engine = Embedded("local", Embedded.Options(model="models/none.gguf"), tmp_path)
    await engine.start()
    try:
        assert "No such file or directory" in engine.health().reason
    finally:
        await engine.close()


async def test_a_file_that_is_no_gguf_is_told(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"PK\3\4 and so on")
    async with opened(model=tmp_path / "model.bin") as host:
        assert "model.bin is no GGUF file. Mend engines.local.model" in (await looked(host)).reason


async def test_a_missing_llama_cpp_is_told_with_its_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    async with opened(model=tmp_path / "m.gguf") as host:
        assert "pip install 'grpo-reward-service[embedded]'" in (await looked(host)).reason


async def test_a_model_file_that_appears_later_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    async def start(order: Any, label: str) -> Any:
        tried.append(order)
        raise HostUnreachable("as far as this test goes")

    monkeypatch.setattr(llama_host.LlamaProcess, "start", start)
    monkeypatch.setattr(llama_host, "FIRST_PAUSE_S", 0.02)
    async with opened(tmp_path, model="later.gguf", adapter="adapter.gguf"):
        assert tried == []
        (tmp_path / "later.gguf").write_bytes(b"GGUF")
        (tmp_path / "adapter.gguf").write_bytes(b"GGUF")
        await until(lambda: tried)
    assert (tried[0].model, tried[0].adapter) == (f"{tmp_path}/later.gguf", f"{tmp_path}/adapter.gguf")
