"""The one host of the engine `embedded`: llama.cpp in a child process that the server starts and ends.

The child speaks llama.cpp's own HTTP API on a unix socket (see `child`), so that a question here is what it is
for the engine `openai`: one request. Closing its connection stops the generation and frees its slot, as long as the
answer is streamed. llama.cpp gives a question the slot whose last prompt shares the longest beginning with it. If the
child dies, by an abort of llama.cpp or by somebody's hand, the questions it was at fail, and it is started again.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import util
from pathlib import Path
from typing import Any, Final

import httpx
import structlog

from reward_server.domain import HEALTHY, Health
from reward_server.engines.base import Answer, ChatMessage, Question
from reward_server.engines.embedded.gguf_file import GgufFile
from reward_server.engines.embedded.options import EmbeddedOptions
from reward_server.engines.embedded.process import LlamaOrder, LlamaProcess
from reward_server.engines.model_host import ModelHost, Sight
from reward_server.engines.over_http import chat_completions, chat_stream
from reward_server.errors import AnswerTimedOut, BadAnswer, EngineError, HostFailed, HostUnreachable
from reward_server.http.complaints import Addressee
from reward_server.http.host import LOOK_TIMEOUT_S, Host, Reply

FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
"""Between a death of the child and its next start; it doubles with every death and is forgotten with an answer."""
PULSE_TIMEOUT_S: Final = 60.0
"""After a question ran out of time, or was called off, the child must show a pulse within this, or it is killed and started again. A large
model on a slow CPU takes its time over one piece of a prompt."""
ONE_REQUEST: Final = {"connection": "close"}
"""A connection each: llama.cpp ends one after a stream without having said so, and the next request would meet that."""
DEATH_NOTICE_S: Final = 1.0
"""A closed connection is seen a moment before the death that closed it."""

log = structlog.get_logger(__name__)


class LlamaHost(ModelHost):
    """Answers questions by a model in llama.cpp, in a child process.

    Args:
        engine: the engine's name in the configuration.
        options: of the engine.
        folder: where relative paths start.
    """

    def __init__(self, engine: str, options: EmbeddedOptions, folder: Path) -> None:
        super().__init__(f"engine `{engine}` (llama.cpp, {options.model.name})", options.slots)
        self._engine, self._options = engine, options
        mend = f"Mend engines.{engine}."
        self._model = GgufFile((folder / options.model).absolute(), self.label, f"{mend}model")
        adapter = (folder / options.adapter).absolute() if options.adapter else None
        self._adapter = GgufFile(adapter, self.label, f"{mend}adapter") if adapter else None
        self._to = Addressee(self.label, options.model.name, model_mend=f"{mend}model", token_mend="")
        self._llama: LlamaProcess | None = None
        self._host: Host | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._pulse: asyncio.Task[None] | None = None
        self._trouble: EngineError | None = None  # why the child is not there
        self._pause_s = FIRST_PAUSE_S

    @property
    def child_pid(self) -> int | None:
        """Returns the process id of the child, None while there is none."""
        return self._llama.pid if self._llama is not None and self._llama.running else None

    async def open(self) -> None:
        """Starts the child and waits until its model is loaded, or it is known why it can't be."""
        await self._raise_child()
        self._keeper = asyncio.create_task(self._keep_alive(), name=f"keeper of engine {self._engine}")

    async def close(self) -> None:
        """Ends the child. Nothing is left of it."""
        tasks = [task for task in (self._keeper, self._pulse) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._keeper = self._pulse = self._trouble = None
        await self._bury_child()

    async def look(self) -> Sight:
        """Compares the model's own context with the configured one; the child knows it.

        The digest is the SHA-256 of the model's file; with an adapter, both, with a plus between them.
        """
        with self._suspecting_silence():
            longest = _trained_context(await self._child_host().request("GET", "/v1/models", LOOK_TIMEOUT_S))
        if longest is not None and self._options.context_tokens > longest:
            reason = (
                f"{self.label}: context_tokens {self._options.context_tokens} is more than the model's "
                f"{longest}: set engines.{self._engine}.context_tokens to at most {longest}"
            )
            return Sight(self._digest(), Health(serving=False, reason=reason))
        return Sight(self._digest(), HEALTHY)

    async def send(self, question: Question, timeout_s: float) -> Answer:
        """Gets one question answered now, or raises an `EngineError` within `timeout_s`."""
        body = chat_completions.body(question) | chat_stream.STREAMED | self._template_options()
        body["max_tokens"] = max(1, question.max_tokens)
        if question.schema is not None:
            body["response_format"] = chat_completions.schema_format(question.schema)
        host, llama = self._child_host(), self._llama
        try:
            with self._suspecting_silence():
                reply = await host.request("POST", "/v1/chat/completions", timeout_s, body)
        except HostUnreachable as error:
            if isinstance(error.__cause__, httpx.ConnectError):
                raise  # it was gone before this question: nothing to do with it
            how = await _death_of(llama)
            raise HostFailed(f"{self.label}: llama.cpp died while it answered ({how}); it is started again") from error
        self._pause_s = FIRST_PAUSE_S
        return chat_stream.read(reply, self._to)

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int | None:
        """Returns how many tokens a prompt has, template included; None while the child is away."""
        wire = {"messages": chat_completions.wire_messages(messages)} | self._template_options()
        try:
            prompt = await self._told("/apply-template", wire, "prompt", str)
            tokens = await self._told("/tokenize", {"content": prompt, "add_special": True}, "tokens", list)
        except EngineError:
            return None  # whoever asks the question itself hears what is wrong
        return len(tokens)

    def _template_options(self) -> dict[str, Any]:
        return {"chat_template_kwargs": {"enable_thinking": self._options.think}}

    async def _told(self, path: str, body: dict[str, Any], key: str, kind: type[Any]) -> Any:
        """Returns one field of what llama.cpp answers to a request that generates nothing."""
        reply = await self._child_host().request("POST", path, LOOK_TIMEOUT_S, body)
        try:
            told = json.loads(reply.text())[key]
        except (ValueError, TypeError, LookupError):
            told = None
        if not isinstance(told, kind):
            raise BadAnswer(f"{self.label}: {path} told no {key}")
        return told

    def _digest(self) -> str | None:
        """Returns what identifies the files that are loaded."""
        return f"{self._model.sha256}+{self._adapter.sha256}" if self._adapter else self._model.sha256

    def _child_host(self) -> Host:
        """Returns the way to the child, or raises why there is none."""
        if self._host is None:
            raise HostUnreachable(str(self._trouble or f"{self.label}: not started, or closed already"))
        return self._host

    async def _raise_child(self) -> None:
        """Starts the child; where that fails, remembers why."""
        try:
            await self._inspect()
            order = LlamaOrder(
                model=str(self._model.path),
                adapter=str(self._adapter.path) if self._adapter else None,
                context_tokens=self._options.context_tokens,
                slots=self._options.slots,
                threads=self._options.threads,
                verbosity=3 if self._options.verbose else 1,
            )
            self._llama = await LlamaProcess.start(order, self.label)
        except EngineError as error:
            self._trouble = error
            return
        except (OSError, ValueError) as error:  # no room for a process or its folder, or it answered no JSON
            self._trouble = HostUnreachable(f"{self.label}: llama.cpp cannot be started ({error})")
            return
        self._host = Host(self.label, "http://llama", mend="", headers=ONE_REQUEST, socket=self._llama.socket)
        self._host.open()

    async def _inspect(self) -> None:
        """Makes sure that there is something to load, the same as before, and something to load it with."""
        if util.find_spec("xllamacpp") is None:
            raise HostUnreachable(
                f"{self.label}: llama.cpp is not installed: pip install 'grpo-reward-service[embedded]'"
            )
        await self._model.inspect()
        if self._adapter is not None:
            await self._adapter.inspect()

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
                log.error("llama.cpp died", engine=self._engine, how=how, pause_s=self._pause_s)
                await self._bury_child()
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(LONGEST_PAUSE_S, self._pause_s * 2)
            await self._raise_child()

    @contextmanager
    def _suspecting_silence(self) -> Iterator[None]:
        """Feels the child's pulse where what is done inside gets no answer in its time, or is called off before that."""
        try:
            yield
        except (AnswerTimedOut, asyncio.CancelledError):
            if self._pulse is None or self._pulse.done():
                self._pulse = asyncio.create_task(self._feel_pulse(), name=f"pulse of engine {self._engine}")
            raise

    async def _feel_pulse(self) -> None:
        """Kills the child if it no longer serves its own queue; the keeper then starts it again."""
        llama = self._llama
        try:
            await self._child_host().request("GET", "/slots", PULSE_TIMEOUT_S)
        except AnswerTimedOut:
            log.warning("llama.cpp has no pulse and is killed", engine=self._engine)
            if llama is not None:
                llama.kill()
        except EngineError:
            pass  # it is gone already; the keeper knows


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
