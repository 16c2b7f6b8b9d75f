"""A judge with its engine in front of a fake host, as a server would put them together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from fake_ollama import MODEL, FakeOllama

from reward_server.engines.ollama.engine import Ollama
from reward_server.judge.judge import Judge
from reward_server.judge.options import JudgeOptions
from reward_server.judge.secret import JudgeSecret
from reward_server.sharing.memory import VerdictMemory

IN_FLIGHT: Final = 4
SECRET: Final = JudgeSecret.of(b"of the tests, and of nobody else")


@asynccontextmanager
async def judge_at(host: FakeOllama | Sequence[FakeOllama], folder: Path, **options: Any) -> AsyncIterator[Judge]:
    """Yields a judge at one host or several, its engine ready; `options` are the judge's, `rubric` a short text if none is given."""
    urls = [each.url for each in ([host] if isinstance(host, FakeOllama) else host)]
    engine = Ollama("box", Ollama.Options(model=MODEL, url=urls, in_flight=IN_FLIGHT), folder)
    settings = JudgeOptions(**{"engine": "box", "rubric": "Grade it."} | options)
    judge = Judge("relevance", settings, engine, folder, secret=SECRET, memory=VerdictMemory(1 << 20))
    await engine.start()
    try:
        yield judge
    finally:
        await engine.close()
