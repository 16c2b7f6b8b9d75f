"""One server that speaks OpenAI's `/chat/completions`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final

from reward_server.domain import HEALTHY, Health
from reward_server.engines.base import Answer, ChatMessage, Question
from reward_server.engines.model_host import ModelHost, Sight
from reward_server.engines.openai.options import OpenAIOptions
from reward_server.engines.over_http import chat_completions
from reward_server.engines.over_http.silent_cut import require_whole
from reward_server.errors import EngineError, HostUnreachable, ModelMissing
from reward_server.http.complaints import Addressee, complaint_of, error_for
from reward_server.http.credentials import Secret
from reward_server.http.host import LOOK_TIMEOUT_S, Host, Reply

OLLAMA_SAYS: Final = "Ollama is running"
NOT_PORTABLE: Final = {"maxLength", "minimum", "maximum"}
"""Limits in a JSON schema that some servers refuse. The prompt tells them too, and the judge checks the answer."""


@dataclass(frozen=True, slots=True)
class _Manners:
    """What kind of server it is, as far as that matters."""

    is_ollama: bool
    counts_tokens: bool  # as vLLM does


@dataclass(frozen=True, slots=True)
class _Served:
    """What a server tells of a model, beside its name."""

    root: str | None = None  # what was loaded
    context_tokens: int | None = None


class OpenAIHost(ModelHost):
    """Answers questions by a model on one server that speaks OpenAI's API.

    Args:
        engine: the engine's name in the configuration.
        url: the base URL.
        options: of the engine.
        key: the API key.
    """

    def __init__(self, engine: str, url: str, options: OpenAIOptions, key: Secret) -> None:
        super().__init__(f"engine `{engine}` ({url})", options.slots)
        self.url = url
        self._engine, self._options, self._key = engine, options, key
        self._to = Addressee(
            self.label,
            options.model,
            model_mend=f"Mend engines.{engine}.model",
            token_mend=f"engines.{engine}.api_key_env",
        )
        self._root = url.removesuffix("/v1")
        self._prefix = url.removeprefix(self._root)
        self.context_tokens: int | None = None  # as the server tells it; None = it does not, or was not asked yet
        self._manners: _Manners | None = None  # None = not looked at yet
        self._host: Host | None = None

    async def open(self) -> None:
        """Makes the client. Raises `ConfigError` where the key can't be read."""
        mend = f"Start the server there, or mend engines.{self._engine}.url"
        self._host = Host(self.label, self._root, mend=mend, headers=self._key.bearer_header())
        self._host.open()

    async def close(self) -> None:
        """Closes all connections."""
        host, self._host = self._host, None
        if host is not None:
            await host.close()

    async def look(self) -> Sight:
        """Asks for the models there are. Servers that keep no such list answer 404, which says no more than that.

        The digest is the root that vLLM tells: what it loaded under the name. Others tell no more than the name.
        """
        models = await self._request("GET", f"{self._prefix}/models")
        if models.status not in (HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED):
            raise error_for(self._to, models.status, complaint_of(models))
        listed = _listed(models)
        if listed and self._options.model not in listed:
            raise ModelMissing(
                f"{self.label}: it has no model `{self._options.model}` (it has: {', '.join(list(listed)[:20])}). "
                f"{self._to.model_mend}"
            )
        if self._manners is None:
            self._manners = await self._learn_manners()
        served = listed.get(self._options.model, _Served())
        self.context_tokens = served.context_tokens
        return Sight(served.root, self._caution() if self._manners.is_ollama else HEALTHY)

    async def send(self, question: Question, timeout_s: float) -> Answer:
        """Gets one question answered now, or raises an `EngineError` within `timeout_s`."""
        reply = await self._request("POST", f"{self._prefix}/chat/completions", self._body(question), timeout_s)
        answer = chat_completions.read(reply, self._to)
        mend = "Load the model with a longer context there; for an Ollama use the engine `ollama`"
        require_whole(question.messages, answer, self.label, mend)
        return answer

    async def count_tokens(self, messages: Sequence[ChatMessage]) -> int | None:
        """Returns how many tokens a prompt has, template included; None where the server can't tell."""
        if self._manners is None or not self._manners.counts_tokens:
            return None
        try:
            return _counted(await self._request("POST", "/tokenize", self._count_body(messages)))
        except EngineError:
            return None  # whoever asks the question itself hears what is wrong

    async def _learn_manners(self) -> _Manners:
        """Finds out whether it is an Ollama, and whether it counts tokens."""
        root = await self._request("GET", "/")
        counted = await self._request("POST", "/tokenize", self._count_body((ChatMessage("user", "How long?"),)))
        return _Manners(root.text().startswith(OLLAMA_SAYS), _counted(counted) is not None)

    def _caution(self) -> Health:
        """Warns of an Ollama: its OpenAI endpoint cuts a prompt that is too long and says nothing."""
        return Health(
            serving=True,
            reason=f"{self.label}: this is an Ollama, whose OpenAI endpoint cuts long prompts in silence: "
            f"use `engines.{self._engine}: {{ollama: {{url: …, model: {self._options.model}}}}}`",
        )

    async def _request(self, method: str, path: str, body: Any = None, timeout_s: float = LOOK_TIMEOUT_S) -> Reply:
        if self._host is None:
            raise HostUnreachable(f"{self.label}: not started, or closed already")
        return await self._host.request(method, path, timeout_s, body)

    def _body(self, question: Question) -> dict[str, Any]:
        body = {
            **self._options.options,
            **chat_completions.body(question, self._options.top_logprobs),
            "model": self._options.model,
            self._options.token_limit: max(1, question.max_tokens),
        }
        if question.schema is not None and self._options.structured == "json_schema":
            body["response_format"] = chat_completions.schema_format(portable(question.schema))
        elif question.schema is not None and self._options.structured == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    def _count_body(self, messages: Sequence[ChatMessage]) -> dict[str, Any]:
        """Returns vLLM's request for the count of a prompt's tokens."""
        template = {
            key: self._options.options[key] for key in ("chat_template_kwargs",) if key in self._options.options
        }
        return {"model": self._options.model, "messages": chat_completions.wire_messages(messages), **template}


def portable(schema: Any) -> Any:
    """Returns the schema without the limits that some servers refuse."""
    if isinstance(schema, Mapping):
        return {key: portable(value) for key, value in schema.items() if key not in NOT_PORTABLE}
    if isinstance(schema, list):
        return [portable(value) for value in schema]
    return schema


def _listed(reply: Reply) -> dict[str, _Served]:
    """Returns what is told of each model in a list of models, nothing where the reply is no such list."""
    try:
        return {str(model["id"]): _served(model) for model in json.loads(reply.text())["data"]}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}


def _served(model: Mapping[str, Any]) -> _Served:
    longest = model.get("max_model_len")  # as vLLM tells it
    known = isinstance(longest, int) and not isinstance(longest, bool) and longest > 0
    return _Served(str(model["root"]) if model.get("root") else None, longest if known else None)


def _counted(reply: Reply) -> int | None:
    """Returns the count in an answer to `/tokenize`, None where the server knows no such thing."""
    if reply.status != HTTPStatus.OK:
        return None
    try:
        count = json.loads(reply.text())["count"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return count if isinstance(count, int) and not isinstance(count, bool) and count > 0 else None
