"""What every engine promises, asked of all three: two in front of fake hosts, one with a real small model."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engine_contract import Bench, EngineContract, started
from fake_ollama import FakeOllama
from fake_openai import FakeOpenAI
from small_model import PATH, needs_model

from reward_server.engines.embedded.engine import Embedded
from reward_server.engines.ollama.engine import Ollama
from reward_server.engines.openai.engine import OpenAI

NOBODY = "http://127.0.0.1:9"


class PacedOllama(FakeOllama):
    """A fake Ollama whose pace a test sets."""

    def pace(self, seconds: float) -> None:
        self._slots.costs = type(self._slots.costs)(seconds)


class TestOllama(EngineContract):
    tells_counts = True

    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        def engine_at(url: str) -> Ollama:
            return Ollama("box", Ollama.Options(model="smollm2:135m", url=url, in_flight=1), tmp_path)

        with PacedOllama(slots=4) as host:

            async def busy() -> bool:
                return host.questions_in_flight > 0

            async with started(engine_at(host.url)) as engine:
                yield Bench(engine, host.pace, busy, lambda: engine_at(host.url), lambda: engine_at(NOBODY))


class TestOpenAI(EngineContract):
    tells_counts = True

    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        def engine_at(url: str) -> OpenAI:
            return OpenAI("any", OpenAI.Options(model="judge-8b", url=url, in_flight=1), tmp_path)

        with FakeOpenAI(counts_tokens=True) as host:

            def pace(seconds: float) -> None:
                host.seconds = seconds

            async def busy() -> bool:
                return host.in_flight > 0

            async with started(engine_at(host.url)) as engine:
                yield Bench(engine, pace, busy, lambda: engine_at(host.url), lambda: engine_at(NOBODY))


class TestEmbedded(EngineContract):
    tells_counts = True
    pytestmark = needs_model

    @pytest.fixture
    async def bench(self, tmp_path: Path) -> AsyncIterator[Bench]:
        def engine_of(model: Path) -> Embedded:
            return Embedded("local", Embedded.Options(model=model, context_tokens=2048), tmp_path)

        async with started(engine_of(PATH)) as engine:

            async def busy() -> bool:
                reply = await engine._llama._child_host().request("GET", "/slots", 60)
                return any(slot["is_processing"] for slot in json.loads(reply.text()))

            yield Bench(
                engine, lambda _: None, busy, lambda: engine_of(PATH), lambda: engine_of(tmp_path / "none.gguf")
            )
