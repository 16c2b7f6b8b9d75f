"""One Ollama host, through its own API.

Answers come from `/api/chat` by httpx, because the official client's `chat` can't send `truncate` and `shift`, without
which Ollama cuts a prompt that is too long in silence, and has no time limit of its own. The official client is used
for what it does well: which models there are, what a model is, and fetching one (see `ollama_client`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, ClassVar, Final

import ollama

from reward_server.domain import HEALTHY, Health
from reward_server.engines.base import MAX_ALTERNATIVES, Answer, PullProgress, Question
from reward_server.engines.model_host import ModelHost, Sight
from reward_server.engines.ollama import answers
from reward_server.engines.ollama.client import engine_errors, new_client
from reward_server.engines.ollama.options import OllamaOptions
from reward_server.engines.over_http.silent_cut import require_whole
from reward_server.errors import HostFailed, HostUnreachable, ModelMissing
from reward_server.http.complaints import Addressee
from reward_server.http.credentials import Secret
from reward_server.http.host import LOOK_TIMEOUT_S, Host

PULL_SILENCE_S: Final = 600.0
"""While it verifies a large model a host says nothing for minutes."""


class OllamaHost(ModelHost):
    """Answers questions by a model on one Ollama.

    Args:
        engine: the engine's name in the configuration.
        url: where this host listens.
        options: of the engine; the load profile in them is the same for all its hosts.
        token: for a proxy in front.
    """

    digest_may_change: ClassVar[bool] = True

    def __init__(self, engine: str, url: str, options: OllamaOptions, token: Secret) -> None:
        super().__init__(f"engine `{engine}` ({url})", options.slots)
        self.url = url
        self._engine, self._options, self._token = engine, options, token
        self._start_or_mend = f"Start Ollama there, or mend engines.{engine}.url"
        self._to = Addressee(
            self.label,
            options.model,
            model_mend=f"Run `reward-server judge pull`, or mend engines.{engine}.model",
            token_mend=f"engines.{engine}.token_env",
        )
        self._fitting = ("", HEALTHY)  # the digest that was last compared with the options, and the outcome
        self._host: Host | None = None
        self._official: ollama.AsyncClient | None = None

    async def open(self) -> None:
        """Makes the clients. Raises `ConfigError` where the token can't be read."""
        headers = self._token.bearer_header()
        self._host = Host(self.label, self.url, mend=self._start_or_mend, headers=headers)
        self._host.open()
        self._official = new_client(self.url, headers, LOOK_TIMEOUT_S)

    async def close(self) -> None:
        """Closes all connections."""
        host, official = self._host, self._official
        self._host = self._official = None
        if host is not None:
            await host.close()
        if official is not None:
            await official.close()  # type: ignore[no-untyped-call]  # it has no annotations

    async def look(self) -> Sight:
        """Reads the model's digest; asks what the model can do only where the digest is another than before."""
        if self._official is None:
            raise HostUnreachable(f"{self.label}: not started, or closed already")
        with engine_errors(self._to, self._start_or_mend):
            digest = self._digest_in(await self._official.list())
            if digest != self._fitting[0]:
                self._fitting = (digest, self._fit(await self._official.show(self._options.model)))
        return Sight(digest, self._fitting[1])

    async def send(self, question: Question, timeout_s: float) -> Answer:
        """Gets one question answered now, or raises an `EngineError` within `timeout_s`."""
        if self._host is None:
            raise HostUnreachable(f"{self.label}: not started, or closed already")
        reply = await self._host.request("POST", "/api/chat", timeout_s, self._body(question))
        answer = answers.read(reply, self._to)
        mend = "It does not know `truncate: false`: run a newer Ollama there"
        require_whole(question.messages, answer, self.label, mend)
        return answer

    async def pull(self) -> AsyncGenerator[PullProgress, None]:
        """Fetches the configured model; the last progress says "success". Needs no `open`. Raises an `EngineError`."""
        last = ""
        with engine_errors(self._to, self._start_or_mend):
            async with new_client(self.url, self._token.bearer_header(), PULL_SILENCE_S) as client:
                async for progress in await client.pull(self._options.model, stream=True):
                    last = progress.status or ""
                    yield PullProgress(last, progress.completed, progress.total, self.url)
        if last != "success":
            raise HostFailed(f"{self.label}: the pull of `{self._options.model}` ended at {last!r}, without success")

    def _body(self, question: Question) -> dict[str, Any]:
        """Returns the request. `truncate` and `shift` are off so that nothing is ever cut in silence."""
        body = {
            "model": self._options.model,
            "messages": [{"role": message.role, "content": message.content} for message in question.messages],
            "stream": False,
            "think": self._options.think,  # always said: a thinking model thinks where nothing is
            "truncate": False,
            "shift": False,
            "keep_alive": self._options.keep_alive,
            "options": {
                **self._options.options,
                "num_ctx": self._options.context_tokens,
                "num_predict": max(1, question.max_tokens),  # 0 means without limit
                "temperature": question.temperature,
                "seed": question.seed,
            },
        }
        if question.schema is not None:
            body["format"] = question.schema
        if question.alternatives > 0:
            body |= {"logprobs": True, "top_logprobs": min(question.alternatives, MAX_ALTERNATIVES)}
        return body

    def _digest_in(self, models: ollama.ListResponse) -> str:
        """Returns the digest of the configured model, or raises `ModelMissing` with what there is."""
        wanted = _tagged(self._options.model)
        for model in models.models:
            if model.model is not None and _tagged(model.model) == wanted and model.digest:
                return model.digest
        there = ", ".join(sorted(model.model or "?" for model in models.models)) or "none"
        raise ModelMissing(
            f"{self.label}: it has no model `{self._options.model}` (it has: {there}). {self._to.model_mend}"
        )

    def _fit(self, shown: ollama.ShowResponse) -> Health:
        """Compares what is configured with what the model can do."""
        key, longest = f"engines.{self._engine}", _context_length(shown.modelinfo or {})
        if longest is not None and self._options.context_tokens > longest:
            return Health(
                serving=False,
                reason=f"{self.label}: context_tokens {self._options.context_tokens} is more than the {longest} of "
                f"`{self._options.model}`, and Ollama would cut it down in silence: set {key}.context_tokens to at most {longest}",
            )
        abilities = shown.capabilities or []
        if abilities and "completion" not in abilities:
            return Health(
                serving=False,
                reason=f"{self.label}: `{self._options.model}` writes no text (it is for {', '.join(abilities)})",
            )
        if self._options.think and abilities and "thinking" not in abilities:
            return Health(
                serving=False, reason=f"{self.label}: `{self._options.model}` does not think: set {key}.think to false"
            )
        return HEALTHY


def _tagged(model: str) -> str:
    """Returns the model's name with its tag: without one Ollama means `latest`."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _context_length(model_info: Mapping[str, Any]) -> int | None:
    """Returns the longest context that the model was made for, in tokens; None where it does not say."""
    length = model_info.get(f"{model_info.get('general.architecture')}.context_length")
    return length if isinstance(length, int) else None
