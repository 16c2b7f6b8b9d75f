"""The engine `ollama`: a judge's model on an Ollama host, through its own API.

Answers come from `/api/chat` by httpx, because the official client's `chat` can't send `truncate` and `shift`, without
which Ollama cuts a prompt that is too long in silence, and has no time limit of its own. The official client is used
for what it does well: which models there are, what a model is, and fetching one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final, Literal

import httpx
import ollama
from pydantic import Field, field_validator

from reward_server.domain import HEALTHY, Health
from reward_server.engines import ollama_answers
from reward_server.engines.base import PullProgress, Question
from reward_server.engines.complaints import Addressee, complaint_in, error_for, excerpt
from reward_server.engines.credentials import Secret, http_url
from reward_server.engines.host import CONNECT_TIMEOUT_S, Host, proxies_apply
from reward_server.engines.hosted import CHECK_TIMEOUT_S, HostedEngine, Said
from reward_server.errors import EngineError, HostFailed, HostRefused, HostUnreachable, ModelMissing
from reward_server.options import Options

PULL_SILENCE_S: Final = 600.0
"""While it verifies a large model a host says nothing for minutes."""
FRESH_S: Final = 5.0
"""Somebody may pull another model under the same name at any time; one cheap request tells."""

OWN_OPTIONS: Final = {
    "num_ctx": "set `context_tokens`",
    "num_predict": "it is the judge's `max_answer_tokens`",
    "temperature": "set the judge's `temperature`",
    "seed": "it changes with every attempt",
}


class OllamaOptions(Options):
    """Options of the engine `ollama`.

    `context_tokens` and `options` are the load profile: one per engine, the same for every question, because a host
    loads its model again whenever they change.
    """

    shorthand: ClassVar[str | None] = "model"

    model: str = Field(min_length=1, description="the model's name as `ollama list` shows it, such as qwen3:8b")
    url: str = Field("http://127.0.0.1:11434", description="where Ollama listens")
    context_tokens: int = Field(4096, ge=256, description="context to load the model with, prompt and answer together")
    think: bool | Literal["low", "medium", "high"] = Field(
        default=False, description="let a thinking model think first"
    )
    keep_alive: int | Annotated[str, Field(pattern=r"^-?(\d+(\.\d+)?(ms|h|m|s))+$")] = Field(
        "30m", description="how long the model stays loaded after a question: 30m, 2h, seconds, or -1 for ever"
    )
    in_flight: int = Field(
        2, ge=1, le=1024, description="questions at the host at a time; OLLAMA_NUM_PARALLEL plus one"
    )
    token_env: str | None = Field(None, description="environment variable with the bearer token of a proxy in front")
    token_file: Path | None = Field(None, description="file with that token")
    options: Mapping[str, Any] = Field({}, description="further options of Ollama, such as top_k or num_thread")

    @field_validator("url")
    @classmethod
    def _has_scheme(cls, url: str) -> str:
        return http_url(url)

    @field_validator("options")
    @classmethod
    def _none_of_ours(cls, options: Mapping[str, Any]) -> Mapping[str, Any]:
        for key, instead in OWN_OPTIONS.items():
            if key in options:
                raise ValueError(f"{key} does not belong here: {instead}")
        return options


class Ollama(HostedEngine):
    """Answers questions by a model on an Ollama host."""

    kind: ClassVar[str] = "ollama"
    Options = OllamaOptions
    fresh_s: ClassVar[float] = FRESH_S

    def __init__(self, name: str, options: OllamaOptions, folder: Path) -> None:
        self._options = options
        super().__init__(name, f"engine `{name}` ({options.url})", options.in_flight, options.context_tokens)
        self._token = Secret(f"engines.{name}", "token", options.token_env, options.token_file, folder)
        self._start_or_mend = f"Start Ollama there, or mend engines.{name}.url"
        self._to = Addressee(
            self.label,
            options.model,
            model_mend=f"Run `reward-server judge pull`, or mend engines.{name}.model",
            token_mend=f"engines.{name}.token_env",
        )
        self._digest: str | None = None
        self._fitting = ("", HEALTHY)  # the digest that was last compared with the options, and the outcome
        self._host: Host | None = None
        self._official: ollama.AsyncClient | None = None

    def identity(self) -> Mapping[str, Any]:
        """Returns model, digest (None until the host has told it), load profile and sampling options."""
        return {
            "engine": self.kind,
            "model": self._options.model,
            "digest": self._digest,
            "context_tokens": self._options.context_tokens,
            "think": self._options.think,
            "options": dict(self._options.options),
        }

    async def pull(self) -> AsyncGenerator[PullProgress, None]:
        """Fetches the configured model to the host; the last progress says "success". Raises an `EngineError`."""
        last = ""
        with self._engine_errors():
            async with self._new_client(PULL_SILENCE_S) as client:
                async for progress in await client.pull(self._options.model, stream=True):
                    last = progress.status or ""
                    yield PullProgress(last, progress.completed, progress.total)
        if last != "success":
            raise HostFailed(f"{self.label}: the pull of `{self._options.model}` ended at {last!r}, without success")

    async def _open(self) -> None:
        headers = self._token.bearer_header()
        self._host = Host(self.label, self._options.url, mend=self._start_or_mend, headers=headers)
        self._host.open()

    async def _close(self) -> None:
        if self._host is not None:
            await self._host.close()
        if self._official is not None:
            await self._official.close()  # type: ignore[no-untyped-call]  # it has no annotations
            self._official = None

    async def _look(self) -> Health:
        """Reads the model's digest; asks what the model can do where the digest is another."""
        if self._official is None:
            self._official = self._new_client(CHECK_TIMEOUT_S)
        with self._engine_errors():
            digest = self._digest_in(await self._official.list())
            if digest != self._fitting[0]:
                self._fitting = (digest, self._fit(await self._official.show(self._options.model)))
        self._digest = digest
        return self._fitting[1]

    async def _send(self, question: Question, timeout_s: float) -> Said:
        if self._host is None:
            raise HostUnreachable(f"{self.label}: not started")
        reply = await self._host.request("POST", "/api/chat", timeout_s, self._body(question))
        return ollama_answers.read(reply, self._to)

    def _body(self, question: Question) -> dict[str, Any]:
        """Returns the request. `truncate` and `shift` are off so that nothing is ever cut in silence."""
        body = {
            "model": self._options.model,
            "messages": [{"role": message.role, "content": message.content} for message in question.messages],
            "stream": False,
            "think": self._options.think,
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
        key, longest = f"engines.{self.name}", _context_length(shown.modelinfo or {})
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

    def _new_client(self, silence_s: float) -> ollama.AsyncClient:
        """Returns the official client, made safe."""
        authorization = self._token.bearer_header().get("authorization")

        async def only_our_token(request: httpx.Request) -> None:
            # The client would send the user's OLLAMA_API_KEY to any host.
            request.headers.pop("authorization", None)
            if authorization:
                request.headers["authorization"] = authorization

        return ollama.AsyncClient(
            host=self._options.url,
            follow_redirects=False,
            timeout=httpx.Timeout(silence_s, connect=CONNECT_TIMEOUT_S),
            trust_env=proxies_apply(self._options.url),
            event_hooks={"request": [only_our_token]},
        )

    @contextmanager
    def _engine_errors(self) -> Iterator[None]:
        """Turns all that the official client can raise into engine errors."""
        try:
            yield
        except EngineError:
            raise
        except ollama.ResponseError as error:
            raise self._refusal(error) from error
        except (ConnectionError, httpx.HTTPError) as error:
            raise HostUnreachable(
                f"{self.label}: no connection ({error.__cause__ or error.__context__ or error or type(error).__name__}). {self._start_or_mend}"
            ) from error
        except (ValueError, TypeError, AttributeError) as error:
            # What the client stumbles over when the answer is not Ollama's: HTML, a list, other fields.
            raise HostRefused(
                f"{self.label}: the answer is not Ollama's ({excerpt(str(error))}). Is something else at this URL? {self._start_or_mend}"
            ) from error

    def _refusal(self, error: ollama.ResponseError) -> EngineError:
        """Returns the engine error for the client's; one inside a stream that began with 200 has the status -1."""
        complaint = complaint_in(error.error)
        if error.status_code < 0:
            return HostFailed(f"{self.label}: {complaint.message}")
        return error_for(self._to, error.status_code, complaint)


def _tagged(model: str) -> str:
    """Returns the model's name with its tag: without one Ollama means `latest`."""
    return model if ":" in model.rpartition("/")[2] else f"{model}:latest"


def _context_length(model_info: Mapping[str, Any]) -> int | None:
    """Returns the longest context that the model was made for, in tokens; None where it does not say."""
    length = model_info.get(f"{model_info.get('general.architecture')}.context_length")
    return length if isinstance(length, int) else None
