"""The engine `embedded`: a judge's model in llama.cpp, in a child process that the server starts and ends.

The child speaks llama.cpp's own HTTP API on a unix socket (see `embedded_child`), so that a question here is what it is
for the engine `openai`: one request, and closing its connection stops the generation. If the child dies, by an abort of
llama.cpp or by somebody's hand, the questions it was at fail, and it is started again.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from importlib import metadata, util
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx
import structlog
from pydantic import Field

from reward_server.domain import HEALTHY, Health
from reward_server.engines import chat_completions
from reward_server.engines.base import Question
from reward_server.engines.complaints import Addressee
from reward_server.engines.host import Host, Reply
from reward_server.engines.hosted import CHECK_TIMEOUT_S, HostedEngine, Said
from reward_server.engines.llama_process import LlamaOrder, LlamaProcess
from reward_server.errors import AnswerTimedOut, EngineError, HostFailed, HostUnreachable
from reward_server.options import Options

MAX_THREADS: Final = 8
"""More threads than this seldom make a small model faster."""
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""Between a death of the child and its next start; it doubles with every death and is forgotten with an answer."""
PULSE_TIMEOUT_S: Final = 60.0
"""After a question ran out of time the child must show a pulse within this, or it is killed and started again. A large
model on a slow CPU takes its time over one piece of a prompt."""
DEATH_NOTICE_S: Final = 1.0
"""A closed connection is seen a moment before the death that closed it."""

log = structlog.get_logger(__name__)


def sensible_threads() -> int:
    """Returns how many threads llama.cpp gets by default: half of the cores.

    Its threads spin while they wait for one another, so they crawl as soon as they share cores with anything busy:
    on two cores beside a training process one thread took 1.1 s for a verdict, and two took 9.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, min(MAX_THREADS, cores // 2))


class EmbeddedOptions(Options):
    """Options of the engine `embedded`."""

    shorthand: ClassVar[str | None] = "model"

    model: Path = Field(description="a GGUF file; a relative path starts at the configuration's folder")
    context_tokens: int = Field(2048, ge=256, description="context of each slot, prompt and answer together")
    slots: int = Field(
        1, ge=1, le=64, description="questions answered at a time; each slot has a prefix cache of its own"
    )
    threads: int = Field(default_factory=sensible_threads, ge=1, le=512, description="threads of llama.cpp")
    think: bool = Field(default=False, description="let a thinking model think first")
    verbose: bool = Field(default=False, description="show llama.cpp's own log")


class Embedded(HostedEngine):
    """Answers questions by a model in llama.cpp, in a child process."""

    kind: ClassVar[str] = "embedded"
    Options = EmbeddedOptions

    def __init__(self, name: str, options: EmbeddedOptions, folder: Path) -> None:
        super().__init__(
            name, f"engine `{name}` (llama.cpp, {options.model.name})", options.slots, options.context_tokens
        )
        self._options = options
        self._model = (folder / options.model).absolute()
        self._to = Addressee(self.label, options.model.name, model_mend=f"Mend engines.{name}.model", token_mend="")
        self._digest: str | None = None  # of the model that the first child loaded
        self._hashed: tuple[int, int, str] | None = None  # size, time and digest of the file when it was last read
        self._llama: LlamaProcess | None = None
        self._host: Host | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._pulse: asyncio.Task[None] | None = None
        self._trouble: EngineError | None = None  # why the child is not there
        self._pause_s = FIRST_PAUSE_S

    def identity(self) -> Mapping[str, Any]:
        """Returns the model file's hash (None until it has been read), the load profile and llama.cpp's version."""
        return {
            "engine": self.kind,
            "model": self._options.model.name,
            "sha256": self._digest,
            "context_tokens": self._options.context_tokens,
            "think": self._options.think,
            "xllamacpp": _version(),
        }

    @property
    def child_pid(self) -> int | None:
        """Returns the process id of the child, None while there is none."""
        return self._llama.pid if self._llama is not None and self._llama.running else None

    async def _open(self) -> None:
        """Starts the child and waits until its model is loaded, or it is known why it can't be."""
        await self._raise_child()
        self._keeper = asyncio.create_task(self._keep_alive(), name=f"keeper of engine {self.name}")

    async def _close(self) -> None:
        tasks = [task for task in (self._keeper, self._pulse) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keeper = self._pulse = None
        await self._bury_child()

    async def _look(self) -> Health:
        """Compares the model's own context with the configured one; the child knows it."""
        longest = _trained_context(await self._child_host().request("GET", "/v1/models", CHECK_TIMEOUT_S))
        if longest is not None and self._options.context_tokens > longest:
            return Health(
                serving=False,
                reason=f"{self.label}: context_tokens {self._options.context_tokens} is more than the model's "
                f"{longest}: set engines.{self.name}.context_tokens to at most {longest}",
            )
        return HEALTHY

    async def _send(self, question: Question, timeout_s: float) -> Said:
        body = chat_completions.body(question)
        body |= {"max_tokens": question.max_tokens, "chat_template_kwargs": {"enable_thinking": self._options.think}}
        if question.schema is not None:
            body["response_format"] = chat_completions.schema_format(question.schema)
        host, llama = self._child_host(), self._llama
        try:
            reply = await host.request("POST", "/v1/chat/completions", timeout_s, body)
        except HostUnreachable as error:
            if isinstance(error.__cause__, httpx.ConnectError):
                raise  # it was gone before this question: nothing to do with it
            how = await _death_of(llama)
            raise HostFailed(f"{self.label}: llama.cpp died while it answered ({how}); it is started again") from error
        except AnswerTimedOut:
            if self._pulse is None or self._pulse.done():
                self._pulse = asyncio.create_task(self._feel_pulse(), name=f"pulse of engine {self.name}")
            raise
        self._pause_s = FIRST_PAUSE_S
        return chat_completions.read(reply, self._to)

    def _child_host(self) -> Host:
        """Returns the way to the child, or raises why there is none."""
        if self._host is None:
            raise self._trouble or HostUnreachable(f"{self.label}: not started")
        return self._host

    async def _raise_child(self) -> None:
        """Starts the child; where that fails, remembers why."""
        try:
            await self._inspect_model()
            order = LlamaOrder(
                model=str(self._model),
                context_tokens=self._options.context_tokens,
                slots=self._options.slots,
                threads=self._options.threads,
                verbosity=3 if self._options.verbose else 1,
            )
            self._llama = await LlamaProcess.start(order, self.label)
        except EngineError as error:
            self._trouble = error
            return
        self._host = Host(self.label, "http://llama", mend="", socket=self._llama.socket)
        self._host.open()

    async def _bury_child(self) -> None:
        """Ends the child, if there is one, and the way to it."""
        host, llama = self._host, self._llama
        self._host = self._llama = None
        if host is not None:
            await host.close()
        if llama is not None:
            await llama.end()

    async def _keep_alive(self) -> None:
        """Starts the child again whenever it has died, after a pause that grows."""
        while True:
            if self._llama is not None:
                how = await self._llama.ended()
                self._trouble = HostUnreachable(f"{self.label}: llama.cpp died ({how}); it is started again")
                self._lose(self._trouble)
                log.error("llama.cpp died", engine=self.name, how=how, pause_s=self._pause_s)
                await self._bury_child()
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)
            await self._raise_child()
            await self.check()

    async def _feel_pulse(self) -> None:
        """Kills the child if it no longer serves its own queue; the keeper then starts it again."""
        llama = self._llama
        try:
            await self._child_host().request("GET", "/slots", PULSE_TIMEOUT_S)
        except AnswerTimedOut:
            log.warning("llama.cpp has no pulse and is killed", engine=self.name)
            if llama is not None:
                llama.kill()
        except EngineError:
            pass  # it is gone already; the keeper knows

    async def _inspect_model(self) -> None:
        """Makes sure that there is a model to load, the same as before, and something to load it with."""
        if util.find_spec("xllamacpp") is None:
            raise HostUnreachable(
                f"{self.label}: llama.cpp is not installed: pip install 'grpo-reward-service[embedded]'"
            )
        digest = await asyncio.to_thread(self._read_digest)
        if self._digest is not None and digest != self._digest:
            raise HostUnreachable(
                f"{self.label}: {self._model} has changed since the server started: put it back, or start the server again"
            )
        self._digest = digest

    def _read_digest(self) -> str:
        """Returns the model file's SHA-256, from memory where size and time of the file are those read before.

        Raises `HostUnreachable` where the file is missing or no GGUF.
        """
        mend = f"Mend engines.{self.name}.model"
        try:
            stat = self._model.stat()
            if self._hashed is None or self._hashed[:2] != (stat.st_size, stat.st_mtime_ns):
                self._hashed = (stat.st_size, stat.st_mtime_ns, _sha256_of_gguf(self._model))
        except OSError as error:
            raise HostUnreachable(f"{self.label}: {self._model}: {error.strerror}. {mend}") from error
        except ValueError as error:
            raise HostUnreachable(f"{self.label}: {self._model} {error}. {mend}") from error
        return self._hashed[2]


def _sha256_of_gguf(path: Path) -> str:
    """Returns the file's SHA-256. Raises `ValueError` where it is no GGUF file."""
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise ValueError("is no GGUF file")
        file.seek(0)
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _death_of(llama: LlamaProcess | None) -> str:
    """Returns how the child has just ended."""
    try:
        async with asyncio.timeout(DEATH_NOTICE_S):
            return await llama.ended() if llama is not None else "it was being ended"
    except TimeoutError:
        return "it closed the connection"


def _trained_context(models: Reply) -> int | None:
    """Returns the longest context that the model was made for, in tokens; None where llama.cpp does not say."""
    try:
        length = json.loads(models.text())["data"][0]["meta"]["n_ctx_train"]
    except (ValueError, TypeError, LookupError):
        return None
    return length if isinstance(length, int) else None


def _version() -> str | None:
    """Returns the version of xllamacpp, and of the llama.cpp in it."""
    try:
        return metadata.version("xllamacpp")
    except metadata.PackageNotFoundError:
        return None
